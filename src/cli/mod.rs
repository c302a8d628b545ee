//! The command line: one file per command.

pub mod agent;
pub mod apply;
pub mod approvals;
pub mod bootstrap_admin;
mod config;
mod desk;
pub mod doctor;
pub mod exchange;
pub mod files;
pub mod init;
pub mod inspect;
pub mod keys;
pub mod lockdown;
pub mod login;
pub mod logout;
pub mod migrate;
pub mod plan;
mod policy;
pub mod proposals;
mod report;
pub mod revoke;
pub mod schema;
pub mod secret;
mod serve;
mod server;
pub mod store;
mod stored;
pub mod target;
pub mod task;
mod token;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, Utc};
use clap::{Parser, Subcommand};
use ring::rand::SystemRandom;

use self::apply::{ApplyArgs, Deployment};
use self::plan::PlanArgs;
use self::target::TargetArgs;
use crate::app;
use crate::clock::SystemClock;
use crate::config::{Config, LogConfig};
use crate::dev;
use crate::domain::proposal::TwoPersons;
use crate::store::folder::Location;
use crate::terminal::output::{Exit, Output, colour, on_terminal};

/// OAuth 2.0 authorization server for task capabilities of agents: authority only ever narrows (RFC 8693).
#[derive(Debug, Parser)]
#[command(name = "taskgrant", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server.
    Serve(serve::Args),
    /// Try it: a server with demo users, agents and task types, and a tour of the main job.
    Dev(dev::Args),
    Exchange(Box<exchange::Args>),
    Inspect(inspect::Args),
    Init(init::InitArgs),
    /// Check a deployment without starting it, and show what a session could get.
    Config(config::Args),
    Doctor(doctor::DoctorArgs),
    /// Show what `apply` would change, and what of it widens; the exit status tells CI.
    Plan(PlanArgs),
    /// Apply declarative objects: all of them, or none.
    Apply(ApplyArgs),
    Agent(agent::AgentArgs),
    Keys(keys::KeysArgs),
    Revoke(Box<revoke::Args>),
    Approvals(Box<approvals::ApprovalsArgs>),
    Proposals(Box<proposals::ProposalsArgs>),
    Lockdown(lockdown::LockdownArgs),
    BootstrapAdmin(bootstrap_admin::BootstrapArgs),
    Login(Box<login::LoginArgs>),
    Logout(logout::LogoutArgs),
    Migrate(migrate::MigrateArgs),
    Task(Box<task::TaskArgs>),
    /// Check, test and evaluate policy bundles, and put one in force.
    Policy(policy::Args),
    Schema(schema::SchemaArgs),
    Store(store::StoreArgs),
    /// Make a client secret, and the hash of it that objects hold.
    Secret(secret::SecretArgs),
}

/// Runs the command that the process was started with. 0 = done, 1 = refused or failed, 2 = wrong usage.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(wrong) => return misused(&wrong),
    };
    let clock = || Arc::new(SystemClock);
    match cli.command {
        Command::Serve(args) => serve::run(&args),
        Command::Dev(args) => {
            serve::start_logging(&LogConfig { level: "warn".to_owned(), ..LogConfig::default() });
            on_terminal(|output| dev::run(&args, serve::stopped(), output)).into()
        }
        Command::Exchange(args) => {
            awaited(async |output| exchange::run(&args, &mut std::io::stdin(), output).await)
        }
        Command::Inspect(args) => {
            awaited(async |output| inspect::run(&args, &SystemClock, &mut std::io::stdin(), output).await)
        }
        Command::Init(args) => {
            awaited(async |output| init::init(&args, &SystemClock, &SystemRandom::new(), output).await)
        }
        Command::Config(args) => {
            on_terminal(|output| config::run(&args, &SystemClock, &mut std::io::stdin(), output)).into()
        }
        Command::Doctor(args) => awaited(async |output| doctor::doctor(&args, &SystemClock, output).await),
        Command::Schema(args) => on_terminal(|output| schema::schema(&args, output)).into(),
        Command::Plan(args) => on_terminal(|output| plan(&args, output)).into(),
        Command::Apply(args) => on_terminal(|output| apply(&args, output)).into(),
        Command::Agent(args) => on_terminal(|output| agent(&args, output)).into(),
        Command::Keys(args) => awaited(async |output| keys::run(&args, clock(), output).await),
        Command::Revoke(args) => {
            awaited(async |output| revoke::run(&args, clock(), &mut std::io::stdin(), output).await)
        }
        Command::Approvals(args) => {
            awaited(async |output| approvals::run(&args, clock(), &mut std::io::stdin(), output).await)
        }
        Command::Proposals(args) => awaited(async |output| proposals::run(&args, clock(), output).await),
        Command::Lockdown(args) => awaited(async |output| lockdown::run(&args, clock(), output).await),
        Command::BootstrapAdmin(args) => on_terminal(|output| bootstrap_admin(&args, output)).into(),
        Command::Login(args) => {
            awaited(async |output| login::run(&args, &SystemClock, &mut std::io::stdin(), output).await)
        }
        Command::Logout(args) => awaited(async |output| logout::run(&args, output).await),
        Command::Migrate(args) => awaited(async |output| migrate::run(&args, output).await),
        Command::Store(args) => awaited(async |output| store::run(&args, output).await),
        Command::Task(args) => {
            awaited(async |output| task::run(&args, clock(), &mut std::io::stdin(), output).await)
        }
        Command::Policy(args) => awaited(async |output| policy::run(&args, clock(), output).await),
        Command::Secret(args) => {
            on_terminal(|output| secret::secret(&args, &SystemRandom::new(), output)).into()
        }
    }
}

