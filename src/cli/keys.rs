//! `taskgrant keys`: through the running server, or in process where none runs.

use std::sync::Arc;

use chrono::TimeDelta;

use super::apply::no_server;
use super::desk::{Answer, failed, heard, tell};
use super::target::Common;
use super::time;
use crate::admin::api::Refused;
use crate::admin::client::AdminClient;
use crate::admin::keys::{RetireRequest, StopRequest};
use crate::admin::socket::Peer;
use crate::app;
use crate::clock::Clock;
use crate::config::Config;
use crate::keys::live::LiveKeys;
use crate::rotation::{self, KeyInfo, KeyState, Retired, Rotated, Rotation, Stopped};
use crate::store::Store;
use crate::store::folder::Location;
use crate::store::writer::Writer;
use crate::terminal::output::{Exit, Output};

/// Signing keys: list, rotate, retire.
#[derive(clap::Args, Clone, Debug)]
pub struct KeysArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Clone, Debug)]
enum Command {
    /// Show every published key: what it does, and what it signed that has not expired.
    List(Common),
    /// Publish a new key, which signs once others had time to learn it.
    Rotate {
        #[command(flatten)]
        common: Common,
        /// Stop a key at once: it is not published, and all that it signed is dead. A fresh key signs.
        #[arg(long)]
        emergency: bool,
        /// The key to stop; the one that signs if left out; may be repeated.
        #[arg(long, value_name = "KID", requires = "emergency")]
        kid: Vec<String>,
        /// Do it, knowing what it kills.
        #[arg(long, requires = "emergency")]
        yes: bool,
    },
    /// Remove keys that nothing needs any more. A running server does this by itself.
    Retire {
        #[command(flatten)]
        common: Common,
        /// The key; every one that nothing needs any more if left out.
        #[arg(value_name = "KID")]
        kid: Option<String>,
    },
    /// Read the key folder again, as SIGHUP does. On a fault the old keys go on serving.
    Reload(Common),
}

impl KeysArgs {
    fn common(&self) -> &Common {
        match &self.command {
            Command::List(common)
            | Command::Reload(common)
            | Command::Rotate { common, .. }
            | Command::Retire { common, .. } => common,
        }
    }
}

/// What the command does to a server, or to the folder of one that does not run.
enum Way {
    Server(AdminClient),
    InProcess(Rotation),
}

/// Runs the command.
pub async fn run(args: &KeysArgs, clock: Arc<dyn Clock>, output: &mut Output<'_>) -> Exit {
    let target = &args.common().target;
    match target.remote() {
        Ok(Some(server)) => return act(args, &Way::Server(server), output).await,
        Ok(None) => {}
        Err(why) => return failed(&why, output),
    }
    let config = match Config::read(&target.config) {
        Ok(config) => config,
        Err(fault) => {
            output.complain(&fault.to_string());
            return Exit::Usage;
        }
    };
    match AdminClient::find(&config.admin_socket()).await {
        Ok(Some(server)) => act(args, &Way::Server(server), output).await,
        Ok(None) => in_process(args, &config, clock, output).await,
        Err(fault) => failed(&fault.to_string(), output),
    }
}

/// Takes the data folder's lock, and runs the use case that the server would run.
async fn in_process(
    args: &KeysArgs,
    config: &Config,
    clock: Arc<dyn Clock>,
    output: &mut Output<'_>,
) -> Exit {
    let (rotation, task) = match open(config, clock).await {
        Ok(opened) => opened,
        Err(failure) => return failed(&failure, output),
    };
    let way = Way::InProcess(rotation);
    let exit = act(args, &way, output).await;
    drop(way);
    // The writer ends with its last handle; then the data folder is free again.
    let _ = task.await;
    exit
}

async fn open(
    config: &Config,
    clock: Arc<dyn Clock>,
) -> Result<(Rotation, tokio::task::JoinHandle<()>), String> {
    let location = app::location(config).map_err(|error| error.to_string())?;
    if matches!(location, Location::Postgres(_)) {
        return Err(no_server(&config.admin_socket()));
    }
    let store = Store::open(&location).await.map_err(|error| error.to_string())?;
    let known = rotation::known(&store).await.map_err(|error| error.to_string())?;
    let spec = config.keys.algorithm.parse().unwrap_or_default();
    let keys = LiveKeys::open(config.keys_folder(), spec, &known, clock.clone());
    let keys = keys.map_err(|fault| fault.to_string())?;
    let (writer, task) = Writer::spawn(&store, clock.clone(), TimeDelta::zero());
    Ok((Rotation::new(keys, store, writer, clock), task))
}

