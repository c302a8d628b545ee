//! `taskgrant doctor`: is a deployment well? Looks, asks, and changes nothing.

mod local;
mod outside;

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use crate::admin::client::AdminClient;
use crate::app;
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::objects::{Object, Spec};
use crate::store::Store;
use crate::store::folder::Location;
use crate::terminal::output::{Exit, Output};

/// Looks a deployment over, running or not: file modes, keys, disk, database, policy, the admin socket, and every trusted
/// issuer as the server would reach it, its clock included. Nothing is changed.
///
/// Exit status: 0 all is well or only warned about, 1 something fails, 2 called in the wrong way.
#[derive(Args, Clone, Debug)]
pub struct DoctorArgs {
    /// The server's configuration.
    #[arg(long, value_name = "FILE", default_value = "taskgrant.toml")]
    pub config: PathBuf,
    /// Do not ask the issuers.
    #[arg(long)]
    pub offline: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// How a line of the report came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Ok,
    Warn,
    Fail,
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Line {
    /// What was looked at, for programs.
    check: &'static str,
    state: State,
    message: String,
    /// What would mend it; none where nothing is to be mended.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl Line {
    fn ok(check: &'static str, message: impl Into<String>) -> Self {
        Self { check, state: State::Ok, message: message.into(), remedy: None }
    }

    fn warn(check: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, state: State::Warn, message: message.into(), remedy: Some(remedy.into()) }
    }

    fn fail(check: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, state: State::Fail, message: message.into(), remedy: Some(remedy.into()) }
    }
}

#[derive(Serialize)]
struct Report {
    ok: bool,
    checks: Vec<Line>,
}

/// Looks everything over and tells it line by line.
pub async fn doctor(args: &DoctorArgs, clock: &dyn Clock, output: &mut Output<'_>) -> Exit {
    let lines = lines(args, clock).await;
    let ok = !lines.iter().any(|line| line.state == State::Fail);
    if args.json {
        output.json(&Report { ok, checks: lines });
    } else {
        for line in &lines {
            print(line, output);
        }
        output.line(if ok { "well" } else { "not well" });
    }
    if ok { Exit::Done } else { Exit::Refused }
}

fn print(line: &Line, output: &mut Output<'_>) {
    let word = match line.state {
        State::Ok => "ok",
        State::Warn => "warn",
        State::Fail => "fail",
    };
    output.line(&format!("{word:5} {:14} {}", line.check, line.message));
    if let Some(remedy) = &line.remedy {
        output.line(&format!("      {remedy}"));
    }
}

async fn lines(args: &DoctorArgs, clock: &dyn Clock) -> Vec<Line> {
    let config = match Config::read(&args.config) {
        Ok(config) => config,
        Err(why) => {
            let remedy = "mend it: `taskgrant config check` says more";
            return vec![Line::fail("configuration", why.to_string(), remedy)];
        }
    };
    let mut lines = vec![Line::ok("configuration", format!("{} reads", args.config.display()))];
    lines.extend(local::modes(&config));
    lines.push(local::keys(&config));
    lines.push(local::disk(&config));
    lines.push(local::policy(&config));
    let store = match app::location(&config) {
        Ok(location @ Location::Postgres(_)) => Store::connect_only(&location).await.map(Some),
        Ok(Location::Memory | Location::Folder(_)) => Store::look_at(&config.data).await,
        Err(fault) => Err(fault),
    };
    lines.extend(local::database(&store, clock).await);
    let (line, served) = local::admin_socket(&config).await;
    lines.push(line);
    let objects = match (served, store) {
        (Some(objects), _) => objects,
        (None, Ok(Some(store))) => stored(&store).await,
        (None, Ok(None) | Err(_)) => Vec::new(),
    };
    if args.offline {
        lines.push(Line::warn("issuers", "they were not asked", "leave --offline out"));
    } else {
        lines.extend(outside::issuers(&config, &objects, clock).await);
    }
    lines
}

/// The objects of the data folder. What cannot be read was told with the database.
async fn stored(store: &Store) -> Vec<Object> {
    let rows = store.objects_current().await.unwrap_or_default();
    let object = |row: crate::store::rows::ObjectRow| {
        let spec = Spec::from_json(row.id.kind, &row.spec).ok()?;
        Some(Object { id: row.id, version: row.version, spec })
    };
    rows.into_iter().filter_map(object).collect()
}

/// The objects that a running server says are in force.
async fn served(client: &AdminClient) -> Result<Vec<Object>, String> {
    let listed = client.objects().await.map_err(|why| why.to_string())?;
    let listed = listed.map_err(|refused| refused.message)?;
    let object = |one: crate::admin::api::ListedObject| {
        let spec = Spec::from_json(one.id.kind, one.spec.to_string().as_bytes()).ok()?;
        Some(Object { id: one.id, version: one.version, spec })
    };
    Ok(listed.into_iter().filter_map(object).collect())
}
