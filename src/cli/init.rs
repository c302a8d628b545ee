//! `taskgrant init`: a working set of files for one identity provider, to start from.

mod files;
mod provider;

use std::path::PathBuf;

use clap::Args;
use ring::rand::SecureRandom;

use self::files::{Filled, Written};
use crate::clock::Clock;
use crate::configuration::apply::secrets::FreshSecret;
use crate::issuers::outbound::OutboundPolicy;
use crate::terminal::output::{Exit, Output};

/// Writes a commented working set for one identity provider: `taskgrant.toml`, a tenant, the trusted issuer, one agent, one
/// resource, one task type, the policy `base` with its tests, and JSON Schemas for editors. Nothing is overwritten.
///
/// The agent's secret is printed once and stored nowhere: the files hold its hash.
#[derive(Args, Clone, Debug)]
pub struct InitArgs {
    /// The identity provider's issuer URL, character by character as in `iss`. It is asked for its keys.
    #[arg(long, value_name = "URL")]
    pub issuer: String,
    /// Where to write; made if it is missing.
    #[arg(long, value_name = "DIR", default_value = "taskgrant")]
    pub dir: PathBuf,
    /// This server's own URL, the `iss` of its tokens: https, or http on loopback for a trial.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub public_url: String,
    /// Name of the tenant.
    #[arg(long, value_name = "NAME", default_value = "main")]
    pub tenant: String,
    /// The application that people sign in to, by its client id at the provider.
    #[arg(long, value_name = "ID", default_value = "my-application")]
    pub client: String,
    /// The group of people who may delegate, as the token's claim `groups` names it.
    #[arg(long, value_name = "NAME", default_value = "agent-users")]
    pub group: String,
    /// Do not ask the provider.
    #[arg(long)]
    pub offline: bool,
    /// The provider's host is at a private address; written to the configuration. May repeat.
    #[arg(long, value_name = "HOST")]
    pub allow_private: Vec<String>,
    /// The provider speaks plain HTTP on loopback, for a trial; written to the configuration.
    #[arg(long)]
    pub allow_http_loopback: bool,
}

/// Asks the provider, then writes all files, or none.
pub async fn init(
    args: &InitArgs,
    clock: &dyn Clock,
    random: &dyn SecureRandom,
    output: &mut Output<'_>,
) -> Exit {
    match set_up(args, clock, random, output).await {
        Ok(()) => Exit::Done,
        Err(why) => {
            output.complain(&format!("taskgrant init: {why}"));
            Exit::Refused
        }
    }
}

async fn set_up(
    args: &InitArgs,
    clock: &dyn Clock,
    random: &dyn SecureRandom,
    output: &mut Output<'_>,
) -> Result<(), String> {
    let fresh = FreshSecret::new(random).ok_or("the system has no randomness")?;
    let filled = Filled::new(args, fresh.secret_sha256.clone(), clock.now().date_naive())?;
    // Before the provider is asked: what would not be written needs no answer.
    filled.check_free(&args.dir)?;
    if args.offline {
        output.line("the provider was not asked");
    } else {
        let policy = OutboundPolicy {
            allow_private: args.allow_private.clone(),
            allow_http_loopback: args.allow_http_loopback,
        };
        let found = provider::ask(&args.issuer, policy).await?;
        output.line(&format!("the provider publishes {} usable keys at {}", found.keys, found.jwks_uri));
    }
    let Written(files) = filled.write(&args.dir)?;
    for file in files {
        output.line(&format!("wrote {}", file.display()));
    }
    tell(args, &fresh.secret, output);
    Ok(())
}

fn tell(args: &InitArgs, secret: &str, output: &mut Output<'_>) {
    output.line("");
    output.line("# The secret of `first-agent`, shown this once:");
    output.line(secret);
    output.line("");
    output.line("# Look through the files: what is marked `yours` is a guess. Then:");
    output.line(&format!("cd {}", quoted(&args.dir.display().to_string())));
    output.line("taskgrant config check -f objects");
    output.line("taskgrant apply -f objects");
    output.line("taskgrant serve");
}

/// As a shell takes it.
fn quoted(path: &str) -> String {
    let plain = path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-".contains(&b));
    if plain { path.to_owned() } else { format!("'{}'", path.replace('\'', r"'\''")) }
}
