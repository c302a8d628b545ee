//! Reads tokens, one a line, and tells of each whether a service may accept it:
//! `verifier ISSUER AUDIENCE TENANT SCOPE ACTOR`.

mod keys;
mod status;
mod verify;

use std::io::{BufRead as _, Write as _};
use std::time::{SystemTime, UNIX_EPOCH};

use keys::Keys;
use status::StatusLists;
use verify::Expected;

/// Why a token is refused, or why nobody can tell.
type Fault = Box<dyn std::error::Error>;

fn main() -> Result<(), Fault> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [issuer, audience, tenant, scope, actor] = &arguments[..] else {
        return Err("usage: verifier ISSUER AUDIENCE TENANT SCOPE ACTOR".into());
    };
    let expected = Expected { issuer, audience, tenant, scope, actors: &[actor] };
    let mut keys = Keys::of(issuer)?;
    let mut lists = StatusLists::of(issuer);
    for token in std::io::stdin().lock().lines() {
        let accepted =
            expected.check(&token?, &mut keys).and_then(|claims| lists.check(&claims.status, &mut keys));
        match accepted {
            Ok(()) => println!("accepted"),
            Err(why) => println!("refused: {why}"),
        }
        std::io::stdout().flush()?;
    }
    Ok(())
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(f64::INFINITY, |now| now.as_secs_f64())
}

/// Gets a small text. A redirect is a fault: nobody else answers for the issuer.
fn get(url: &str, accept: &str) -> Result<String, Fault> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(std::time::Duration::from_secs(5)))
        .max_redirects(0)
        .build()
        .into();
    let mut answer = agent.get(url).header("accept", accept).call()?;
    if answer.status() != 200 {
        return Err(format!("{url} answers {}", answer.status()).into());
    }
    Ok(answer.body_mut().with_config().limit(1 << 20).read_to_string()?)
}
