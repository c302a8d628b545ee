//! `taskgrant migrate`: the schema of the database, brought up to date before servers of a new version start.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use crate::app;
use crate::config::Config;
use crate::store::Store;
use crate::store::error::StoreError;
use crate::store::folder::Location;
use crate::store::schema::{Step, known_schema};
use crate::terminal::output::{Exit, Output};

/// Brings the schema of the database up to date, forward only. A server on PostgreSQL refuses to start on another schema
/// than its own; one on a data folder migrates by itself.
///
/// Run it once for each new version, before its servers; several at once wait for one another.
///
/// Exit status: 0 the schema is up to date, 1 it is not (--check), or anything failed, 2 called in the wrong way.
#[derive(Args, Clone, Debug)]
pub struct MigrateArgs {
    /// The server's configuration.
    #[arg(long, value_name = "FILE", default_value = "taskgrant.toml")]
    pub config: PathBuf,
    /// Only tell what is lacking.
    #[arg(long)]
    pub check: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// What it did, or found.
#[derive(Serialize)]
struct Report {
    /// The schema of this program.
    schema: i64,
    /// Whether the database has it now.
    up_to_date: bool,
    /// The migrations that were lacking.
    lacking: Vec<Lacking>,
}

#[derive(Serialize)]
struct Lacking {
    version: i64,
    name: String,
}

/// Runs the command.
pub async fn run(args: &MigrateArgs, output: &mut Output<'_>) -> Exit {
    let config = match Config::read(&args.config) {
        Ok(config) => config,
        Err(fault) => {
            output.complain(&fault.to_string());
            return Exit::Usage;
        }
    };
    let found = match app::location(&config) {
        Ok(location) if args.check => look(&location).await,
        Ok(location) => migrate(&location).await,
        Err(fault) => Err(fault),
    };
    match found {
        Ok(lacking) => tell(args, lacking, output),
        Err(fault) => {
            output.complain(&fault.to_string());
            Exit::Refused
        }
    }
}

async fn migrate(location: &Location) -> Result<Vec<Step>, StoreError> {
    let (store, lacking) = Store::migrate_and_tell(location).await?;
    store.close().await;
    Ok(lacking)
}

/// What is lacking, without a lock or a change: a server may be running.
async fn look(location: &Location) -> Result<Vec<Step>, StoreError> {
    let store = match location {
        Location::Folder(folder) => Store::look_at(folder).await?,
        Location::Memory => None,
        Location::Postgres(_) => Some(Store::connect_only(location).await?),
    };
    // Where there is no database, memory shows what one would need.
    let store = match store {
        Some(store) => store,
        None => Store::connect_only(&Location::Memory).await?,
    };
    let lacking = store.lacking().await?;
    store.close().await;
    Ok(lacking)
}

fn tell(args: &MigrateArgs, lacking: Vec<Step>, output: &mut Output<'_>) -> Exit {
    let up_to_date = !args.check || lacking.is_empty();
    let schema = known_schema();
    if args.json {
        let lacking = lacking.into_iter().map(|Step { version, name }| Lacking { version, name }).collect();
        output.json(&Report { schema, up_to_date, lacking });
    } else {
        for step in &lacking {
            let word = if args.check { "lacking" } else { "applied" };
            output.line(&format!("{word} {:04} {}", step.version, step.name));
        }
        match lacking.len() {
            0 => output.line(&format!("the schema is up to date: {schema:04}")),
            _ if args.check => output.line("the schema is not up to date: run `taskgrant migrate`"),
            _ => output.line(&format!("the schema is {schema:04} now")),
        }
    }
    if up_to_date { Exit::Done } else { Exit::Refused }
}
