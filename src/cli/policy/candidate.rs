//! `taskgrant policy candidate|canary|promote`: a bundle that is tried beside the one in force, and takes its place.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use super::live::{self, at_desk};
use crate::admin::api::Refused;
use crate::admin::policy::{DropCandidate, LoadCandidate, PromoteCandidate};
use crate::admin::socket::Peer;
use crate::cli::desk::{Desk, failed, heard};
use crate::cli::target::Common;
use crate::cli::time;
use crate::clock::Clock;
use crate::configuration::apply::candidate::{CanaryOrder, CandidateChanged, CandidateStatus, KeptCandidate};
use crate::policy::candidate::{Canary, Named};
use crate::policy::comparison::{Comparison, Counts};
use crate::terminal::output::{Exit, Output};

/// Rows of the table of disagreements that are printed; `--json` has them all.
const SHOWN_ROWS: usize = 20;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Have the bundle of these folders judge beside the one in force, as a shadow that changes no answer.
    Load(Load),
    /// End it: the bundle in force decides alone.
    Drop(Drop),
}

#[derive(Debug, clap::Args)]
pub(super) struct Load {
    /// Bundle folders, in order. They must compile and pass their own tests.
    #[arg(required = true)]
    folders: Vec<PathBuf>,
    /// Begin as a shadow also where the candidate so far bites for somebody.
    #[arg(long)]
    shadow: bool,
    /// Why, for the record.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
#[command(disable_version_flag = true)]
pub(super) struct Drop {
    /// Version of the candidate that is meant, or the beginning of it; whichever it is when left out.
    #[arg(long = "version", value_name = "VERSION")]
    bundle: Option<String>,
    /// Why, for the record.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
#[command(disable_version_flag = true)]
pub(super) struct SetCanary {
    /// For how many principals of a hundred the candidate bites, such as `5%`. `0%` alone makes it a shadow again.
    #[arg(value_parser = percent)]
    percent: u8,
    /// Version of the candidate that is meant, or the beginning of it; whichever it is when left out.
    #[arg(long = "version", value_name = "VERSION")]
    bundle: Option<String>,
    /// For whom it bites in any case: `agent:CLIENT_ID`, `group:NAME`, `tenant:NAME`, with commas between. Left out, those who
    /// were; `''` is nobody.
    #[arg(long, value_name = "NAMES")]
    enforce_for: Option<String>,
    /// For whom it bites in no case. Left out, those who were; `''` is nobody.
    #[arg(long, value_name = "NAMES")]
    never_for: Option<String>,
    /// Why, for the record.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
pub(super) struct Promote {
    /// Version of the candidate that is meant, or the beginning of it; whichever it is when left out.
    #[arg(value_name = "VERSION")]
    bundle: Option<String>,
    /// Why, for the record.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    common: Common,
}

fn percent(text: &str) -> Result<u8, String> {
    let digits = text.strip_suffix('%').unwrap_or(text);
    let percent = digits.parse().ok().filter(|percent| *percent <= 100);
    percent.ok_or_else(|| "say a whole number from 0% to 100%".to_owned())
}

/// The names of a list; an empty text is an empty list.
fn named(option: &str, list: Option<&String>) -> Result<Option<BTreeSet<Named>>, String> {
    let Some(list) = list else { return Ok(None) };
    let texts = list.split(',').map(str::trim).filter(|text| !text.is_empty());
    let read = texts.map(|text| text.parse().map_err(|nobody| format!("{option}: {nobody}")));
    read.collect::<Result<_, String>>().map(Some)
}

/// Loads or drops a candidate.
pub(super) async fn candidate(command: &Command, clock: Arc<dyn Clock>, output: &mut Output<'_>) -> Exit {
    match command {
        Command::Load(args) => load(args, clock, output).await,
        Command::Drop(args) => drop(args, clock, output).await,
    }
}

async fn load(args: &Load, clock: Arc<dyn Clock>, output: &mut Output<'_>) -> Exit {
    let files = match live::files_of(&args.folders, clock.as_ref(), output) {
        Ok(files) => files,
        Err(unfit) => return failed(&unfit.to_string(), output),
    };
    let request = LoadCandidate { files, shadow: args.shadow, reason: args.reason.clone() };
    let ask = async |desk: &Desk| match desk {
        Desk::Server(server) => heard(server.load_candidate(&request).await),
        Desk::Folder(folder) => {
            let LoadCandidate { files, shadow, reason } = request.clone();
            let account = Peer::own().account();
            let loaded = folder.configuration.load_candidate(files, shadow, (reason.as_deref(), &account));
            Ok(loaded.await.map_err(Refused::from))
        }
    };
    at_desk(&args.common, clock, output, ask, changed).await
}

async fn drop(args: &Drop, clock: Arc<dyn Clock>, output: &mut Output<'_>) -> Exit {
    let request = DropCandidate { version: args.bundle.clone(), reason: args.reason.clone() };
    let ask = async |desk: &Desk| match desk {
        Desk::Server(server) => heard(server.drop_candidate(&request).await),
        Desk::Folder(folder) => {
            let DropCandidate { version, reason } = request.clone();
            let account = Peer::own().account();
            let dropped = folder.configuration.drop_candidate(version, &reason, &account).await;
            Ok(dropped.map_err(Refused::from))
        }
    };
    at_desk(&args.common, clock, output, ask, changed).await
}

/// Says for whom the candidate bites.
pub(super) async fn canary(args: &SetCanary, clock: Arc<dyn Clock>, output: &mut Output<'_>) -> Exit {
    let lists = named("--enforce-for", args.enforce_for.as_ref())
        .and_then(|enforce| Ok((enforce, named("--never-for", args.never_for.as_ref())?)));
    let (enforce_for, never_for) = match lists {
        Ok(lists) => lists,
        Err(why) => {
            output.complain(&format!("taskgrant policy canary: {why}"));
            return Exit::Usage;
        }
    };
    let (version, reason) = (args.bundle.clone(), args.reason.clone());
    let request = CanaryOrder { version, percent: args.percent, enforce_for, never_for, reason };
    let ask = async |desk: &Desk| match desk {
        Desk::Server(server) => heard(server.set_canary(&request).await),
        Desk::Folder(folder) => {
            let set = folder.configuration.set_canary(request.clone(), &Peer::own().account()).await;
            Ok(set.map_err(Refused::from))
        }
    };
    at_desk(&args.common, clock, output, ask, changed).await
}

/// Puts the candidate in force.
pub(super) async fn promote(args: &Promote, clock: Arc<dyn Clock>, output: &mut Output<'_>) -> Exit {
    let request = PromoteCandidate { version: args.bundle.clone(), reason: args.reason.clone() };
    let ask = async |desk: &Desk| match desk {
        Desk::Server(server) => heard(server.promote_candidate(&request).await),
        Desk::Folder(folder) => {
            let (version, account) = (request.version.as_deref(), Peer::own().account());
            let promoted = folder.configuration.promote_candidate(version, &request.reason, &account).await;
            Ok(promoted.map_err(Refused::from))
        }
    };
    at_desk(&args.common, clock, output, ask, live::changed).await
}

fn changed(changed: &CandidateChanged, output: &mut Output<'_>) -> Exit {
    let decision = changed.decision_id.map(|id| format!(" (decision {id})"));
    let decision = decision.as_deref().unwrap_or(": nothing to change");
    match &changed.candidate {
        Some(candidate) => {
            output.line(&format!("candidate: {}{decision}", candidate.version));
            output.line(&format!("mode:      {}", mode(&candidate.canary)));
        }
        None => output.line(&format!("no candidate{decision}")),
    }
    if let Some(ended) = &changed.ended {
        output.line(&format!("ended:     {}", ended.version));
        if changed.candidate.is_none() {
            output.line(&format!("forgotten: {}", mode(&ended.canary)));
        }
    }
    Exit::Done
}

/// Mode and lists, for people.
fn mode(canary: &Canary) -> String {
    if canary.is_shadow() {
        format!("shadow: bites for nobody{}", lists(canary))
    } else {
        format!("canary: bites for {}", met(canary))
    }
}

/// For whom a canary bites, and for whom it does not.
pub(super) fn met(canary: &Canary) -> String {
    format!("{} % of the principals{}", canary.percent, lists(canary))
}

fn lists(canary: &Canary) -> String {
    let named = [("always", &canary.enforce_for), ("never", &canary.never_for)];
    let named = named.into_iter().filter(|(_, list)| !list.is_empty());
    let told = named.map(|(when, list)| {
        let list: Vec<_> = list.iter().map(ToString::to_string).collect();
        format!("; {when} for {}", list.join(", "))
    });
    told.collect()
}

/// Tells of the candidate in `policy status`, of a deployment of so many servers.
pub(super) fn told(status: &CandidateStatus, servers: usize, output: &mut Output<'_>) {
    let KeptCandidate { version, since, account, canary } = &status.kept;
    output.line(&format!("candidate:   {version}, since {} ({account})", time(*since)));
    output.line(&format!("mode:        {}", mode(canary)));
    if let Some(problem) = &status.problem {
        output.line(&format!("problem:     it does not run here, and fails on every input: {problem}"));
    }
    if status.paused {
        output.line("paused:      it ran over its limits again and again: here it is asked no more where it does not bite");
    }
    if let Some(total) = status.total.filter(|_| servers > 1) {
        output.line(&format!("seen by all: {}", counted(total)));
    }
    if let Some(seen) = &status.seen {
        seen_here(seen, output);
    }
}

fn counted(counts: Counts) -> String {
    let Counts { compared, agreed, disagreed, enforced, faults } = counts;
    format!("{compared} compared, {agreed} agreed, {disagreed} disagreed, {faults} faults; bit in {enforced}")
}

fn seen_here(seen: &Comparison, output: &mut Output<'_>) {
    output.line(&format!("seen here:   {}; since {}", counted(seen.into()), time(seen.since)));
    if let Some(fault) = &seen.last_fault {
        output.line(&format!("last fault:  {} (decision {})", fault.problem, fault.decision_id));
    }
    for row in seen.disagreements.iter().take(SHOWN_ROWS) {
        let code = if row.reason_code.is_empty() { "-" } else { &row.reason_code };
        let ids = row.decision_ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let (kind, task_type, agent, count) = (row.kind.as_str(), &row.task_type, &row.agent, row.count);
        output.line(&format!("  {count:>6}  {kind}  {code}  {task_type}  {agent}  {ids}"));
    }
    let more = seen.disagreements.len().saturating_sub(SHOWN_ROWS);
    if more > 0 {
        output.line(&format!("  and {more} rows more: --json has them all"));
    }
}
