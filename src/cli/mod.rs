//! The command line: one file per command.

mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

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
}

/// Runs the command that the process was started with. 0 = done, 1 = refused or failed, 2 = wrong usage.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Command::Serve(args) => serve::run(&args),
    }
}
