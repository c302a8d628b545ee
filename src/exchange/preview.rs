//! What a session could get at most, without a token: the ceilings of a root exchange, as `taskgrant config check --as`
//! shows them. Claims are mapped and ceilings made by the same code that exchanges; nothing is issued or recorded.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::limits::ceilings;
use super::verify::{Origin, Verified, login, may_spend_session, no_actor_of_ours, pick_task_type, serves};
use crate::domain::ceiling::{Authority, Bound, Ceilings};
use crate::domain::chain::{Actor, Chain};
use crate::domain::ids::{ClientId, Name};
use crate::domain::refusal::Refusal;
use crate::domain::request::Wish;
use crate::domain::snapshot::{Agent, Snapshot, TaskType};
use crate::issuers::fault::SessionFault;
use crate::issuers::session::{Session, UnverifiedSession, unverified};

/// Whose session, and what for.
pub struct Question<'a> {
    /// Our `iss`.
    pub own_issuer: &'a str,
    /// Claims as a session token would have them. Nobody has signed them.
    pub claims: &'a Map<String, Value>,
    /// The kind of task.
    pub task_type: &'a Name,
    /// The agent; when left out one that may start the task, best one that may spend the session.
    pub agent: Option<&'a ClientId>,
}

/// The ceilings side by side.
pub struct Preview {
    /// What the claims say, if they were signed.
    pub session: UnverifiedSession,
    /// The agent that would act.
    pub agent: Arc<Agent>,
    /// Why the agent would not get so far; none if it would.
    pub refusal: Option<Refusal>,
    /// The kind of task.
    pub task_type: Arc<TaskType>,
    /// The ceilings, and what the task type's resources list.
    pub ceilings: Ceilings,
    /// What the agent could hand over, and to whom.
    pub edges: Vec<(String, Arc<Bound>)>,
    /// What lies within all of them: the most that could be asked for, over several requests.
    pub widest: Authority,
}

/// Why there are no ceilings to show.
#[derive(Debug, thiserror::Error)]
pub enum NoPreview {
    /// The claims are no session.
    #[error("these claims start nothing: {0}")]
    Session(#[from] SessionFault),
    /// No such agent, task type, or neither for this tenant.
    #[error("{0}")]
    Refused(Refusal),
    /// The agent is not declared.
    #[error("no agent `{0}` is declared")]
    UnknownAgent(ClientId),
    /// Nobody could ask.
    #[error("no agent that serves tenant `{tenant}` may start `{task_type}`")]
    NoAgent {
        /// The session's tenant.
        tenant: Name,
        /// The task type.
        task_type: Name,
    },
}

/// Answers `question` by the objects of `snapshot`.
pub fn preview(snapshot: &Snapshot, question: &Question<'_>) -> Result<Preview, NoPreview> {
    let told = unverified(snapshot, question.claims)?;
    let session = told.as_if_verified();
    let agent = agent(snapshot, session, question)?;
    let picked = pick_task_type(snapshot, &agent, &session.tenant, Some(question.task_type));
    let task_type = picked.map_err(NoPreview::Refused)?;
    let spends = may_spend_session(session, &agent, question.own_issuer);
    let actors = no_actor_of_ours(session, question.own_issuer);
    let refusal = serves(&agent, &session.tenant).and(spends).and(actors).err();
    let verified = verified(session, &agent, &task_type, question.own_issuer).map_err(NoPreview::Refused)?;
    let found = ceilings(&verified).map_err(NoPreview::Refused)?.into_iter().next();
    let ceilings = found.unwrap_or(Ceilings { layers: Vec::new(), listed: task_type.listed.clone() });
    let edges = task_type.edges.iter().filter(|edge| edge.may_leave(&agent));
    let edges = edges.map(|edge| (String::from(edge.to.clone()), edge.bound.clone())).collect();
    let widest = ceilings.widest(&task_type.details());
    Ok(Preview { agent, refusal, task_type, ceilings, edges, widest, session: told })
}

fn agent(snapshot: &Snapshot, session: &Session, question: &Question<'_>) -> Result<Arc<Agent>, NoPreview> {
    if let Some(id) = question.agent {
        return snapshot.agent(id).cloned().ok_or_else(|| NoPreview::UnknownAgent(id.clone()));
    }
    let tenant = &session.tenant;
    let task_type = snapshot.task_type(tenant, question.task_type);
    let starts = |a: &&Arc<Agent>| {
        a.reach.serves(tenant) && !a.spec.disabled && task_type.is_none_or(|t| t.may_start(a))
    };
    let mut agents: Vec<&Arc<Agent>> = snapshot.agents().filter(starts).collect();
    let spends = |a: &Agent| may_spend_session(session, a, question.own_issuer).is_ok();
    agents.sort_by_key(|a| (!spends(a), a.spec.client_id.clone()));
    let nobody = || NoPreview::NoAgent { tenant: tenant.clone(), task_type: question.task_type.clone() };
    agents.first().map(|a| Arc::clone(a)).ok_or_else(nobody)
}

/// The request that leaves everything out, as if its session token had been verified.
fn verified(
    session: &Session,
    agent: &Arc<Agent>,
    task_type: &Arc<TaskType>,
    own_issuer: &str,
) -> Result<Verified, Refusal> {
    let actor = Actor { sub: agent.spec.client_id.to_string(), iss: own_issuer.to_owned(), instance: None };
    let foreign_actors = session.foreign_actors.len();
    Ok(Verified {
        tenant: session.tenant.clone(),
        principal: session.principal.clone(),
        subject: session.subject.clone(),
        login: login(session),
        agent: agent.clone(),
        chain: Chain::root(actor, session.foreign_actors.clone()).map_err(Refusal::Chain)?,
        hops: Vec::new(),
        origin: Origin::Session { key: session.key.clone(), ends: session.expires_at, foreign_actors },
        issuer: session.issuer.clone(),
        task_type: task_type.clone(),
        facts: session.facts.clone(),
        details: None,
        wish: Wish::default(),
        approved: None,
        kept: None,
    })
}
