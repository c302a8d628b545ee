//! `taskgrant task`: a task's tree of tokens, for admins and agents, and its end.

use std::io::Read;
use std::sync::Arc;

use serde_json::Value;

use super::desk::{Answer, Desk, failed, heard, tell};
use super::server::{Server, ServerArgs};
use super::target::TargetArgs;
use super::{inspect, token};
use crate::admin::tasks::seen;
use crate::clock::Clock;
use crate::tasks::tree::{Ended, GivenUp, Held, TaskView, TokenView};
use crate::tasks::{ClaimedOutcome, Completed};
use crate::terminal::escape::escaped;
use crate::terminal::http;
use crate::terminal::output::{Exit, Output};

/// A task: its tokens, and its end.
#[derive(Clone, Debug, clap::Args)]
pub struct TaskArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Command {
    /// Show every token of a task: who holds it, what it can do, what was given up at each hop, and whether it lives.
    ///
    /// With --client-id it asks as that agent, which sees what grew from its own tokens; without, as an admin.
    Tree {
        /// The task: its id, or any token of it (`-` for standard input).
        #[arg(value_name = "ID|TOKEN")]
        id: String,
        #[command(flatten)]
        target: TargetArgs,
        #[command(flatten)]
        server: ServerArgs,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// End a task, as the agent that started it: all its tokens are dead at once.
    Complete {
        /// The task: its id, or any token of it (`-` for standard input).
        #[arg(value_name = "ID|TOKEN")]
        id: String,
        /// How it ended, for the record: verified, done, failed, rolled_back or abandoned.
        #[arg(long, value_name = "WORD", value_parser = outcome)]
        outcome: Option<ClaimedOutcome>,
        #[command(flatten)]
        server: ServerArgs,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

fn outcome(word: &str) -> Result<ClaimedOutcome, String> {
    ClaimedOutcome::parse(word).ok_or_else(|| format!("one of {}", ClaimedOutcome::WORDS))
}

/// Runs the command.
pub async fn run(
    args: &TaskArgs,
    clock: Arc<dyn Clock>,
    stdin: &mut (dyn Read + Send),
    output: &mut Output<'_>,
) -> Exit {
    let (Command::Tree { id: place, .. } | Command::Complete { id: place, .. }) = &args.command;
    let id = match id(place, stdin) {
        Ok(id) => id,
        Err(why) => {
            output.complain(&format!("taskgrant task: {why}"));
            return Exit::Usage;
        }
    };
    match &args.command {
        Command::Tree { target, server, json, .. } => {
            if server.names_agent() {
                let view = ask(server, &format!("/tasks/{}", in_path(&id)), None).await;
                return told(view, *json, output, shown);
            }
            let desk = match Desk::find(target, clock).await {
                Ok(desk) => desk,
                Err(unusable) => return unusable.told(output),
            };
            let exit = tell(tree(&desk, &id).await, *json, output, shown);
            desk.close().await;
            exit
        }
        Command::Complete { outcome, server, json, .. } => {
            let path = format!("/tasks/{}/complete", in_path(&id));
            told(ask(server, &path, *outcome).await, *json, output, completed)
        }
    }
}

/// An id as it stands, or that of a token's task. Nobody verifies the token here: what counts is what is on record.
fn id(place: &str, stdin: &mut (dyn Read + Send)) -> Result<String, String> {
    if place != "-" && !token::is_token(place) {
        return Ok(place.to_owned());
    }
    let claims = inspect::claims(&token::read(place, stdin)?)?;
    let id = claims.get("task_id").and_then(Value::as_str);
    id.map(str::to_owned).ok_or_else(|| "the token is of no task (`task_id`)".to_owned())
}

async fn tree(desk: &Desk, id: &str) -> Answer<TaskView> {
    match desk {
        Desk::Server(server) => heard(server.task(&in_path(id)).await),
        Desk::Folder(folder) => Ok(seen(&folder.tasks, id).await),
    }
}

/// An id as it goes into a path: what is none is asked for all the same, and refused.
fn in_path(id: &str) -> String {
    id.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect()
}

/// Asks the server as an agent.
async fn ask(
    server: &ServerArgs,
    path: &str,
    outcome: Option<ClaimedOutcome>,
) -> Result<http::Answer, String> {
    let http = http::Http::new().map_err(|why| why.to_string())?;
    let server = Server::find(server, &http).await?;
    let issuer = server.issuer.as_deref().ok_or("name the server with --issuer")?;
    let word = outcome.map(|outcome| serde_json::to_value(outcome).unwrap_or_default());
    let form = word.iter().filter_map(|word| Some(("outcome", word.as_str()?)));
    let client = http::Credentials { id: &server.client_id, secret: &server.client_secret };
    let url = format!("{}{path}", issuer.trim_end_matches('/'));
    http.post(&url, Some(client), form).await.map_err(|why| why.to_string())
}

fn told<T: serde::de::DeserializeOwned>(
    answer: Result<http::Answer, String>,
    json: bool,
    output: &mut Output<'_>,
    words: impl FnOnce(&T, &mut Output<'_>) -> Exit,
) -> Exit {
    let answer = match answer {
        Ok(answer) => answer,
        Err(why) => {
            output.complain(&format!("taskgrant task: {why}"));
            return Exit::Usage;
        }
    };
    let granted = answer.status == 200;
    if json {
        output.json(&answer.body);
        return if granted { Exit::Done } else { Exit::Refused };
    }
    if !granted {
        let word = |member| answer.text(member).unwrap_or("-");
        return failed(&format!("refused ({}): {}", word("error"), word("error_description")), output);
    }
    match serde_json::from_value(answer.body) {
        Ok(value) => words(&value, output),
        Err(why) => failed(&format!("the server's answer is not understood: {why}"), output),
    }
}

fn completed(completed: &Completed, output: &mut Output<'_>) -> Exit {
    let word = completed.outcome.and_then(|outcome| serde_json::to_value(outcome).ok());
    let word =
        word.as_ref().and_then(Value::as_str).map(|word| format!(", claimed {word}")).unwrap_or_default();
    output.line(&format!(
        "task {} is completed{word}: its tokens are dead (decision {})",
        completed.task_id, completed.decision_id
    ));
    Exit::Done
}

fn shown(view: &TaskView, output: &mut Output<'_>) -> Exit {
    output.line(&format!(
        "task {} ({}) of tenant {}: {}{}",
        view.task_id,
        view.task_type,
        view.tenant,
        view.state.as_str(),
        left(view.expires_in)
    ));
    output.line(&format!(
        "  started by {} for {} of {}, at {}",
        view.started_by,
        escaped(&view.principal.sub),
        escaped(&view.principal.iss),
        instant(view.created_at)
    ));
    let known = |token: &TokenView| view.tokens.iter().any(|other| Some(other.jti) == token.parent_jti);
    let tops: Vec<&TokenView> = view.tokens.iter().filter(|token| !known(token)).collect();
    for token in &tops {
        branch(view, token, "", "", output);
    }
    if view.truncated {
        output.line("  and more: only so many are shown");
    }
    Exit::Done
}

/// A token and what grew from it. `lead` stands before its first line, `rest` before all others.
fn branch(view: &TaskView, token: &TokenView, lead: &str, rest: &str, output: &mut Output<'_>) {
    let state = format!("{}{}", token.state.as_str(), left(token.expires_in));
    output.line(&format!("{lead}{}  {}  {state}", token.client_id, token.jti));
    let children: Vec<&TokenView> =
        view.tokens.iter().filter(|other| other.parent_jti == Some(token.jti)).collect();
    let bar = if children.is_empty() { "    " } else { "│   " };
    let mut tell = |line: String| output.line(&format!("{rest}{bar}{}", escaped(&line)));
    match &token.capability {
        Some(held) => tell(can(held)),
        None => tell("what it could do is no longer on record".to_owned()),
    }
    if let Some(ended) = &token.ended {
        tell(ended_by(ended));
    }
    if let Some(given_up) = token.given_up.as_ref().map(gave_up).filter(|line| !line.is_empty()) {
        tell(format!("gave up: {given_up}"));
    }
    for (index, child) in children.iter().enumerate() {
        let last = index + 1 == children.len();
        let (turn, further) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        branch(view, child, &format!("{rest}{turn}"), &format!("{rest}{further}"), output);
    }
}

fn can(held: &Held) -> String {
    let mut parts = vec![format!("for {}: {}", held.aud, held.scope)];
    if let Some(resources) = &held.resources {
        parts.push(format!("at {}", resources.join(" ")));
    }
    parts.extend(held.may_act.as_ref().map(|meant| format!("for {} alone, once", meant.sub)));
    parts.extend(held.authorization_details.as_ref().map(|details| format!("details {details}")));
    parts.extend((held.depth_left > 0).then(|| format!("hand-overs left {}", held.depth_left)));
    if !held.narrowed.is_empty() {
        parts.push(format!("policy narrowed {}", held.narrowed.join(" ")));
    }
    parts.join("; ")
}

fn ended_by(ended: &Ended) -> String {
    let what = ended.kind.as_str().replace('_', " ");
    let jti = ended.jti.map(|jti| format!(" {jti}")).unwrap_or_default();
    let at = ended.at.map(|at| format!(" at {}", instant(at))).unwrap_or_default();
    let why = ended.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    format!("ended by {what}{jti}{at}{why}")
}

fn gave_up(given_up: &GivenUp) -> String {
    let mut parts = Vec::new();
    parts.extend((!given_up.scope.is_empty()).then(|| given_up.scope.join(" ")));
    parts.extend((!given_up.resource.is_empty()).then(|| given_up.resource.join(" ")));
    parts.extend(given_up.authorization_details.then(|| "part of the details".to_owned()));
    parts.extend((given_up.depth > 0).then(|| format!("{} hand-overs", given_up.depth)));
    parts.extend((given_up.seconds > 0).then(|| format!("{} s", given_up.seconds)));
    parts.join("; ")
}

fn left(seconds: i64) -> String {
    if seconds > 0 { format!(", {seconds} s left") } else { String::new() }
}

fn instant(seconds: i64) -> String {
    chrono::DateTime::from_timestamp(seconds, 0).map_or_else(|| seconds.to_string(), super::time)
}
