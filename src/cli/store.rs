//! `taskgrant store copy`: from a data folder to PostgreSQL, with nothing lost.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::app;
use crate::config::Config;
use crate::store::copy::{Copied, copy};
use crate::store::folder::Location;
use crate::terminal::output::{Exit, Output};

/// Move a deployment from SQLite to PostgreSQL.
#[derive(Args, Clone, Debug)]
pub struct StoreArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Clone, Debug)]
enum Command {
    Copy(CopyArgs),
}

/// Copies the database of a stopped server's data folder into PostgreSQL: all of it, compared at the end, or nothing. The
/// target must be migrated and unused. The source stays as it is, and the signing keys stay where they are.
#[derive(Args, Clone, Debug)]
struct CopyArgs {
    /// The data folder.
    #[arg(long, value_name = "DATA_FOLDER")]
    from: PathBuf,
    /// The database's URL; that of the configuration when left out, so that no password stands on the command line.
    #[arg(long, value_name = "URL")]
    to: Option<String>,
    /// The configuration that names the database.
    #[arg(long, value_name = "FILE", default_value = "taskgrant.toml")]
    config: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub async fn run(args: &StoreArgs, output: &mut Output<'_>) -> Exit {
    let Command::Copy(args) = &args.command;
    let target = match target(args) {
        Ok(target) => target,
        Err(fault) => {
            output.complain(&fault);
            return Exit::Usage;
        }
    };
    match copy(&args.from, &target).await {
        Ok(copied) => tell(&copied, args.json, output),
        Err(fault) => {
            output.complain(&fault.to_string());
            Exit::Refused
        }
    }
}

fn target(args: &CopyArgs) -> Result<Location, String> {
    if let Some(url) = &args.to {
        return url.parse::<Location>().map_err(|fault| fault.to_string());
    }
    let config = Config::read(&args.config).map_err(|fault| fault.to_string())?;
    app::location(&config).map_err(|fault| fault.to_string())
}

fn tell(copied: &Copied, as_json: bool, output: &mut Output<'_>) -> Exit {
    let (size, root) = (copied.head.frontier.size(), hex::encode(copied.head.frontier.root()));
    if as_json {
        let tables: serde_json::Map<_, _> =
            copied.tables.iter().map(|(name, rows)| (name.clone(), json!(rows))).collect();
        output.json(&json!({ "tables": tables, "log": { "size": size, "root": root } }));
        return Exit::Done;
    }
    for (name, rows) in &copied.tables {
        output.line(&format!("{rows:>10}  {name}"));
    }
    output.line(&format!("copied and compared: a log of {size} decisions, root {root}"));
    output.line("the signing keys are files, and were not copied: every replica needs them (`keys.folder`)");
    Exit::Done
}
