//! `taskgrant policy`: what an admin sees of a bundle before it goes live, and the bundle in force.

mod candidate;
mod data;
mod eval;
mod live;
mod mode;
mod replay;
mod replicas;

use std::path::PathBuf;
use std::sync::Arc;

use clap::Subcommand;

use super::target::Common;
use crate::clock::Clock;
use crate::policy::bundle::Bundle;
use crate::policy::coverage::coverage;
use crate::policy::fault::PolicyFault;
use crate::policy::{check, input, suite};
use crate::terminal::output::{Exit, Output};

/// Arguments of `policy`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Parse and lint a bundle: exit code 1 when it does not pass.
    Check(Folders),
    /// Run the `test_` rules and fixtures of a bundle, each through both engines.
    Test(Folders),
    /// Tell which lines of a bundle its own tests and fixtures never reach.
    Coverage(Coverage),
    /// Decide one input and print the decision; with `--rego` ask any other Rego about any other input.
    Eval(eval::Eval),
    /// Print the JSON Schema of `input`.
    Schema,
    /// Put the bundle of these folders in force, on all replicas. It must compile and pass its own tests.
    Apply(live::Apply),
    /// Read the folders of the configuration again, as SIGHUP does, and put in force what has changed there.
    Reload(Common),
    /// Put a bundle in force that was so before.
    Rollback(live::Rollback),
    /// Try a bundle beside the one in force.
    #[command(subcommand)]
    Candidate(candidate::Command),
    /// Documents that change without the bundle.
    #[command(subcommand)]
    Data(data::Command),
    /// Have the candidate's judgement bite for some principals instead of that of the bundle in force.
    Canary(candidate::SetCanary),
    /// Put the candidate in force, for all.
    Promote(candidate::Promote),
    /// Say whether what policy says bites: for a time it may not.
    Mode(mode::SetMode),
    /// Tell which bundle is in force, which were, what is tried beside it, and what was refused: exit code 1 if something was.
    Status(Common),
    /// Print a bundle that is or was in force.
    Show(live::Show),
    /// Decide the exchanges of the log again by another bundle, and tell what would end otherwise. Nothing is changed.
    ///
    /// Exit status: 0 nothing, 1 something, 2 it cannot be told.
    Replay(replay::Replay),
    /// The same between two bundles, on the same exchanges.
    ///
    /// Exit status: 0 nothing, 1 something, 2 it cannot be told.
    Diff(replay::Diff),
}

#[derive(Debug, clap::Args)]
struct Folders {
    /// Bundle folders, in order; the starter that comes with the binary when left out.
    folders: Vec<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Coverage {
    /// Bundle folders, in order; the starter that comes with the binary when left out.
    folders: Vec<PathBuf>,
    /// Exit with 1 if less than this share of the lines is reached.
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    min: Option<u8>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(super) async fn run(args: &Args, clock: Arc<dyn Clock>, output: &mut Output<'_>) -> Exit {
    let ended = match &args.command {
        Command::Apply(apply) => Ok(live::apply(apply, clock, output).await),
        Command::Reload(common) => Ok(live::reload(common, clock, output).await),
        Command::Rollback(rollback) => Ok(live::rollback(rollback, clock, output).await),
        Command::Candidate(command) => Ok(candidate::candidate(command, clock, output).await),
        Command::Data(command) => Ok(data::run(command, clock, output).await),
        Command::Canary(canary) => Ok(candidate::canary(canary, clock, output).await),
        Command::Promote(promote) => Ok(candidate::promote(promote, clock, output).await),
        Command::Mode(args) => Ok(mode::set(args, clock, output).await),
        Command::Status(common) => Ok(live::status(common, clock, output).await),
        Command::Show(show) => Ok(live::show(show, clock, output).await),
        Command::Replay(args) => Ok(replay::run_replay(args, clock.as_ref(), output).await),
        Command::Diff(args) => Ok(replay::run_diff(args, clock.as_ref(), output).await),
        Command::Check(folders) => run_check(folders, clock.as_ref(), output),
        Command::Test(folders) => run_test(folders, output),
        Command::Eval(args) => eval::run(args, output),
        Command::Coverage(args) => run_coverage(args, output),
        Command::Schema => {
            output.line(input::schema_text().trim_end());
            Ok(Exit::Done)
        }
    };
    ended.unwrap_or_else(|fault| {
        output.complain(&fault.to_string());
        Exit::Refused
    })
}

fn run_check(args: &Folders, clock: &dyn Clock, output: &mut Output<'_>) -> Result<Exit, PolicyFault> {
    let report = check::check(&Bundle::of_folders(&args.folders)?, clock.now().date_naive());
    if args.json {
        output.json(&report);
    } else {
        for finding in &report.findings {
            output.line(&format!("{}: {:?}: {}", finding.at, finding.severity, finding.problem));
        }
        output.line(if report.is_ok() { "ok" } else { "the bundle does not pass" });
    }
    Ok(if report.is_ok() { Exit::Done } else { Exit::Refused })
}

fn run_test(args: &Folders, output: &mut Output<'_>) -> Result<Exit, PolicyFault> {
    let report = suite::test(&Bundle::of_folders(&args.folders)?)?;
    if args.json {
        output.json(&report);
    } else {
        for failed in report.failures() {
            let problem = failed.problem.as_deref().unwrap_or_default();
            output.line(&format!("FAIL {} ({}): {problem}", failed.name, failed.at));
        }
        let failed = report.failures().count();
        output.line(&format!("{} passed, {failed} failed", report.results.len() - failed));
    }
    Ok(if report.is_ok() { Exit::Done } else { Exit::Refused })
}

fn run_coverage(args: &Coverage, output: &mut Output<'_>) -> Result<Exit, PolicyFault> {
    let told = coverage(&Bundle::of_folders(&args.folders)?)?;
    if args.json {
        output.json(&told);
    } else {
        for file in &told.files {
            for line in &file.missed {
                output.line(&format!("{}:{line}: never reached", file.path));
            }
        }
        output.line(&format!("{} of {} lines reached: {} %", told.reached, told.lines, told.percent()));
    }
    let least = usize::from(args.min.unwrap_or(0));
    if told.percent() >= least {
        return Ok(Exit::Done);
    }
    output.complain(&format!("less than {least} %: write tests or fixtures that reach these lines"));
    Ok(Exit::Refused)
}
