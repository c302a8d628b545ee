//! How long it takes to decide again what was recorded, by another bundle. Nothing that is timed is asserted.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use taskgrant::clock::{Clock as _, SystemClock};
use taskgrant::replay::{Order, Source, replay};

use crate::drive::{OPERATIONS, OWN, Server, drive};
use crate::world::{Idp, Outcome, authorization, objects};

/// The bundle of the candidate; all of its folders are starters.
const CANDIDATE: [&str; 3] = ["base", "support", "guardrails"];

/// Makes `count` exchanges, each recorded with its input, and decides them again.
pub(crate) async fn run(out: &mut impl Write, idp: &Idp, count: usize) -> Outcome<()> {
    let server = Server::start(objects(&idp.issuer, OWN, 10), "").await?;
    let agent = &authorization();
    let mut made = 0;
    while made < count {
        let more = OPERATIONS.min(count - made);
        drive(&server.router, agent, idp.requests(OWN, more)?).await?;
        made += more;
    }
    let policies = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    let folders: Vec<PathBuf> = CANDIDATE.map(|name| policies.join(name)).into();
    let order = Order {
        base: None,
        candidate: Source::Folders(folders),
        since: None,
        until: SystemClock.now() + chrono::TimeDelta::minutes(1),
        tenant: None,
        task_type: None,
        examples: 5,
    };
    let began = Instant::now();
    let told = replay(&server.app.store, &order).await?.tally;
    let took = began.elapsed();
    if usize::try_from(told.replayed)? != count {
        return Err(format!("{} of {count} were decided again", told.replayed).into());
    }
    let what = format!("replay of {count} recorded decisions");
    let cores = std::thread::available_parallelism()?;
    Ok(writeln!(
        out,
        "{what:<48} {took:.1?} on {cores} cores, {} changed (goal: 100000 in 30 s on 2)",
        told.changed
    )?)
}
