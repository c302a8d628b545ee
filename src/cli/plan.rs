//! `taskgrant plan`: what an apply would change, for people and for CI.

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::apply::{Deployment, send};
use super::desk::unanswered;
use super::target::TargetArgs;
use super::{files, report};
use crate::admin::api::{ApplyRequest, Refused};
use crate::clock::Clock;
use crate::configuration::apply::Options;
use crate::terminal::output::{Exit, Output};

/// Shows what `apply` would change, object by object and field by field, and which of it widens what is allowed.
/// Nothing is changed and nothing is recorded.
///
/// Exit status: 0 nothing to do, 2 changes, 3 changes that widen, 1 anything else.
#[derive(Args, Clone, Debug)]
pub struct PlanArgs {
    /// A file, a folder of `.yaml` and `.yml` files at any depth, or `-` for standard input; may be repeated.
    #[arg(short = 'f', long = "filename", value_name = "DIR|FILE|-", required = true)]
    pub filename: Vec<PathBuf>,
    /// Which server.
    #[command(flatten)]
    pub target: TargetArgs,
    /// Show also what `apply --prune` would retire: the objects that no file declares.
    #[arg(long)]
    pub prune: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Plans what `args` name against `deployment`: asks its server, or looks for itself where none runs.
pub async fn plan(
    args: &PlanArgs,
    deployment: &Deployment,
    clock: Arc<dyn Clock>,
    stdin: &mut (dyn Read + Send),
    (output, colour): (&mut Output<'_>, bool),
) -> Exit {
    let options = Options { dry_run: true, prune: args.prune, ..Options::default() };
    let answer = match files::read(&args.filename, stdin) {
        Ok(documents) => send(ApplyRequest { documents, options }, deployment, clock).await,
        Err(faults) => Ok(Err(Refused::faulty(faults))),
    };
    match answer {
        Ok(Ok(planned)) => report::planned(&planned.plan, args.json, output, colour),
        Ok(Err(refused)) => report::refused(&refused, args.json, output),
        Err(failure) => unanswered(&failure, args.json, output),
    }
}
