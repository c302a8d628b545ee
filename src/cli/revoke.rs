//! `taskgrant revoke`: one row, and all that hangs on it is dead.

use std::io::Read;
use std::sync::Arc;

use super::desk::{Answer, Desk, heard, tell};
use super::target::TargetArgs;
use super::{inspect, token};
use crate::admin::revocations::{ListedRevocation, RevokeRequest, carry_out, listed};
use crate::admin::socket::Peer;
use crate::clock::Clock;
use crate::keys::jws::Jws;
use crate::revocation::order::{Revoked, Toll};
use crate::revocation::target::Target;
use crate::terminal::escape::escaped;
use crate::terminal::output::{Exit, Output};

/// Revoke a token, task, session, principal, agent, task type, issuer or tenant, and all that hangs on it.
///
/// Through the running server, else in process under the lock of the data folder. In force when the command returns.
#[derive(Clone, Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true))]
pub struct Args {
    /// A token and everything below it: its jti, a file, `-` for standard input, or the token itself.
    #[arg(long, group = "what", value_name = "JTI|TOKEN")]
    pub token: Option<String>,
    /// A task with all its tokens.
    #[arg(long, group = "what", value_name = "ID")]
    pub task: Option<String>,
    /// A session: the issuer and its `sid`; or a session token, as a file, `-`, or the token itself.
    #[arg(long, group = "what", num_args = 1..=2, value_names = ["ISS|TOKEN", "SID"])]
    pub session: Option<Vec<String>>,
    /// An agent, wherever it stands in a chain. It may start anew: to keep it out, disable it too.
    #[arg(long, group = "what", value_name = "CLIENT_ID")]
    pub agent: Option<String>,
    /// A principal: the issuer and its `sub`. A fresh login works again.
    #[arg(long, group = "what", num_args = 2, value_names = ["ISS", "SUB"])]
    pub principal: Option<Vec<String>>,
    /// A task type, with the tenant that its object is of. It may start anew: to stop that, disable it too.
    #[arg(long, group = "what", value_name = "TENANT/NAME")]
    pub task_type: Option<String>,
    /// All that the principals of an issuer started. Fresh logins work again.
    #[arg(long, group = "what", value_name = "ISS")]
    pub issuer: Option<String>,
    /// A whole tenant. Fresh logins work again.
    #[arg(long, group = "what", value_name = "NAME")]
    pub tenant: Option<String>,
    /// List what is revoked, the newest first.
    #[arg(long, group = "what", conflicts_with_all = ["reason", "dry_run"])]
    pub list: bool,
    /// Why, for the record.
    #[arg(long, value_name = "TEXT", required_unless_present = "list")]
    pub reason: Option<String>,
    /// Count what would die, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Which server.
    #[command(flatten)]
    pub target: TargetArgs,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
pub async fn run(
    args: &Args,
    clock: Arc<dyn Clock>,
    stdin: &mut (dyn Read + Send),
    output: &mut Output<'_>,
) -> Exit {
    let request = match request(args, stdin) {
        Ok(request) => request,
        Err(why) => {
            output.complain(&format!("taskgrant revoke: {why}"));
            return Exit::Usage;
        }
    };
    let desk = match Desk::find(&args.target, clock).await {
        Ok(desk) => desk,
        Err(unusable) => return unusable.told(output),
    };
    let exit = match &request {
        Some(request) => tell(revoke(&desk, request).await, args.json, output, revoked),
        None => tell(list(&desk).await, args.json, output, |rows, output| list_rows(rows, output)),
    };
    desk.close().await;
    exit
}

/// What is asked for; none to list.
fn request(args: &Args, stdin: &mut (dyn Read + Send)) -> Result<Option<RevokeRequest>, String> {
    let Some(reason) = args.reason.clone() else { return Ok(None) };
    Ok(target(args, stdin)?.map(|target| RevokeRequest { target, reason, dry_run: args.dry_run }))
}

fn target(args: &Args, stdin: &mut (dyn Read + Send)) -> Result<Option<Target>, String> {
    if let Some(place) = &args.token {
        return token_target(place, stdin).map(Some);
    }
    if let Some(parts) = &args.session {
        return session(parts, stdin).map(Some);
    }
    if let Some([iss, sub]) = args.principal.as_deref() {
        return Ok(Some(Target::Principal { iss: iss.clone(), sub: sub.clone() }));
    }
    if let Some(issuer) = &args.issuer {
        return Ok(Some(Target::Issuer { iss: issuer.clone() }));
    }
    if let Some(id) = &args.task {
        return Ok(Some(Target::Task { id: read("--task", id)? }));
    }
    if let Some(id) = &args.agent {
        return Ok(Some(Target::Agent { client_id: read("--agent", id)? }));
    }
    if let Some(named) = &args.task_type {
        let (tenant, name) =
            named.split_once('/').ok_or("--task-type: write it as TENANT/NAME, as `system/refund_order`")?;
        let (tenant, name) = (read("--task-type", tenant)?, read("--task-type", name)?);
        return Ok(Some(Target::TaskType { tenant, name }));
    }
    let tenant = args.tenant.as_ref();
    tenant.map(|name| Ok(Target::Tenant { name: read("--tenant", name)? })).transpose()
}

fn read<T: std::str::FromStr>(option: &str, text: &str) -> Result<T, String>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|bad| format!("{option}: {bad}"))
}

