//! `taskgrant proposals`: changes that wait for a second person.

use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::desk::{Answer, Desk, about, heard, tell};
use super::report;
use super::target::Common;
use crate::admin::api::{RefusalCode, Refused};
use crate::admin::client::Waiting;
use crate::admin::proposals::{ConfirmProposal, Proposed, RejectProposal, id};
use crate::admin::socket::Peer;
use crate::clock::Clock;
use crate::configuration::apply::proposals::{ListedProposal, ProposalSettled};
use crate::configuration::plan::Plan;
use crate::domain::ids::ProposalId;
use crate::domain::proposal::ProposalState;
use crate::terminal::escape::{escaped, escaped_line, escaped_value};
use crate::terminal::output::{Exit, Output};

/// See which changes wait for a second person, and confirm or reject them.
#[derive(Clone, Debug, Args)]
pub struct ProposalsArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// What waits, what ends first first.
    List {
        /// Also what is settled, the newest first.
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        common: Common,
    },
    /// One change: who proposed it, what it does, and the whole request.
    Show(Named),
    /// Have it carried out. It takes another person than its proposer, with the role `approve`.
    Confirm {
        #[command(flatten)]
        named: Named,
        /// The digest that `show` has printed: that is what you confirm.
        #[arg(long, value_name = "SHA256")]
        digest: String,
        /// Why, for the record.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Have it come to nothing; also to take back what you have proposed.
    Reject {
        #[command(flatten)]
        named: Named,
        /// Why, for the record.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

#[derive(Clone, Debug, Args)]
struct Named {
    /// Id of the proposal.
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    common: Common,
}

impl Command {
    fn common(&self) -> &Common {
        match self {
            Self::List { common, .. } => common,
            Self::Show(named) | Self::Confirm { named, .. } | Self::Reject { named, .. } => &named.common,
        }
    }
}

/// Runs the command.
pub async fn run(args: &ProposalsArgs, clock: Arc<dyn Clock>, output: &mut Output<'_>) -> Exit {
    let common = args.command.common();
    let (json, server) = (common.json, common.target.server.as_deref());
    let desk = match Desk::find(&common.target, clock).await {
        Ok(desk) => desk,
        Err(unusable) => return unusable.told(output),
    };
    let exit = match &args.command {
        Command::List { all, .. } => tell(list(&desk, *all).await, json, output, told_list),
        Command::Show(named) => {
            let shown = about(id(&named.id), |id| show(&desk, id)).await;
            tell(shown, json, output, |one, output| told_one(one, server, output))
        }
        Command::Confirm { named, digest, reason } => {
            let request = ConfirmProposal { digest: digest.clone(), reason: reason.clone() };
            let confirmed = about(id(&named.id), |id| confirm(&desk, id, &request)).await;
            tell(confirmed, json, output, told_settled)
        }
        Command::Reject { named, reason } => {
            let rejected = about(id(&named.id), |id| reject(&desk, id, reason)).await;
            tell(rejected, json, output, told_settled)
        }
    };
    desk.close().await;
    exit
}

async fn list(desk: &Desk, all: bool) -> Answer<Vec<ListedProposal>> {
    match desk {
        Desk::Server(server) => heard(server.proposals(all).await),
        Desk::Folder(folder) => Ok(folder.configuration.proposals(all).await.map_err(Refused::from)),
    }
}

async fn show(desk: &Desk, id: ProposalId) -> Answer<ListedProposal> {
    match desk {
        Desk::Server(server) => heard(server.proposal(id).await),
        Desk::Folder(folder) => Ok(folder.configuration.proposal(id).await.map_err(Refused::from)),
    }
}

async fn confirm(desk: &Desk, id: ProposalId, request: &ConfirmProposal) -> Answer<ProposalSettled> {
    match desk {
        Desk::Server(server) => heard(server.confirm_proposal(id, request).await),
        Desk::Folder(_) => Ok(Err(Refused::new(
            RefusalCode::NotAllowed,
            "who confirms proves who they are to a server: sign in with `taskgrant login --role approve` and say --server",
        ))),
    }
}

async fn reject(desk: &Desk, id: ProposalId, reason: &str) -> Answer<ProposalSettled> {
    match desk {
        Desk::Server(server) => {
            heard(server.reject_proposal(id, &RejectProposal { reason: reason.to_owned() }).await)
        }
        Desk::Folder(folder) => {
            let account = Peer::own().account();
            let rejected = folder.configuration.reject_proposal(id, reason, (&account, None)).await;
            Ok(rejected.map_err(Refused::from))
        }
    }
}

/// Tells what waits of a command, and what the second person says to have it carried out.
pub(super) fn waits(waiting: &Waiting, json: bool, output: &mut Output<'_>) -> Exit {
    let Waiting { proposal, server } = waiting;
    if json {
        output.json(&Proposed { proposal: proposal.clone() });
        return Exit::Waits;
    }
    let until = super::time(proposal.expires_at);
    output.line(&format!("nothing has changed yet: this takes two persons, and waits until {until}"));
    output.line(&format!("proposal {}", proposal.id));
    output.line("somebody else with the role `approve` looks at it, and confirms or rejects it:");
    let server = server.as_ref().map(|url| format!(" --server {url}")).unwrap_or_default();
    output.line(&format!("  taskgrant proposals show {}{server}", proposal.id));
    Exit::Waits
}

fn told_list(proposals: &Vec<ListedProposal>, output: &mut Output<'_>) -> Exit {
    if proposals.is_empty() {
        output.line("nothing waits for a second person");
    }
    for proposal in proposals {
        let (id, state, until) = (proposal.id, proposal.state, super::time(proposal.expires_at));
        let (command, who) = (escaped(&proposal.command), escaped(&proposal.proposer.principal.sub));
        output.line(&format!("{id}  {state:<11}  until {until}  {command}, by {who}"));
    }
    Exit::Done
}

fn told_one(proposal: &ListedProposal, server: Option<&str>, output: &mut Output<'_>) -> Exit {
    let named = server.map(|url| format!(" --server {url}")).unwrap_or_default();
    let mut line = |label: &str, value: &str| output.line(&format!("{label:<12} {value}"));
    line("proposal", &format!("{} ({})", proposal.id, proposal.state));
    line("command", &escaped(&proposal.command));
    let needs: Vec<&str> = proposal.needs.iter().map(|what| what.as_str()).collect();
    line("takes two", &needs.join(", "));
    let who = &proposal.proposer;
    let (sub, iss) = (escaped(&who.principal.sub), escaped(&who.principal.iss));
    line("by", &format!("{sub} of {iss}, through {}", who.client_id));
    line("since", &super::time(proposal.created_at));
    line("until", &super::time(proposal.expires_at));
    line("decision", &proposal.decision_id.to_string());
    if let Some(answered) = &proposal.answered {
        line("answered", &format!("by {} at {}", escaped(&answered.account), super::time(answered.at)));
        line("why", &answered.reason.as_deref().map(escaped).unwrap_or_default());
        line("decision", &answered.decision_id.to_string());
    }
    output.line("");
    output.line("what it does:");
    told_effect(&proposal.effect, output);
    // Where the request holds the files they stand below, and are kept nowhere yet.
    let holds = proposal.request.as_ref().is_some_and(|request| request.get("files").is_some());
    let named_in = |member: &&str| proposal.effect.get(member)?.as_str().filter(|_| !holds);
    for version in ["policy", "candidate"].iter().filter_map(named_in) {
        output.line(&format!("  its rules: taskgrant policy show {}{named}", escaped(version)));
    }
    output.line("");
    output.line("the request:");
    told_content(proposal.request.as_ref().unwrap_or(&Value::Null), output);
    if proposal.state == ProposalState::Pending {
        output.line("");
        output.line("to have it carried out, as another person:");
        let (id, digest) = (proposal.id, &proposal.digest);
        output.line(&format!("  taskgrant proposals confirm {id} --digest {digest}{named}"));
    }
    Exit::Done
}

/// A plan as `taskgrant plan` tells it, and what else there is, a member to a line.
fn told_effect(effect: &Value, output: &mut Output<'_>) {
    for (member, value) in effect.as_object().into_iter().flatten() {
        match serde_json::from_value::<Plan>(value.clone()) {
            Ok(plan) if member == "plan" => plan.told().for_each(|step| report::tell(step, output, false)),
            Ok(_) | Err(_) if value.is_null() => {}
            Ok(_) | Err(_) if member == "beside" => {
                output.line(&format!("  beside the objects in force now ({})", escaped_value(value)));
            }
            Ok(_) | Err(_) => output.line(&format!("  {}: {}", escaped(member), escaped_value(value))),
        }
    }
}

/// The texts of files are told whole, line by line: nobody confirms what they were not shown.
fn told_content(content: &Value, output: &mut Output<'_>) {
    for (member, value) in content.as_object().into_iter().flatten() {
        match (member.as_str(), value) {
            ("command", _) | (_, Value::Null) => {}
            ("documents" | "files", Value::Array(files)) => {
                for file in files {
                    let text = |name: &str| file.get(name).and_then(Value::as_str).unwrap_or_default();
                    let name = if member == "files" { text("path") } else { text("file") };
                    output.line(&format!("=== {}", escaped(name)));
                    text("text").lines().for_each(|line| output.line(&escaped_line(line)));
                }
            }
            ("document", Value::String(text)) => {
                text.lines().for_each(|line| output.line(&escaped_line(line)));
            }
            _ => output.line(&format!("  {}: {}", escaped(member), escaped_value(value))),
        }
    }
}

fn told_settled(settled: &ProposalSettled, output: &mut Output<'_>) -> Exit {
    let ProposalSettled { proposal, decision_id, .. } = settled;
    output.line(&format!("{} is {} (decision {decision_id})", proposal.id, proposal.state));
    Exit::Done
}
