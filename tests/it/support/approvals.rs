//! People answer what agents wait for.

use std::sync::Arc;

use clap::Parser;
use serde_json::{Value, json};
use taskgrant::admin::api::Refused;
use taskgrant::approvals::view::ListedApproval;
use taskgrant::approvals::{Ballot, Cast};
use taskgrant::cli::approvals as cli;
use taskgrant::domain::approval::{ApprovalState, Narrowing};
use taskgrant::domain::objects::SessionTokenKind;
use taskgrant::domain::request::Presented;
use taskgrant::terminal::output::{Exit, Output};

use super::idp::bend;
use super::server::{Answer, Server};

/// Grant type of a poll.
pub(crate) const DEFERRED: &str = "urn:ietf:params:oauth:grant-type:deferred";

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    args: cli::ApprovalsArgs,
}

/// Asks for what needs a person, and waits.
pub(crate) async fn ask_as(server: &Server, agent: &str, subject: &str, form: &[(&str, &str)]) -> Answer {
    let answer = server.exchange(agent, subject, form).await;
    answer.refused(400, "authorization_pending", "approval_pending");
    answer
}

/// Polls with a code.
pub(crate) async fn fetch_as(server: &Server, agent: &str, code: &str) -> Answer {
    server.post("/oauth/token", agent, &[("grant_type", DEFERRED), ("deferral_code", code)]).await
}

/// The same as support-agent, for what it asked.
pub(crate) async fn fetch(server: &Server, asked: &Answer) -> Answer {
    fetch_as(server, "support-agent", code(asked)).await
}

/// The code to poll with.
pub(crate) fn code(asked: &Answer) -> &str {
    asked.body["deferral_code"].as_str().unwrap()
}

/// The approval that is asked for.
pub(crate) fn id(asked: &Answer) -> &str {
    asked.body["approval_id"].as_str().unwrap()
}

/// A session of somebody who leads, through a client of no agent, with members replaced.
pub(crate) fn lead(server: &Server, with: Value) -> String {
    let leads = json!({
        "sub": "erin", "client_id": "back-office", "azp": "back-office", "groups": ["support-leads"],
        "sid": "sid-of-erin", "auth_time": server.now(),
    });
    server.idp.sign("at+jwt", &bend(bend(server.session_claims(), leads), with))
}

/// An answer that takes nothing away.
pub(crate) fn ballot(approves: bool, token: String) -> Ballot {
    Ballot {
        approves,
        reason: "seen with the customer".to_owned(),
        narrowing: Narrowing::default(),
        envelope: None,
        session_token: Presented::from_text(token),
        session_token_type: SessionTokenKind::AccessToken,
    }
}

/// Answers.
pub(crate) async fn vote(server: &Server, id: &str, ballot: &Ballot) -> Result<Cast, Refused> {
    server.admin().await.vote(id, ballot).await.unwrap()
}

/// Erin approves.
pub(crate) async fn approve(server: &Server, asked: &Answer) -> Cast {
    vote(server, id(asked), &ballot(true, lead(server, json!({})))).await.unwrap()
}

/// What waits.
pub(crate) async fn waiting(server: &Server) -> Vec<ListedApproval> {
    server.admin().await.approvals(false, None).await.unwrap().unwrap()
}

/// How it stands.
pub(crate) async fn state(server: &Server, asked: &Answer) -> ApprovalState {
    server.admin().await.approval(id(asked)).await.unwrap().unwrap().state
}

/// The command as a shell would run it: exit status, what it tells, what it complains of.
pub(crate) async fn command(server: &Server, args: &[&str], stdin: &str) -> (Exit, String, String) {
    let config = server.data.path().join("taskgrant.toml");
    let data = server.data.path().join("data");
    std::fs::write(&config, format!("public_url = '{}'\ndata = '{}'\n", server.issuer, data.display()))
        .unwrap();
    let config = config.to_str().unwrap().to_owned();
    let args = [&["approvals"], args, &["--config", &config]].concat();
    let args = Command::parse_from(args).args;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let output = &mut Output { out: &mut out, err: &mut err };
    let exit = cli::run(&args, Arc::new(server.clock.clone()), &mut stdin.as_bytes(), output).await;
    (exit, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}