/// Runs a command that waits for others, to its end.
fn awaited(command: impl AsyncFnOnce(&mut Output<'_>) -> Exit) -> ExitCode {
    on_terminal(|output| with_runtime(output, command)).into()
}

/// Tells what is wrong with the command line, or shows the help that it asked for.
///
/// Of `plan` the status is 1: there 2 says that something would change, and CI must not take a typing error for it.
fn misused(wrong: &clap::Error) -> ExitCode {
    // Nothing is left to be done if the terminal is gone.
    let _ = wrong.print();
    let plans = std::env::args_os().nth(1).is_some_and(|command| command == "plan");
    match wrong.exit_code() {
        0 => ExitCode::SUCCESS,
        _ if plans => Exit::Refused.into(),
        _ => Exit::Usage.into(),
    }
}

fn plan(args: &PlanArgs, output: &mut Output<'_>) -> Exit {
    let deployment = match deployment(&args.target) {
        Ok(deployment) => deployment,
        Err(fault) => {
            output.complain(&fault);
            return Exit::Refused;
        }
    };
    with_runtime(output, async |output| {
        let clock = Arc::new(SystemClock);
        plan::plan(args, &deployment, clock, &mut std::io::stdin(), (output, colour())).await
    })
}

fn agent(args: &agent::AgentArgs, output: &mut Output<'_>) -> Exit {
    let command = args.secret();
    let deployment = match deployment(&command.args().target) {
        Ok(deployment) => deployment,
        Err(fault) => {
            output.complain(&fault);
            return Exit::Usage;
        }
    };
    with_runtime(output, async |output| agent::run(command, &deployment, Arc::new(SystemClock), output).await)
}

fn apply(args: &ApplyArgs, output: &mut Output<'_>) -> Exit {
    let deployment = match deployment(&args.target) {
        Ok(deployment) => deployment,
        Err(fault) => {
            output.complain(&fault);
            return Exit::Usage;
        }
    };
    with_runtime(output, async |output| {
        let clock = Arc::new(SystemClock);
        apply::apply(args, &deployment, clock, &mut std::io::stdin(), output).await
    })
}

/// Runs a command that waits for others, on this thread.
fn with_runtime(output: &mut Output<'_>, command: impl AsyncFnOnce(&mut Output<'_>) -> Exit) -> Exit {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(command(output)),
        Err(fault) => {
            output.complain(&fault.to_string());
            Exit::Refused
        }
    }
}

fn bootstrap_admin(args: &bootstrap_admin::BootstrapArgs, output: &mut Output<'_>) -> Exit {
    let deployment = match local(&args.config) {
        Ok(deployment) => deployment,
        Err(fault) => {
            output.complain(&fault);
            return Exit::Usage;
        }
    };
    with_runtime(output, async |output| {
        bootstrap_admin::run(args, &deployment, Arc::new(SystemClock), output).await
    })
}

fn deployment(target: &TargetArgs) -> Result<Deployment, String> {
    let Some(remote) = target.remote()? else { return local(&target.config) };
    let (location, admin_socket, own_issuer) = (Location::Memory, PathBuf::new(), String::new());
    let two_persons = TwoPersons::default();
    Ok(Deployment { location, admin_socket, own_issuer, two_persons, remote: Some(remote) })
}

fn local(config: &Path) -> Result<Deployment, String> {
    let config = Config::read(config).map_err(|fault| fault.to_string())?;
    let location = app::location(&config).map_err(|fault| fault.to_string())?;
    let admin_socket = config.admin_socket();
    let (own_issuer, two_persons) = (config.public_url, config.admin.two_persons);
    Ok(Deployment { admin_socket, own_issuer, two_persons, location, remote: None })
}

/// An instant as commands tell it.
fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}
