//! `taskgrant config check`: what can be known without starting, and what a session could get at most.

mod ceilings;

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde::Serialize;

use super::files;
use crate::clock::Clock;
use crate::config::Config;
use crate::configuration::check::{self, Finding, SettingsFile, Severity, Subject};
use crate::terminal::output::{Exit, Output};

/// Arguments of `config`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Check(CheckArgs),
}

/// Checks a deployment without starting it: the configuration, the modes of its files, the objects, and the policy with
/// its tests. With --as it shows instead what a session could get at most.
///
/// Exit status: 0 nothing that fails (warnings may be left), 1 something fails, 2 called in the wrong way.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct CheckArgs {
    /// The server's configuration; `TASKGRANT_…` variables override it.
    #[arg(long, value_name = "FILE", default_value = "taskgrant.toml")]
    config: PathBuf,
    /// The objects: a file, a folder of `.yaml` and `.yml` files, or `-` for standard input; may be repeated.
    #[arg(short = 'f', long = "filename", value_name = "DIR|FILE|-")]
    filename: Vec<PathBuf>,
    /// Let what is fine for a trial fail: plain HTTP, loopback and private addresses, demo objects, no TLS.
    #[arg(long)]
    production: bool,
    /// Show the ceilings of a session with these claims: a JSON file, or `-` for standard input. Needs -f and --task-type.
    #[arg(
        long = "as",
        value_name = "CLAIMS.json",
        requires = "task_type",
        requires = "filename",
        help_heading = "What a session could get"
    )]
    claims: Option<PathBuf>,
    /// The kind of task.
    #[arg(long, value_name = "NAME", requires = "claims", help_heading = "What a session could get")]
    task_type: Option<String>,
    /// The agent that asks; one that may, when left out.
    #[arg(long, value_name = "CLIENT_ID", requires = "claims", help_heading = "What a session could get")]
    agent: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What `config check --json` prints.
#[derive(Serialize)]
struct Report {
    ok: bool,
    production: bool,
    objects_checked: bool,
    findings: Vec<Finding>,
}

/// Runs the command.
pub(super) fn run(
    args: &Args,
    clock: &dyn Clock,
    stdin: &mut (dyn Read + Send),
    output: &mut Output<'_>,
) -> Exit {
    let Command::Check(args) = &args.command;
    match &args.claims {
        Some(claims) => ceilings::show(args, claims, stdin, output),
        None => tell(args, findings(args, clock, stdin), output),
    }
}

fn findings(args: &CheckArgs, clock: &dyn Clock, stdin: &mut (dyn Read + Send)) -> Vec<Finding> {
    let settings = settings(&args.config);
    let config = match Config::read(&args.config) {
        Ok(config) => config,
        Err(fault) => return check::unreadable(&settings, &fault),
    };
    let sources = match files::read(&args.filename, stdin) {
        Ok(sources) => sources,
        Err(faults) => {
            let finding = |fault| Finding { severity: Severity::Error, code: "objects", fault };
            return faults.into_iter().map(finding).collect();
        }
    };
    let today = clock.now().date_naive();
    let production = args.production;
    check::check(&Subject { settings, config: &config, sources: &sources, production, today })
}

fn settings(file: &Path) -> SettingsFile {
    // What cannot be read is told by `Config::read`.
    SettingsFile { file: file.display().to_string(), text: std::fs::read_to_string(file).unwrap_or_default() }
}

fn tell(args: &CheckArgs, findings: Vec<Finding>, output: &mut Output<'_>) -> Exit {
    let count = |severity| findings.iter().filter(|f| f.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let exit = if errors == 0 { Exit::Done } else { Exit::Refused };
    if args.json {
        let objects_checked = !args.filename.is_empty();
        output.json(&Report { ok: errors == 0, production: args.production, objects_checked, findings });
        return exit;
    }
    for Finding { severity, code, fault } in &findings {
        let word = match severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        output.line(&format!("{word}: {fault} [{code}]"));
        if let Some(remedy) = &fault.suggestion {
            output.line(&format!("  {remedy}"));
        }
    }
    if args.filename.is_empty() {
        output.line("no objects were checked: name them with -f");
    }
    let verdict = if errors == 0 { "ok" } else { "not ok" };
    let purpose = if args.production { " for production" } else { "" };
    output.line(&format!("{verdict}{purpose}: {errors} to mend, {warnings} to look at"));
    exit
}