/// A jti as it stands, or that of a token. Nobody verifies the token here: what counts is what is on record under its id.
fn token_target(place: &str, stdin: &mut (dyn Read + Send)) -> Result<Target, String> {
    if let Ok(jti) = place.parse() {
        return Ok(Target::Token { jti });
    }
    let claims = inspect::claims(&token::read(place, stdin)?)?;
    let jti = claims.get("jti").and_then(serde_json::Value::as_str).unwrap_or_default();
    Ok(Target::Token { jti: read("--token: `jti`", jti)? })
}

/// A session as an admin names it, or that of a session token. Nobody verifies the token: the admin vouches for it.
fn session(parts: &[String], stdin: &mut (dyn Read + Send)) -> Result<Target, String> {
    let place = match parts {
        [iss, sid] => return Ok(Target::Session { iss: iss.clone(), sid: sid.clone() }),
        [place] => place,
        _ => return Err("--session: give ISS and SID, or a session token".to_owned()),
    };
    let compact = token::read(place, stdin)?;
    let claims = inspect::claims(&compact)?;
    let text = |claim: &str| claims.get(claim).and_then(serde_json::Value::as_str).map(str::to_owned);
    let iss = text("iss").ok_or("--session: the token names no issuer (`iss`)")?;
    if let Some(sid) = text("sid") {
        return Ok(Target::Session { iss, sid });
    }
    let jws = Jws::parse(&compact).map_err(|fault| fault.to_string())?;
    Ok(Target::SessionToken { iss, token_sha256: hex::encode(jws.signed_sha256()) })
}

async fn revoke(desk: &Desk, request: &RevokeRequest) -> Answer<Revoked> {
    match desk {
        Desk::Server(server) => heard(server.revoke(request).await),
        Desk::Folder(folder) => Ok(carry_out(&folder.revocation, request, &Peer::own().account()).await),
    }
}

async fn list(desk: &Desk) -> Answer<Vec<ListedRevocation>> {
    match desk {
        Desk::Server(server) => heard(server.revocations().await),
        Desk::Folder(folder) => Ok(listed(&folder.revocation).await),
    }
}

fn revoked(revoked: &Revoked, output: &mut Output<'_>) -> Exit {
    let key = revoked.target.key();
    let what = format!("{} {}", key.kind.as_str().replace('_', " "), escaped(&key.key.replace('\n', " ")));
    if let Some(toll) = &revoked.would_die {
        output.line(&format!("would die with the {what}: {}", counted(toll)));
        let rows = toll.by_agent.iter().map(|(agent, tokens)| (format!("agent {agent}"), tokens));
        let types = toll.by_task_type.iter().map(|(name, tokens)| (format!("task type {name}"), tokens));
        rows.chain(types).for_each(|(name, tokens)| output.line(&format!("  {name}: {tokens}")));
        output.line("dry run: nothing is revoked");
    }
    if let Some(id) = revoked.decision_id {
        output.line(&format!("revoked: {what} (decision {id})"));
    }
    if !revoked.seen {
        output.line(
            "no live token hangs on it: check the spelling. What it began before now is refused when it comes.",
        );
    }
    Exit::Done
}

fn counted(toll: &Toll) -> String {
    let at_least = if toll.at_least { "at least " } else { "" };
    format!("{at_least}{} live tokens of {} tasks", toll.tokens, toll.tasks)
}

fn list_rows(rows: &[ListedRevocation], output: &mut Output<'_>) -> Exit {
    if rows.is_empty() {
        output.line("nothing is revoked");
    }
    for row in rows {
        let at = row.at.map_or_else(|| "-".to_owned(), super::time);
        let kind = row.kind.as_str().replace('_', " ");
        output.line(&format!("{at}  {kind} {}  (decision {})", escaped(&row.key.join(" ")), row.decision_id));
        output.line(&format!("    {}; kept until {}", escaped(&row.reason), super::time(row.keep_until)));
    }
    Exit::Done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_that_did_not_go_to_the_end_says_at_least() {
        let mut toll = Toll { tokens: 3, tasks: 2, ..Toll::default() };
        assert_eq!(counted(&toll), "3 live tokens of 2 tasks");
        toll.at_least = true;
        assert_eq!(counted(&toll), "at least 3 live tokens of 2 tasks");
    }
}
