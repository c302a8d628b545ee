//! Which server a command of an admin is for: the one that a configuration on this machine configures, or one elsewhere.

use std::path::PathBuf;

use super::stored::Stored;
use crate::admin::authorities::Authorities;
use crate::admin::client::AdminClient;
use crate::config::CA_FILE;
use crate::domain::request::Presented;

/// The options that name a server to an admin.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct TargetArgs {
    /// The server's configuration.
    #[arg(long, value_name = "FILE", default_value = "taskgrant.toml")]
    pub config: PathBuf,
    /// A server's admin API over HTTPS instead, for which `taskgrant login` has got a token.
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// File of that token, where it is not the usual one.
    #[arg(long, value_name = "FILE", requires = "server")]
    pub token_file: Option<PathBuf>,
    /// Whom it trusts.
    #[command(flatten)]
    pub trust: TrustArgs,
}

/// The option that says whom a command trusts that goes to another machine's server.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct TrustArgs {
    /// Certificates, in PEM, of authorities to trust beside the public ones; those of `$TASKGRANT_CA_FILE` if left out.
    #[arg(long, value_name = "FILE", requires = "server")]
    pub ca_file: Option<PathBuf>,
}

impl TrustArgs {
    /// The authorities beside the public ones.
    pub(super) fn authorities(&self) -> Result<Authorities, String> {
        let set = || std::env::var_os(CA_FILE).filter(|file| !file.is_empty()).map(PathBuf::from);
        let (name, file) = match &self.ca_file {
            Some(file) => ("--ca-file", Some(file.clone())),
            None => (CA_FILE, set()),
        };
        let Some(file) = file else { return Ok(Authorities::default()) };
        Authorities::read(&file).map_err(|why| format!("{name}: {why}"))
    }
}

/// The options of a command that asks a server: which one, and how its answer is printed.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct Common {
    #[command(flatten)]
    pub(super) target: TargetArgs,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

impl TargetArgs {
    /// The server over HTTPS, if one is named.
    pub(super) fn remote(&self) -> Result<Option<AdminClient>, String> {
        let Some(url) = &self.server else { return Ok(None) };
        let stored = Stored::of(url, self.token_file.as_deref())?;
        let (token, more) = (Presented::from_text(stored.access_token), self.trust.authorities()?);
        let client = AdminClient::remote(&stored.server, token, &more);
        client.map(Some).map_err(|fault| fault.to_string())
    }
}
