//! Which server a command of an admin is for: the one that a configuration on this machine configures, or one elsewhere.

use std::path::PathBuf;

use super::stored::Stored;
use crate::admin::client::AdminClient;
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
        let client = AdminClient::remote(&stored.server, Presented::from_text(stored.access_token));
        client.map(Some).map_err(|fault| fault.to_string())
    }
}
