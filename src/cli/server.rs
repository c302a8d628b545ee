//! Which server a command of an agent asks, and as whom.

use std::path::{Path, PathBuf};

use crate::dev::file::DevFile;
use crate::dev::private;
use crate::domain::built_in::ADMIN_ENDPOINT;
use crate::domain::ids::shown;
use crate::terminal::http::Http;

/// The options that name a server and an agent.
#[derive(Clone, Debug, clap::Args)]
pub struct ServerArgs {
    /// What a running `taskgrant dev` wrote.
    #[arg(long, default_value = ".taskgrant/dev.json", value_name = "FILE")]
    pub dev_file: PathBuf,
    /// Another server, by its issuer URL: its metadata names the token endpoint.
    #[arg(long, value_name = "URL", help_heading = "Another server")]
    pub issuer: Option<String>,
    /// Its token endpoint, where the metadata shall not be asked.
    #[arg(long, value_name = "URL", help_heading = "Another server")]
    pub token_endpoint: Option<String>,
    /// The agent that asks; in the demo the first one unless told otherwise.
    #[arg(long, value_name = "ID")]
    pub client_id: Option<String>,
    /// Environment variable with the agent's secret; the demo's are known.
    #[arg(long, value_name = "NAME")]
    pub client_secret_env: Option<String>,
}

impl ServerArgs {
    /// Whether an agent, or a server for agents, is named.
    pub(super) fn names_agent(&self) -> bool {
        self.client_id.is_some() || self.issuer.is_some()
    }
}

/// The server to ask, and who asks.
pub(super) struct Server {
    pub(super) issuer: Option<String>,
    pub(super) token_endpoint: String,
    pub(super) client_id: String,
    pub(super) client_secret: String,
    pub(super) demo: Option<DevFile>,
}

impl Server {
    /// The server that `args` name, or the demo that runs here.
    pub(super) async fn find(args: &ServerArgs, http: &Http) -> Result<Self, String> {
        let token_endpoint = match (&args.token_endpoint, &args.issuer) {
            (None, None) => return Self::demo(args),
            (Some(endpoint), _) => endpoint.clone(),
            (None, Some(issuer)) => Metadata::of(issuer, http).await?.token_endpoint,
        };
        let missing = |option: &str| format!("another server needs {option}");
        let client_id = args.client_id.clone().ok_or_else(|| missing("--client-id"))?;
        let client_secret = secret(args)?.ok_or_else(|| missing("--client-secret-env"))?;
        Ok(Self { issuer: args.issuer.clone(), token_endpoint, client_id, client_secret, demo: None })
    }

    fn demo(args: &ServerArgs) -> Result<Self, String> {
        let demo = DevFile::read(&args.dev_file).map_err(|why| {
            let file = args.dev_file.display();
            format!(
                "no demo runs here (`{file}`: {why}): start `taskgrant dev`, or name a server with --issuer"
            )
        })?;
        let known: Vec<&str> = demo.agents.iter().map(|a| a.client_id.as_str()).collect();
        let wanted = args.client_id.as_deref().or(known.first().copied()).unwrap_or_default();
        let agent = demo.agents.iter().find(|a| a.client_id == wanted);
        let client_secret = match (secret(args)?, agent) {
            (Some(given), _) => given,
            (None, Some(agent)) => agent.client_secret.clone(),
            (None, None) => {
                let known = known.join(", ");
                return Err(format!(
                    "the demo has no agent `{wanted}`, only {known}; for yours give --client-secret-env"
                ));
            }
        };
        Ok(Self {
            issuer: Some(demo.issuer.clone()),
            token_endpoint: demo.token_endpoint.clone(),
            client_id: wanted.to_owned(),
            client_secret,
            demo: Some(demo),
        })
    }
}

/// What the metadata of an issuer names (RFC 8414 §2), as far as commands need it.
pub(super) struct Metadata {
    pub(super) token_endpoint: String,
    pub(super) revocation_endpoint: String,
    /// URL of its admin API; none where the server is not told it.
    pub(super) admin_api: Option<String>,
}

impl Metadata {
    /// The metadata of `issuer` (RFC 8414 §3); it must be the issuer's own.
    pub(super) async fn of(issuer: &str, http: &Http) -> Result<Self, String> {
        let split = issuer.find("://").map_or(0, |at| at + 3);
        let path = issuer.get(split..).and_then(|rest| rest.find('/')).map_or(issuer.len(), |at| at + split);
        let (host, path) = issuer.split_at(path);
        let url = format!("{host}/.well-known/oauth-authorization-server{}", path.trim_end_matches('/'));
        let metadata = http.get(&url).await.map_err(|why| why.to_string())?;
        let told = (shown(&url), shown(issuer));
        match (metadata.text("issuer"), metadata.text("token_endpoint")) {
            (Some(named), Some(endpoint)) if named == issuer => Ok(Self {
                token_endpoint: endpoint.to_owned(),
                revocation_endpoint: metadata.text("revocation_endpoint").unwrap_or_default().to_owned(),
                admin_api: metadata.text(ADMIN_ENDPOINT).map(str::to_owned),
            }),
            (Some(named), Some(_)) => {
                let ((url, issuer), named) = (told, shown(named));
                Err(format!("{url} is of the issuer `{named}`, not `{issuer}`"))
            }
            _ => Err(format!("{} is no authorization server metadata (status {})", told.0, metadata.status)),
        }
    }
}

/// A client's secret: from the environment, or a file that is its owner's only.
pub(super) fn secret_of(variable: Option<&str>, file: Option<&Path>) -> Result<String, String> {
    if let Some(name) = variable {
        return from_environment(name);
    }
    let file = file.ok_or("name the client's secret with --client-secret-env or --client-secret-file")?;
    let failed = |why: String| format!("cannot read a secret from `{}`: {why}", file.display());
    let text = private::read(file).map_err(|why| failed(why.to_string()))?;
    match text.as_deref().map(str::trim) {
        Some("") | None => Err(failed("there is none".to_owned())),
        Some(secret) => Ok(secret.to_owned()),
    }
}

#[expect(clippy::disallowed_methods, reason = "the operator names the variable: it is not configuration")]
fn from_environment(name: &str) -> Result<String, String> {
    std::env::var(name).map_err(|_| format!("the environment variable `{name}` is not set, or is no text"))
}

fn secret(args: &ServerArgs) -> Result<Option<String>, String> {
    args.client_secret_env.as_deref().map(from_environment).transpose()
}
