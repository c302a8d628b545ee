//! `taskgrant policy mode`: whether what policy says bites.

use std::sync::Arc;

use super::live::at_desk;
use super::replay;
use crate::admin::api::Refused;
use crate::admin::socket::Peer;
use crate::cli::desk::{Desk, heard};
use crate::cli::target::Common;
use crate::cli::time;
use crate::clock::Clock;
use crate::configuration::apply::mode::{KeptMode, ModeChanged, ModeOrder};
use crate::policy::mode::Mode;
use crate::terminal::escape::escaped;
use crate::terminal::output::{Exit, Output};

#[derive(Debug, clap::Args)]
pub(super) struct SetMode {
    /// `enforce`: what policy says bites. `dry-run`: it is asked and recorded, and denials, approvals and limits of it do not
    /// bite. `off`: it is not asked. Ceilings, revocation and the log hold in each.
    #[arg(value_name = "MODE")]
    mode: Mode,
    /// For how long, after which it is `enforce` again: `30m`, `2h`, at most `24h`. Needed with `dry-run` and `off`.
    #[arg(long = "for", value_name = "TIME", value_parser = seconds)]
    lasts: Option<u32>,
    /// Why, for the record.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    common: Common,
}

fn seconds(text: &str) -> Result<u32, String> {
    let seconds = replay::seconds(text).and_then(|seconds| u32::try_from(seconds).ok());
    seconds.ok_or_else(|| "write a time as 90s, 30m or 2h".to_owned())
}

/// Puts the policy in another mode.
pub(super) async fn set(args: &SetMode, clock: Arc<dyn Clock>, output: &mut Output<'_>) -> Exit {
    let request = ModeOrder { mode: args.mode, lasts: args.lasts, reason: args.reason.clone() };
    let ask = async |desk: &Desk| match desk {
        Desk::Server(server) => heard(server.set_policy_mode(&request).await),
        Desk::Folder(folder) => {
            let set = folder.configuration.set_policy_mode(request.clone(), &Peer::own().account()).await;
            Ok(set.map_err(Refused::from))
        }
    };
    at_desk(&args.common, clock, output, ask, changed).await
}

fn changed(changed: &ModeChanged, output: &mut Output<'_>) -> Exit {
    let decision = changed.decision_id.map(|id| format!(" (decision {id})"));
    let decision = decision.as_deref().unwrap_or(": nothing to change");
    match &changed.mode {
        Some(KeptMode { timed, .. }) => {
            let (mode, until) = (timed.mode.as_str(), time(timed.until));
            output.line(&format!("policy mode: {mode} until {until}{decision}"));
        }
        None => output.line(&format!("policy mode: enforce{decision}")),
    }
    Exit::Done
}

/// Tells of the mode in `policy status`.
pub(super) fn told(kept: &KeptMode, output: &mut Output<'_>) {
    let KeptMode { timed, account, reason } = kept;
    let (mode, until) = (timed.mode.as_str(), time(timed.until));
    output.line(&format!("policy mode: {mode} until {until} ({account}: {})", escaped(reason)));
}
