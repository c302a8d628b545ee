//! `taskgrant approvals`: what waits for people, and their answers.

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;

use super::desk::{Answer, Desk, about, heard, tell};
use super::target::Common;
use super::token;
use crate::admin::api::{RefusalCode, Refused};
use crate::admin::approvals::{CancelApproval, id};
use crate::admin::socket::Peer;
use crate::approvals::view::{ListedApproval, ListedEnvelope, Wanted, goes_on, list, show};
use crate::approvals::{Answer as Said, Ballot, Cast, EnvelopeAsked};
use crate::clock::Clock;
use crate::dev::file::DevFile;
use crate::domain::approval::Narrowing;
use crate::domain::envelope::EnvelopeTerms;
use crate::domain::ids::ApprovalId;
use crate::domain::objects::SessionTokenKind;
use crate::domain::request::Presented;
use crate::domain::scope::ScopeSet;
use crate::terminal::escape::{escaped, escaped_value};
use crate::terminal::http::Http;
use crate::terminal::output::{Exit, Output};

/// See what agents wait for, and approve or deny it.
#[derive(Clone, Debug, clap::Args)]
pub struct ApprovalsArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Command {
    /// What waits, what ends first first.
    List {
        /// Also what is settled, the newest first.
        #[arg(long)]
        all: bool,
        /// Only what is behind this approval in the list: it holds at most 200 at once.
        #[arg(long, value_name = "ID")]
        after: Option<ApprovalId>,
        #[command(flatten)]
        common: Common,
    },
    /// One request: who asks, for whom, for what and why.
    Show(Named),
    /// Approve it, or a part of it.
    Approve {
        #[command(flatten)]
        vote: Vote,
        /// Only these of the scopes that are asked for, in one text.
        #[arg(long, value_name = "SCOPES")]
        narrow_scope: Option<String>,
        /// At most so many seconds.
        #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
        lifetime: Option<u32>,
        /// And so many more like it, or narrower, by the same agent in the same task.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        envelope_exchanges: Option<u32>,
        /// The same for so many minutes; of both, what is left out is the most that the task type allows.
        #[arg(long, value_name = "MINUTES", value_parser = clap::value_parser!(u32).range(1..))]
        envelope_minutes: Option<u32>,
    },
    /// Deny it: one denial is enough.
    Deny(Vote),
    /// Take it back before its token is fetched; after that, what is left of its envelope.
    Cancel {
        #[command(flatten)]
        named: Named,
        /// Why, for the record.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

#[derive(Clone, Debug, clap::Args)]
struct Named {
    /// Id of the approval (`approval_id`).
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Clone, Debug, clap::Args)]
struct Vote {
    #[command(flatten)]
    named: Named,
    /// Why, for the record.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Your own session token, of a login just now: a file, or `-` for standard input, from which it is read when left out.
    #[arg(long, value_name = "FILE")]
    session_token: Option<String>,
    /// The approver of the demo: signs them in first.
    #[arg(long, value_name = "NAME", conflicts_with = "session_token")]
    user: Option<String>,
    /// What a running `taskgrant dev` wrote, for --user.
    #[arg(long, default_value = ".taskgrant/dev.json", value_name = "FILE")]
    dev_file: PathBuf,
    /// What it is: access_token, id_token or jwt.
    #[arg(long, default_value = "access_token", value_parser = ["access_token", "id_token", "jwt"])]
    session_token_type: String,
}

impl Command {
    fn common(&self) -> &Common {
        match self {
            Self::List { common, .. } => common,
            Self::Show(named) | Self::Cancel { named, .. } => &named.common,
            Self::Approve { vote, .. } | Self::Deny(vote) => &vote.named.common,
        }
    }

