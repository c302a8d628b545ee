//! `taskgrant inspect`: what a token says, what is left of it, and whether it is wider than its parent.

mod compare;
mod report;

use std::io::Read;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use self::report::{Report, Signature};
use super::token;
use crate::clock::Clock;
use crate::dev::file::DevFile;
use crate::domain::json;
use crate::keys::jwks::JwkSet;
use crate::keys::jws::Jws;
use crate::terminal::http::Http;
use crate::terminal::output::{Exit, Output};

/// Show what a token says, who acts for whom, what is left of it, and whether it is wider than its parent.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The token: `-` for standard input, a file, or the token itself (which then stays in the shell's history).
    pub token: String,
    /// The token that it was narrowed from, to compare with: `-`, a file, or the token itself.
    #[arg(long, value_name = "TOKEN")]
    pub parent: Option<String>,
    /// Keys to verify the signature with: a URL or a file. In a demo they are known.
    #[arg(long, value_name = "URL|FILE")]
    pub jwks: Option<String>,
    /// What a running `taskgrant dev` wrote.
    #[arg(long, default_value = ".taskgrant/dev.json", value_name = "FILE")]
    pub dev_file: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Inspects the token. Refused: the signature is wrong, or the token is wider than the parent.
pub async fn run(
    args: &Args,
    clock: &dyn Clock,
    stdin: &mut (dyn Read + Send),
    output: &mut Output<'_>,
) -> Exit {
    match inspect(args, clock, stdin).await {
        Ok(report) => {
            if args.json {
                output.json(&report);
            } else {
                report.print(output);
            }
            if report.is_sound() { Exit::Done } else { Exit::Refused }
        }
        Err(why) => {
            output.complain(&format!("taskgrant inspect: {why}"));
            Exit::Usage
        }
    }
}

async fn inspect(args: &Args, clock: &dyn Clock, stdin: &mut (dyn Read + Send)) -> Result<Report, String> {
    if args.token == "-" && args.parent.as_deref() == Some("-") {
        return Err("only one of the tokens can be on standard input".to_owned());
    }
    let compact = token::read(&args.token, stdin)?;
    let parent = args.parent.as_ref().map(|place| token::read(place, stdin)).transpose()?;
    let claims = claims(&compact)?;
    let parent = parent.map(|compact| self::claims(&compact)).transpose()?;
    let signature = signature(args, &compact, &claims).await?;
    let comparison = parent.map(|parent| compare::compare(&parent, &claims)).transpose()?;
    Ok(Report::new(claims, signature, comparison, clock.now()))
}

/// The claims as they stand there: nobody has vouched for them.
pub(super) fn claims(compact: &str) -> Result<Map<String, Value>, String> {
    Jws::parse(compact).map_err(|fault| format!("this is no signed token: {fault}"))?;
    let payload = compact.split('.').nth(1).unwrap_or_default();
    let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|why| why.to_string())?;
    json::object(&payload).map_err(|fault| fault.to_string())
}

/// Whether the signature is right, by the keys at hand.
async fn signature(args: &Args, compact: &str, claims: &Map<String, Value>) -> Result<Signature, String> {
    let iss = claims.get("iss").and_then(Value::as_str).unwrap_or_default();
    let Some(place) = args.jwks.clone().or_else(|| demo_keys(&args.dev_file, iss)) else {
        return Ok(Signature::NotVerified);
    };
    let keys = if place.starts_with("http://") || place.starts_with("https://") {
        let http = Http::new().map_err(|why| why.to_string())?;
        http.get(&place).await.map_err(|why| why.to_string())?.body.to_string()
    } else {
        std::fs::read_to_string(&place).map_err(|why| format!("cannot read keys from `{place}`: {why}"))?
    };
    let keys = JwkSet::parse(keys.as_bytes()).map_err(|fault| format!("`{place}`: {fault}"))?;
    let jws = Jws::parse(compact).map_err(|fault| fault.to_string())?;
    let told = jws.unverified();
    let candidates = keys.find(told.kid, told.algorithm);
    Ok(match jws.verify_any(&candidates) {
        Ok(_) => Signature::Verified { keys: place },
        Err(fault) => Signature::Wrong { keys: place, why: fault.to_string() },
    })
}

/// Where a demo that runs here has the keys of `iss`, if it is the demo's.
fn demo_keys(dev_file: &Path, iss: &str) -> Option<String> {
    let demo = DevFile::read(dev_file).ok()?;
    let provider = &demo.identity_provider.issuer;
    if demo.issuer == iss {
        Some(demo.jwks_uri)
    } else {
        (provider == iss).then(|| format!("{provider}/jwks"))
    }
}
