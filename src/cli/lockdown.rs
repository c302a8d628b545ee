//! `taskgrant lockdown`: stop every new token, of a tenant or of all.

use std::sync::Arc;

use super::desk::{Answer, Desk, heard, tell};
use super::target::Common;
use crate::admin::api::Refused;
use crate::admin::socket::Peer;
use crate::clock::Clock;
use crate::domain::ids::{BadId, Name};
use crate::lockdown::{LockdownRequest, LockdownState};
use crate::terminal::escape::escaped;
use crate::terminal::output::{Exit, Output};

/// Stop every new token, of a tenant or of all. What is issued lives on, and can be revoked.
#[derive(Clone, Debug, clap::Args)]
pub struct LockdownArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Command {
    /// Begin it.
    On(Change),
    /// End it.
    Off(Change),
    /// Show what is under lockdown.
    Status(Common),
}

#[derive(Clone, Debug, clap::Args)]
struct Change {
    /// This tenant only; every one if left out. One of all tenants and one of a tenant end each by itself.
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// Why, for the record.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    common: Common,
}

/// Runs the command.
pub async fn run(args: &LockdownArgs, clock: Arc<dyn Clock>, output: &mut Output<'_>) -> Exit {
    let (change, common) = match &args.command {
        Command::On(change) => (Some((true, change)), &change.common),
        Command::Off(change) => (Some((false, change)), &change.common),
        Command::Status(common) => (None, common),
    };
    let request = match change.map(|(on, change)| request(on, change)).transpose() {
        Ok(request) => request,
        Err(why) => {
            output.complain(&format!("taskgrant lockdown: {why}"));
            return Exit::Usage;
        }
    };
    let desk = match Desk::find(&common.target, clock).await {
        Ok(desk) => desk,
        Err(unusable) => return unusable.told(output),
    };
    let exit = tell(send(&desk, request.as_ref()).await, common.json, output, told);
    desk.close().await;
    exit
}

fn request(on: bool, change: &Change) -> Result<LockdownRequest, String> {
    let tenant: Option<Name> = change
        .tenant
        .as_ref()
        .map(|name| name.parse())
        .transpose()
        .map_err(|bad: BadId| format!("--tenant: {bad}"))?;
    Ok(LockdownRequest { on, tenant, reason: change.reason.clone() })
}

async fn send(desk: &Desk, request: Option<&LockdownRequest>) -> Answer<LockdownState> {
    match (desk, request) {
        (Desk::Server(server), Some(request)) => heard(server.lock_down(request).await),
        (Desk::Server(server), None) => heard(server.lockdown().await),
        (Desk::Folder(folder), Some(request)) => {
            Ok(folder.lockdowns.set(request, &Peer::own().account()).await.map_err(Refused::from))
        }
        (Desk::Folder(folder), None) => Ok(folder.lockdowns.state().await.map_err(Refused::from)),
    }
}

fn told(state: &LockdownState, output: &mut Output<'_>) -> Exit {
    if state.lockdowns.is_empty() {
        output.line("no lockdown: new tokens are issued");
    }
    for lockdown in &state.lockdowns {
        let whose = match &lockdown.tenant {
            Some(tenant) => format!("tenant {tenant}"),
            None => "all tenants".to_owned(),
        };
        let since = super::time(lockdown.since);
        output.line(&format!("no new tokens for {whose} since {since}: {}", escaped(&lockdown.reason)));
    }
    if let Some(id) = state.decision_id {
        output.line(&format!("recorded (decision {id})"));
    }
    Exit::Done
}