    /// The answer that it gives; none for a command that gives none.
    fn said(&self) -> Result<Option<(&Vote, Said)>, String> {
        let (vote, approves, narrowing, envelope) = match self {
            Self::Approve { vote, narrow_scope, lifetime, envelope_exchanges, envelope_minutes } => {
                let scopes = narrow_scope.as_ref().map(|scopes| scopes.parse::<ScopeSet>());
                let scopes = scopes.transpose().map_err(|bad| format!("--narrow-scope: {bad}"))?;
                let envelope = EnvelopeAsked { exchanges: *envelope_exchanges, minutes: *envelope_minutes };
                let given = (envelope != EnvelopeAsked::default()).then_some(envelope);
                (vote, true, Narrowing { scopes, lifetime: *lifetime }, given)
            }
            Self::Deny(vote) => (vote, false, Narrowing::default(), None),
            Self::List { .. } | Self::Show(_) | Self::Cancel { .. } => return Ok(None),
        };
        Ok(Some((vote, Said { approves, reason: vote.reason.clone(), narrowing, envelope })))
    }

    /// The same, and who gives it: over HTTPS the token of the request says that.
    async fn answer(&self, stdin: &mut (dyn Read + Send)) -> Result<Option<Given>, String> {
        let Some((vote, said)) = self.said()? else { return Ok(None) };
        if vote.named.common.target.server.is_some() {
            let session = vote.session_token.is_some() || vote.user.is_some();
            let why = "--session-token and --user are for the socket: with --server the token of `taskgrant login` says who you are";
            return if session { Err(why.to_owned()) } else { Ok(Some(Given::Said(said))) };
        }
        let kind: Result<SessionTokenKind, _> = vote.session_token_type.parse();
        let session_token_type = kind.map_err(|kinds| format!("--session-token-type: {kinds}"))?;
        let session_token = match &vote.user {
            Some(name) => sign_in(vote, name).await?,
            None => token::read(vote.session_token.as_deref().unwrap_or("-"), stdin)?,
        };
        let session_token = Presented::from_text(session_token);
        let Said { approves, reason, narrowing, envelope } = said;
        let ballot = Ballot { approves, reason, narrowing, envelope, session_token, session_token_type };
        Ok(Some(Given::Ballot(Box::new(ballot))))
    }
}

/// An answer, by whichever way it goes.
enum Given {
    Ballot(Box<Ballot>),
    Said(Said),
}

/// The demo's approver signs in, through a client that no agent's sessions are of.
async fn sign_in(vote: &Vote, name: &str) -> Result<String, String> {
    let file = vote.dev_file.display();
    let demo = DevFile::read(&vote.dev_file).map_err(|why| format!("no demo runs here (`{file}`: {why})"))?;
    let approver = &demo.approver;
    if approver.username != name {
        return Err(format!("--user: the demo's approver is {}", approver.username));
    }
    let form = [
        ("grant_type", "password"),
        ("client_id", &approver.client_id),
        ("username", name),
        ("password", &approver.password),
    ];
    let member = if vote.session_token_type == "id_token" { "id_token" } else { "access_token" };
    let http = Http::new().map_err(|why| why.to_string())?;
    token::sign_in(&demo, &form, member, &http).await
}

/// Runs the command.
pub async fn run(
    args: &ApprovalsArgs,
    clock: Arc<dyn Clock>,
    stdin: &mut (dyn Read + Send),
    output: &mut Output<'_>,
) -> Exit {
    let (command, common) = (&args.command, args.command.common());
    let given = match command.answer(stdin).await {
        Ok(given) => given,
        Err(why) => {
            output.complain(&format!("taskgrant approvals: {why}"));
            return Exit::Usage;
        }
    };
    let desk = match Desk::find(&common.target, clock.clone()).await {
        Ok(desk) => desk,
        Err(unusable) => return unusable.told(output),
    };
    let exit = match (command, &given) {
        (Command::List { all, after, .. }, _) => {
            let wanted = Wanted { all: *all, after: *after, tenant: None };
            let page = listed(&desk, &clock, &wanted).await;
            let rest = page.as_ref().ok().and_then(|page| goes_on(page.as_ref().ok()?));
            let exit = tell(page, common.json, output, |page, output| told_list(page, &wanted, output));
            if let Some(id) = rest {
                output.complain(&format!("there may be more: say the same with --after {id}"));
            }
            exit
        }
        (Command::Show(named), _) => {
            let shown = about(id(&named.id), |id| one(&desk, &clock, id)).await;
            tell(shown, common.json, output, told_one)
        }
        (Command::Cancel { named, reason }, _) => {
            let cancelled = about(id(&named.id), |id| cancel(&desk, id, reason)).await;
            tell(cancelled, common.json, output, told_cast)
        }
        (Command::Approve { vote, .. } | Command::Deny(vote), Some(given)) => {
            let settled = about(id(&vote.named.id), |id| cast(&desk, id, given)).await;
            tell(settled, common.json, output, told_cast)
        }
        (Command::Approve { .. } | Command::Deny(_), None) => Exit::Usage,
    };
    desk.close().await;
    exit
}

async fn listed(desk: &Desk, clock: &Arc<dyn Clock>, wanted: &Wanted) -> Answer<Vec<ListedApproval>> {
    match desk {
        Desk::Server(server) => heard(server.approvals(wanted.all, wanted.after).await),
        Desk::Folder(folder) => Ok(list(&folder.store, clock.now(), wanted).await.map_err(Refused::from)),
    }
}

async fn one(desk: &Desk, clock: &Arc<dyn Clock>, id: ApprovalId) -> Answer<ListedApproval> {
    match desk {
        Desk::Server(server) => heard(server.approval(&id.to_string()).await),
        Desk::Folder(folder) => Ok(show(&folder.store, clock.now(), id).await.map_err(Refused::from)),
    }
}

async fn cast(desk: &Desk, id: ApprovalId, given: &Given) -> Answer<Cast> {
    match (desk, given) {
        (Desk::Server(server), Given::Ballot(ballot)) => heard(server.vote(&id.to_string(), ballot).await),
        (Desk::Server(server), Given::Said(said)) => heard(server.answer(&id.to_string(), said).await),
        (Desk::Folder(_), _) => Ok(Err(no_server())),
    }
}

async fn cancel(desk: &Desk, id: ApprovalId, reason: &str) -> Answer<Cast> {
    match desk {
        Desk::Server(server) => {
            let request = CancelApproval { reason: reason.to_owned() };
            heard(server.cancel_approval(&id.to_string(), &request).await)
        }
        Desk::Folder(_) => Ok(Err(no_server())),
    }
}

/// Whose session it is, only a server can verify, and who cancels is served by one as well.
fn no_server() -> Refused {
    let message = format!(
        "no server runs here, and only that settles approvals: start it with `taskgrant serve` as {}",
        Peer::own().account()
    );
    Refused::new(RefusalCode::Unavailable, message)
}

fn told_list(approvals: &[ListedApproval], wanted: &Wanted, output: &mut Output<'_>) -> Exit {
    if approvals.is_empty() {
        output.line(if wanted.after.is_some() { "nothing more" } else { "nothing waits for approval" });
    }
    for approval in approvals {
        let text = |pointer| text(approval, pointer);
        let (id, state, until) = (approval.id, approval.state, super::time(approval.expires_at));
        let (task_type, who) = (text("/task_type/name"), text("/principal/sub"));
        let (agent, scope) = (&approval.client_id, text("/scope"));
        let envelope = approval.envelope.as_ref().map(|e| format!("  [envelope: {}]", told_envelope(e)));
        let envelope = envelope.unwrap_or_default();
        output.line(&format!(
            "{id}  {state:<9}  until {until}  {task_type}  {agent} for {who}: {scope}{envelope}"
        ));
    }
    Exit::Done
}

fn told_one(approval: &ListedApproval, output: &mut Output<'_>) -> Exit {
    let of = |pointer: &str| text(approval, pointer);
    let mut line = |label: &str, value: String| {
        if !value.is_empty() {
            output.line(&format!("{label:<12} {value}"));
        }
    };
    line("approval", format!("{} ({})", approval.id, approval.state));
    line("until", super::time(approval.expires_at));
    let (class, owner) = (of("/agent/class"), of("/agent/owner"));
    line("agent", format!("{} (class {class}, owner {owner})", approval.client_id));
    line("chain", of("/chain"));
    line("for", format!("{} of {}", of("/principal/sub"), of("/principal/iss")));
    let (name, version) = (of("/task_type/name"), of("/task_type/version"));
    line("task type", format!("{name}@{version}: {}", of("/task_type/description")));
    line("task", of("/task_id"));
    // One to a line, and all of them: none shall hide behind the others.
    of("/scope").split(' ').for_each(|scope| line("scope", scope.to_owned()));
    for (label, member) in [("resource", "resources"), ("detail", "authorization_details")] {
        for value in approval.request.get(member).and_then(Value::as_array).into_iter().flatten() {
            line(label, escaped_value(value));
        }
    }
    line("hands on to", of("/delegate_to"));
    line("depth left", of("/depth_left"));
    if approval.request.get("exchange_only") == Some(&Value::Bool(true)) {
        line("kind", "exchange-only: it is narrowed again and again, until its task ends".to_owned());
    }
    line("lives", format!("{} s, its task {} s", of("/expires_in"), of("/task_lifetime")));
    for reason in approval.request.get("reasons").and_then(Value::as_array).into_iter().flatten() {
        let part = |key| reason.get(key).map(escaped_value).unwrap_or_default();
        line("why", format!("{}: {}", part("code"), part("message")));
    }
    for (key, value) in approval.request.get("claimed").and_then(Value::as_object).into_iter().flatten() {
        line("agent says", format!("{}: {} (not verified)", escaped(key), escaped_value(value)));
    }
    line("quorum", approval.quorum.to_string());
    for vote in &approval.votes {
        let answer = if vote.approves { "approved" } else { "denied" };
        let (who, at) = (escaped(&vote.approver.sub), super::time(vote.at));
        line(answer, format!("by {who} at {at}: {}", escaped(&vote.reason)));
        if let Some(EnvelopeTerms { exchanges, minutes }) = vote.envelope {
            line("", format!("and {exchanges} more like it for {minutes} minutes"));
        }
    }
    if let Some(EnvelopeTerms { exchanges, minutes }) = approval.may_give {
        let most =
            format!("at most {exchanges} more exchanges like it in its task, for at most {minutes} minutes");
        line("envelope", format!("an approver may give one: {most}"));
    }
    if let Some(envelope) = &approval.envelope {
        line("envelope", told_envelope(envelope));
        line("good in task", envelope.task_id.map(|id| id.to_string()).unwrap_or_default());
    }
    line("token", approval.jti.map(|jti| jti.to_string()).unwrap_or_default());
    line("decision", approval.decision_id.to_string());
    Exit::Done
}

/// How far it is used, and whether more may use it.
fn told_envelope(envelope: &ListedEnvelope) -> String {
    let ListedEnvelope { exchanges, used, ended, .. } = envelope;
    let end = match ended {
        Some(ended) => ended.why().to_owned(),
        None => format!("until {}", super::time(envelope.until)),
    };
    format!("{used} of {exchanges} used, {end}")
}

fn told_cast(cast: &Cast, output: &mut Output<'_>) -> Exit {
    let Cast { approval, decision_id } = cast;
    let yes = approval.votes.iter().filter(|vote| vote.approves).count();
    output.line(&format!("{} is {} ({yes} of {} approve)", approval.id, approval.state, approval.quorum));
    if let Some(envelope) = &approval.envelope {
        output.line(&format!("its envelope: {}", told_envelope(envelope)));
    }
    output.line(&format!("recorded (decision {decision_id})"));
    Exit::Done
}

/// What is at `pointer`, safe for a terminal.
fn text(approval: &ListedApproval, pointer: &str) -> String {
    approval.request.pointer(pointer).map(escaped_value).unwrap_or_default()
}