async fn act(args: &KeysArgs, way: &Way, output: &mut Output<'_>) -> Exit {
    let json = args.common().json;
    match &args.command {
        Command::List(_) => tell(list(way).await, json, output, |keys, output| listed(keys, output)),
        Command::Reload(_) => tell(reload(way).await, json, output, |keys, output| listed(keys, output)),
        Command::Rotate { emergency: false, .. } => {
            let runs = matches!(way, Way::Server(_));
            tell(rotate(way).await, json, output, |rotated, output| rotated_to(rotated, runs, output))
        }
        Command::Rotate { kid, yes, .. } => {
            let request = StopRequest { kids: kid.clone(), confirmed: *yes };
            let exit = tell(stop(way, request).await, json, output, stopped);
            if *yes { exit } else { Exit::Refused }
        }
        Command::Retire { kid, .. } => {
            tell(retire(way, RetireRequest { kid: kid.clone() }).await, json, output, retired)
        }
    }
}

async fn list(way: &Way) -> Answer<Vec<KeyInfo>> {
    match way {
        Way::Server(server) => heard(server.keys().await),
        Way::InProcess(rotation) => Ok(rotation.list().await.map_err(Refused::from)),
    }
}

async fn reload(way: &Way) -> Answer<Vec<KeyInfo>> {
    match way {
        Way::Server(server) => heard(server.reload_keys().await),
        // The folder was read when it was opened.
        Way::InProcess(_) => list(way).await,
    }
}

async fn rotate(way: &Way) -> Answer<Rotated> {
    match way {
        Way::Server(server) => heard(server.rotate_keys().await),
        Way::InProcess(rotation) => Ok(rotation.rotate(&Peer::own().account()).await.map_err(Refused::from)),
    }
}

async fn stop(way: &Way, request: StopRequest) -> Answer<Stopped> {
    match way {
        Way::Server(server) => heard(server.stop_keys(&request).await),
        Way::InProcess(rotation) => {
            let account = Peer::own().account();
            let stopped = rotation.stop(&request.kids, request.confirmed, &account).await;
            Ok(stopped.map_err(Refused::from))
        }
    }
}

async fn retire(way: &Way, request: RetireRequest) -> Answer<Retired> {
    match way {
        Way::Server(server) => heard(server.retire_keys(&request).await),
        Way::InProcess(rotation) => {
            let retired = rotation.retire(request.kid.as_deref(), &Peer::own().account()).await;
            Ok(retired.map_err(Refused::from))
        }
    }
}

fn listed(keys: &[KeyInfo], output: &mut Output<'_>) -> Exit {
    for key in keys {
        let state = match (key.state, key.not_before) {
            (KeyState::Signing, _) => "signs".to_owned(),
            (KeyState::Waiting, Some(at)) => format!("waits, signs from {}", time(at)),
            (KeyState::Waiting, None) => "waits".to_owned(),
            (KeyState::Retiring, _) => "verifies only".to_owned(),
        };
        output.line(&format!("{}  {}  {state}", key.kid, key.algorithm));
        output.line(&format!("    {}; {}", key.file, lives(key)));
    }
    Exit::Done
}

fn rotated_to(rotated: &Rotated, runs: bool, output: &mut Output<'_>) -> Exit {
    let Rotated { kid, not_before, decision_id } = rotated;
    let when =
        if runs { format!("from {}", time(*not_before)) } else { "6 minutes after the start".to_owned() };
    let published = if runs { "is published" } else { "will be published when the server starts" };
    output.line(&format!("{kid} {published}, and signs {when} (decision {decision_id})"));
    Exit::Done
}

fn stopped(stopped: &Stopped, output: &mut Output<'_>) -> Exit {
    for key in &stopped.stopped {
        output.line(&format!("{}  {}", key.kid, lives(key)));
    }
    let minutes = stopped.max_age / 60;
    let Some(decision_id) = stopped.decision_id else {
        output.line(
            "That would die. Services that verify by the published keys alone may believe it for another",
        );
        output.line(&format!(
            "{minutes} minutes, and may refuse what the fresh key signs until they fetch it."
        ));
        output.complain("nothing is stopped: if that is meant, repeat it with --yes");
        return Exit::Refused;
    };
    output.line(&format!(
        "stopped (decision {decision_id}); {} signs",
        stopped.signing.as_deref().unwrap_or_default()
    ));
    output.line(&format!(
        "Services may keep the old key set for another {minutes} minutes: restart those that can."
    ));
    Exit::Done
}

fn retired(retired: &Retired, output: &mut Output<'_>) -> Exit {
    for kid in &retired.retired {
        output.line(&format!("{kid} is removed"));
    }
    for key in &retired.kept {
        output.line(&format!("{} is still needed; {}", key.kid, lives(key)));
    }
    if retired.retired.is_empty() && retired.kept.is_empty() {
        output.line("no key waits to be removed");
    }
    Exit::Done
}

/// What the key has signed that lives.
fn lives(key: &KeyInfo) -> String {
    let until = key.until.map(|at| format!(", the last until {}", time(at))).unwrap_or_default();
    format!("{} tokens of {} tasks have not expired{until}", key.tokens, key.tasks)
}
