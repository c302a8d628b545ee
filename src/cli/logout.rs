//! `taskgrant logout`: the token of a login is revoked and forgotten.

use std::path::PathBuf;

use super::login::LONGEST_WHY;
use super::server::{Metadata, secret_of};
use super::stored::Stored;
use super::target::TrustArgs;
use crate::admin::transport::safe_url;
use crate::domain::ids::shown_up_to;
use crate::terminal::http::{Credentials, Http};
use crate::terminal::output::{Exit, Output};

/// Revoke the token that `taskgrant login` has got, and remove its file.
#[derive(Clone, Debug, clap::Args)]
pub struct LogoutArgs {
    /// URL of the admin API.
    #[arg(long, value_name = "URL")]
    pub server: String,
    /// Environment variable with the console's secret, which revokes the token.
    #[arg(long, value_name = "NAME", required_unless_present = "client_secret_file")]
    pub client_secret_env: Option<String>,
    /// File with the console's secret, which group and others may not read.
    #[arg(long, value_name = "FILE", conflicts_with = "client_secret_env")]
    pub client_secret_file: Option<PathBuf>,
    /// Where the token is kept, instead of the user's configuration folder.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Whom it trusts.
    #[command(flatten)]
    pub trust: TrustArgs,
}

/// Revokes and forgets.
pub async fn run(args: &LogoutArgs, output: &mut Output<'_>) -> Exit {
    match logout(args).await {
        Ok(server) => {
            output.line(&format!("signed out at {server}: the token is revoked and forgotten"));
            Exit::Done
        }
        Err(why) => {
            output.complain(&format!("taskgrant logout: {why}"));
            Exit::Refused
        }
    }
}

async fn logout(args: &LogoutArgs) -> Result<String, String> {
    safe_url(&args.server).map_err(|why| format!("--server: {why}"))?;
    let secret = secret_of(args.client_secret_env.as_deref(), args.client_secret_file.as_deref())?;
    let stored = Stored::of(&args.server, args.token_file.as_deref())?;
    let http = Http::safe(&args.trust.authorities()?).map_err(|why| why.to_string())?;
    let metadata = Metadata::of(&stored.issuer, &http).await?;
    let client = Credentials { id: &stored.client_id, secret: &secret };
    let form = [("token", stored.access_token.as_str())];
    let answer = http.post(&metadata.revocation_endpoint, Some(client), form).await;
    let answer = answer.map_err(|why| why.to_string())?;
    if answer.status != 200 {
        let why = answer.text("error_description").unwrap_or("no reason is told");
        let why = shown_up_to(why, LONGEST_WHY);
        return Err(format!("the token is not revoked (status {}): {why}", answer.status));
    }
    stored.remove(args.token_file.as_deref())?;
    Ok(stored.server)
}
