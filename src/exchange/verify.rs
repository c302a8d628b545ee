//! Steps 4 and 5: what the request presents is verified, and the server, not the request, says who acts (L6).

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value};

use super::deferral::{Approved, Kept};
use super::story::Story;
use super::{Exchange, Moment};
use crate::domain::capability::Grant;
use crate::domain::chain::{Actor, Chain};
use crate::domain::claims::{ApprovalClaim, Login, TokenClaims};
use crate::domain::details::Details;
use crate::domain::ids::{Jti, Name};
use crate::domain::objects::SessionTokenKind;
use crate::domain::principal::Principal;
use crate::domain::record::{SessionKey, TaskRecord};
use crate::domain::refusal::{Refusal, Retry, TokenFault};
use crate::domain::request::{ExchangeRequest, Wish};
use crate::domain::snapshot::{Agent, Issuer, Snapshot, TaskType};
use crate::hash::sha256;
use crate::issuers::actor::verify_actor;
use crate::issuers::fault::ActorFault;
use crate::issuers::person::is_a_person_just_now;
use crate::issuers::session::Session;
use crate::issuers::workload::workload_issuer;
use crate::keys::fault::JwsFault;
use crate::keys::jwks::JwkSet;
use crate::keys::jws::Jws;
use crate::keys::keyring::ACCESS_TOKEN;

/// Leeway on `nbf` and `iat` of our own tokens; `exp` has none (DESIGN §4).
const OWN_LEEWAY: TimeDelta = TimeDelta::seconds(2);

/// The facts of a request after verification. No token in it.
pub(super) struct Verified {
    pub(super) tenant: Name,
    pub(super) principal: Principal,
    /// The principal as our tokens name it.
    pub(super) subject: String,
    pub(super) login: Login,
    pub(super) agent: Arc<Agent>,
    /// The chain of the token to issue: built here, from verified input only.
    pub(super) chain: Chain,
    /// Every hand-over between agents of ours that the chain tells of.
    pub(super) hops: Vec<Hop>,
    pub(super) origin: Origin,
    pub(super) issuer: Arc<Issuer>,
    /// The task type in force.
    pub(super) task_type: Arc<TaskType>,
    /// Claims of the session that entitlements and policy name.
    pub(super) facts: Map<String, Value>,
    pub(super) details: Option<Details>,
    pub(super) wish: Wish,
    /// What people have approved of it.
    pub(super) approved: Option<Approved>,
    /// From what it goes on if it has to wait for a person; none for a client that does not wait.
    pub(super) kept: Option<Box<Kept>>,
}

impl Verified {
    /// Whether a task begins with it.
    pub(super) fn is_root(&self) -> bool {
        matches!(self.origin, Origin::Session { .. })
    }
}

/// How a task starts.
pub(super) struct Start {
    pub(super) task_type: Arc<TaskType>,
    pub(super) actor: Actor,
    pub(super) wish: Wish,
}

/// A hand-over.
pub(super) struct Hop {
    pub(super) from: Arc<Agent>,
    pub(super) to: Arc<Agent>,
}

/// What the exchange starts from.
pub(super) enum Origin {
    /// A session token: the root of a task.
    Session { key: SessionKey, ends: DateTime<Utc>, foreign_actors: usize },
    /// A token of ours.
    Parent(Box<Parent>),
}

/// The token of ours that is narrowed.
pub(super) struct Parent {
    pub(super) jti: Jti,
    /// SHA-256 of its claims: the commit compares it with the record, so that our signature alone proves nothing.
    pub(super) digest: [u8; 32],
    pub(super) grant: Grant,
    pub(super) task: Arc<TaskRecord>,
    /// The task type in the version that the task began with.
    pub(super) began_with: Arc<TaskType>,
    /// The agent that holds it.
    pub(super) holder: Arc<Agent>,
    pub(super) approval: Option<ApprovalClaim>,
}

impl Parent {
    /// Whether `agent` is another than the one that holds the token.
    pub(super) fn hands_over_to(&self, agent: &Agent) -> bool {
        self.grant.agent != agent.spec.client_id
    }
}

impl Exchange {
    /// Verifies subject and actor token and establishes the chain. Our own `iss` is the capability path, any
    /// other the session path, whatever the request calls the token (T18).
    pub(super) async fn verify(
        &self,
        at: &Moment,
        agent: &Arc<Agent>,
        request: ExchangeRequest,
        story: &mut Story,
    ) -> Result<Verified, Refusal> {
        let compact = request.subject_token.clone();
        let jws = Jws::parse(compact.compact()).map_err(|fault| subject(&fault))?;
        if jws.unverified().issuer == Some(self.parts.issuer.as_str()) {
            self.capability(at, agent, (jws, request), story).await
        } else {
            self.session(at, agent, (jws, request), story).await
        }
    }

    async fn session(
        &self,
        at: &Moment,
        agent: &Arc<Agent>,
        (jws, request): (Jws<'_>, ExchangeRequest),
        story: &mut Story,
    ) -> Result<Verified, Refusal> {
        let snapshot = &at.world.snapshot;
        let verified =
            self.parts.issuers.verify_session(snapshot, jws, request.subject_token_type, at.now).await;
        let session = verified.map_err(|fault| Refusal::Subject(fault.into()))?;
        story.presented_session(&session);
        let task_type = self.may_start(at, agent, &session, request.task_type.as_ref())?;
        let actor = self.actor(at, agent, &request).await?;
        self.root(at, agent, session, Start { task_type, actor, wish: request.wish })
    }

    /// The task type that `agent` may start for the session. A built-in one takes a person who signed in just now.
    pub(super) fn may_start(
        &self,
        at: &Moment,
        agent: &Agent,
        session: &Session,
        named: Option<&Name>,
    ) -> Result<Arc<TaskType>, Refusal> {
        let snapshot = &at.world.snapshot;
        may_spend_session(session, agent, &self.parts.issuer)?;
        serves(agent, &session.tenant)?;
        let task_type = pick_task_type(snapshot, agent, &session.tenant, named)?;
        if task_type.is_built_in() {
            let person = is_a_person_just_now(snapshot, session, at.now);
            person.map_err(|why| Refusal::Subject(why.into()))?;
        }
        Ok(task_type)
    }

    /// The root of a task, for a session that the agent may spend.
    pub(super) fn root(
        &self,
        at: &Moment,
        agent: &Arc<Agent>,
        session: Session,
        start: Start,
    ) -> Result<Verified, Refusal> {
        let Start { task_type, actor, wish } = start;
        no_actor_of_ours(&session, &self.parts.issuer)?;
        let kept = wish.deferred.then(|| Kept::root(&session, &task_type.name, &actor, &wish));
        let foreign_actors = session.foreign_actors.len();
        Ok(Verified {
            details: read_details(at, &session.tenant, &wish)?,
            login: login(&session),
            chain: Chain::root(actor, session.foreign_actors).map_err(Refusal::Chain)?,
            tenant: session.tenant,
            principal: session.principal,
            subject: session.subject,
            agent: agent.clone(),
            hops: Vec::new(),
            origin: Origin::Session { key: session.key, ends: session.expires_at, foreign_actors },
            issuer: session.issuer,
            task_type,
            facts: session.facts,
            wish,
            approved: None,
            kept,
        })
    }

    async fn capability(
        &self,
        at: &Moment,
        agent: &Arc<Agent>,
        (jws, request): (Jws<'_>, ExchangeRequest),
        story: &mut Story,
    ) -> Result<Verified, Refusal> {
        let claims = self.own_claims(at, jws, request.subject_token_type)?;
        story.presented_token(&claims);
        if request.task_type.is_some() {
            return Err(Refusal::malformed("task_type", "a narrower token stays in its task: leave it out"));
        }
        let parent = self.may_narrow(at, agent, &claims).await?;
        let actor = self.actor(at, agent, &request).await?;
        self.child(at, agent, (claims, parent), (actor, request.wish))
    }

    /// The token that `agent` may narrow.
    pub(super) async fn may_narrow(
        &self,
        at: &Moment,
        agent: &Agent,
        claims: &TokenClaims,
    ) -> Result<Parent, Refusal> {
        serves(agent, &claims.tenant)?;
        let rules = at.world.snapshot.detail_rules(&claims.tenant);
        let grant = claims.grant(&rules).map_err(|e| fault("unreadable", &e))?;
        let parent = self.parent(at, claims, grant).await?;
        may_spend_capability(&parent, agent)?;
        Ok(parent)
    }

    /// A token below one that the agent may narrow.
    pub(super) fn child(
        &self,
        at: &Moment,
        agent: &Arc<Agent>,
        (claims, parent): (TokenClaims, Parent),
        (actor, wish): (Actor, Wish),
    ) -> Result<Verified, Refusal> {
        let snapshot = &at.world.snapshot;
        let kept = wish.deferred.then(|| Kept::child(&claims, &actor, &wish));
        let chain = next_chain(&parent, agent, actor)?;
        let hops = self.hops(at, &claims.tenant, &chain)?;
        let issuer = snapshot.issuer(&parent.grant.principal.iss).filter(|i| i.reach.serves(&claims.tenant));
        let issuer =
            issuer.cloned().ok_or_else(|| fault("issuer_unknown", &"its issuer is no longer trusted"))?;
        let task_type = task_type_in_force(at, &parent)?;
        Ok(Verified {
            details: read_details(at, &claims.tenant, &wish)?,
            approved: inherited(&parent, agent, &wish),
            login: claims.login(),
            tenant: claims.tenant,
            principal: parent.grant.principal.clone(),
            subject: claims.sub,
            agent: agent.clone(),
            chain,
            hops,
            issuer,
            task_type,
            facts: parent.task.facts.clone(),
            origin: Origin::Parent(Box::new(parent)),
            wish,
            kept,
        })
    }

    /// Verifies a token of ours: signature, `typ`, declared type, and its dates (AT-04, TX-04).
    fn own_claims(
        &self,
        at: &Moment,
        jws: Jws<'_>,
        declared: SessionTokenKind,
    ) -> Result<TokenClaims, Refusal> {
        if !jws.typ_is(ACCESS_TOKEN) {
            return Err(fault("type_mismatch", &"a token of ours has `typ` at+jwt"));
        }
        if declared != SessionTokenKind::AccessToken {
            return Err(fault(
                "type_mismatch",
                &"a token of ours is an access_token: say so in subject_token_type",
            ));
        }
        let verified = self.parts.keys.verify_own(jws).map_err(|e| subject(&e))?;
        let claims = TokenClaims::read(verified.into_claims()).map_err(|e| fault("unreadable", &e))?;
        not_expired(at, &claims)?;
        let latest = (at.now + OWN_LEEWAY).timestamp();
        if claims.nbf > latest || claims.iat > latest {
            return Err(fault("not_yet_valid", &"the token is from the future"));
        }
        if claims.cnf.is_some() {
            return Err(fault("bound", &"the token is bound to a key, and proof of it is not read yet"));
        }
        Ok(claims)
    }

    /// The parent with its task, its task type and its holder, all of which must still stand.
    async fn parent(&self, at: &Moment, claims: &TokenClaims, grant: Grant) -> Result<Parent, Refusal> {
        let task =
            self.tasks.get(&self.parts.store, claims.task_id).await.map_err(|_| Refusal::StoreFault)?;
        let task = task.ok_or(Refusal::UnknownParent)?;
        if task.tenant != grant.tenant || task.principal != grant.principal {
            return Err(Refusal::UnknownParent);
        }
        let snapshot = &at.world.snapshot;
        let began_with = snapshot
            .task_type_version(&task.task_type_tenant, &task.task_type, task.task_type_version)
            .cloned();
        let began_with = began_with.ok_or_else(|| Refusal::TaskType {
            name: task.task_type.clone(),
            why: "is no longer known in the version that this task began with",
            choices: BTreeSet::new(),
        })?;
        let holder = snapshot.standing_agent(grant.agent.as_str(), &grant.tenant).cloned();
        let holder =
            holder.ok_or_else(|| fault("holder_disabled", &"the agent that holds it is disabled"))?;
        let (jti, digest) = (claims.jti, sha256(&[&claims.canonical()]));
        Ok(Parent { jti, digest, grant, task, began_with, holder, approval: claims.approval.clone() })
    }

    /// The hand-overs of a chain, each agent of which must still stand: one that is gone or disabled stops all that it
    /// started (T20).
    fn hops(&self, at: &Moment, tenant: &Name, chain: &Chain) -> Result<Vec<Hop>, Refusal> {
        let own = chain.actors().filter(|actor| actor.iss == self.parts.issuer);
        let agents = own.map(|actor| at.world.snapshot.standing_agent(&actor.sub, tenant).cloned());
        let Some(agents) = agents.collect::<Option<Vec<_>>>() else {
            return Err(fault("actor_disabled", &"an agent that handed the task on is disabled or gone"));
        };
        let senders = agents.iter().skip(1);
        Ok(agents.iter().zip(senders).map(|(to, from)| Hop { from: from.clone(), to: to.clone() }).collect())
    }

    /// The acting party: always the authenticated agent, with an instance when `actor_token` proves one (TX-16, TX-19).
    async fn actor(&self, at: &Moment, agent: &Agent, request: &ExchangeRequest) -> Result<Actor, Refusal> {
        let mut actor =
            Actor { sub: agent.spec.client_id.to_string(), iss: self.parts.issuer.clone(), instance: None };
        if let Some(token) = &request.actor_token {
            let jws = Jws::parse(token.compact()).map_err(|e| Refusal::Actor(ActorFault::from(e).into()))?;
            actor.instance = Some(self.instance(at, agent, jws).await.map_err(Refusal::Actor)?);
        }
        Ok(actor)
    }

    /// The instance that an actor token proves: by the token of the agent's workload, or by one that a key of its
    /// `actor_jwks` has signed.
    async fn instance(&self, at: &Moment, agent: &Agent, jws: Jws<'_>) -> Result<String, TokenFault> {
        let own_issuer = &self.parts.issuer;
        let mapped = |issuer: &str| {
            let issuer = issuer.to_owned();
            agent.spec.auth.workload.iter().filter(move |w| w.issuer == issuer)
        };
        // A token that says that it is the agent's own is never taken for its platform's, whatever `sub` it has.
        let own = jws.typ_is("actor+jwt");
        let platform = workload_issuer(&at.world.snapshot, &jws).filter(|_| !own);
        if let Some(platform) = platform.filter(|p| mapped(&p.spec.issuer).next().is_some()) {
            let workload = self.parts.issuers.verify_workload(platform, jws, own_issuer, at.now).await?;
            let is_agent = mapped(&platform.spec.issuer).any(|declared| workload.is(declared));
            return if is_agent { Ok(workload.instance) } else { Err(ActorFault::OtherAgent.into()) };
        }
        let keys = actor_keys(agent)?;
        Ok(verify_actor(jws, &keys, &agent.spec.client_id, own_issuer, at.now)?)
    }
}

/// The keys that an agent registered for its instances. Parsed here, since few requests bring an actor token.
fn actor_keys(agent: &Agent) -> Result<JwkSet, TokenFault> {
    let missing = |why: &str| TokenFault { code: "keys_missing", why: why.to_owned(), retry: Retry::Never };
    let jwks = agent.spec.actor_jwks.as_ref().ok_or_else(|| missing("this agent has no `actor_jwks`"))?;
    JwkSet::parse(jwks.to_string().as_bytes())
        .map_err(|_| missing("this agent's `actor_jwks` are not readable"))
}

/// Refuses a session whose `act` names an agent of ours: the server alone builds that part of a chain (L6).
pub(super) fn no_actor_of_ours(session: &Session, own_issuer: &str) -> Result<(), Refusal> {
    if session.foreign_actors.iter().any(|actor| actor.iss == own_issuer) {
        return Err(fault(
            "act",
            &"its act names an actor of this server, which no other issuer can vouch for",
        ));
    }
    Ok(())
}

/// Who may spend a session token: the agent that its `may_act` names and no other; else one whose
/// `upstream_clients` lists the token's client; else anybody only if the issuer says so (T02, TX-15).
pub(super) fn may_spend_session(session: &Session, agent: &Agent, own_issuer: &str) -> Result<(), Refusal> {
    let refuse = |why: &str| Err(Refusal::NotYours { why: why.to_owned() });
    if let Some(named) = &session.may_act {
        let is_agent = named.sub == agent.spec.client_id.as_str();
        let of_ours = named.iss.as_deref().is_none_or(|iss| iss == own_issuer);
        return if is_agent && of_ours { Ok(()) } else { refuse("its may_act names another party") };
    }
    let issuer = &session.issuer.spec;
    let upstream = &agent.spec.upstream_clients;
    let listed = |client: &String| upstream.iter().any(|u| u.issuer == issuer.issuer && u.client == *client);
    if session.client.as_ref().is_some_and(listed) || issuer.any_agent {
        return Ok(());
    }
    refuse("it has no may_act, and its azp or client_id is not among the agent's upstream_clients")
}

/// Who may spend a token of ours: with `may_act` the agent named and no other; without it its own actor, or an
/// agent that the task type lets the actor hand over to (DESIGN §4, T12, T13).
fn may_spend_capability(parent: &Parent, agent: &Agent) -> Result<(), Refusal> {
    let own = &agent.spec.client_id;
    let instance_bound = parent.grant.chain.current().instance.is_some();
    match &parent.grant.may_act {
        Some(named) if named == own => Ok(()),
        Some(_) => Err(Refusal::NotYours { why: "its may_act names another agent".to_owned() }),
        None if !parent.hands_over_to(agent) => Ok(()),
        None if instance_bound => Err(Refusal::Instance),
        None if parent.began_with.edges_between(&parent.holder, agent).next().is_some() => Ok(()),
        None => Err(Refusal::NoEdge { from: parent.grant.agent.clone(), to: own.clone() }),
    }
}

pub(super) fn login(session: &Session) -> Login {
    Login {
        auth_time: session.auth_time.map(|t| t.timestamp()),
        acr: session.acr.clone(),
        amr: (!session.amr.is_empty()).then(|| session.amr.clone()),
    }
}

/// Refuses a token of ours that has expired: `exp` has no leeway.
pub(super) fn not_expired(at: &Moment, claims: &TokenClaims) -> Result<(), Refusal> {
    if claims.exp > at.now.timestamp() {
        return Ok(());
    }
    Err(Refusal::Subject(TokenFault {
        code: "expired",
        why: "the token has expired".to_owned(),
        retry: Retry::NewSession,
    }))
}

/// What was approved of the parent and holds for this child too: for the same agent, and for the one that people saw it
/// handed to. A further hand-over is asked for anew.
fn inherited(parent: &Parent, agent: &Agent, wish: &Wish) -> Option<Approved> {
    let was_named = parent.grant.may_act.as_ref() == Some(&agent.spec.client_id);
    let same = wish.delegate_to.is_none() && (was_named || !parent.hands_over_to(agent));
    parent.approval.as_ref().filter(|_| same).map(Approved::inherited)
}

/// The chain of the child: continued by the same agent, nested once under another (TX-13, T15).
fn next_chain(parent: &Parent, agent: &Agent, actor: Actor) -> Result<Chain, Refusal> {
    let held = &parent.grant.chain;
    if parent.hands_over_to(agent) {
        return held.hand_over(actor).map_err(Refusal::Chain);
    }
    match (&held.current().instance, actor.instance) {
        (None, None) => Ok(held.clone()),
        (None, Some(instance)) => Ok(held.with_instance(instance)),
        (Some(bound), Some(proved)) if *bound == proved => Ok(held.clone()),
        (Some(_), _) => Err(Refusal::Instance),
    }
}

pub(super) fn serves(agent: &Agent, tenant: &Name) -> Result<(), Refusal> {
    if agent.reach.serves(tenant) { Ok(()) } else { Err(Refusal::AgentNotServed) }
}

/// The task type of a root exchange: the one named, else the agent's default, else the only one it may start.
pub(super) fn pick_task_type(
    snapshot: &Snapshot,
    agent: &Agent,
    tenant: &Name,
    named: Option<&Name>,
) -> Result<Arc<TaskType>, Refusal> {
    let choices = || snapshot.startable(tenant, agent).into_keys().cloned().collect();
    let Some(name) = named.or(agent.spec.default_task_type.as_ref()) else {
        let startable = snapshot.startable(tenant, agent);
        return match (startable.len(), startable.into_values().next()) {
            (1, Some(only)) => Ok(only.clone()),
            _ => Err(Refusal::TaskTypeMissing { choices: choices() }),
        };
    };
    let unavailable = |why| Refusal::TaskType { name: name.clone(), why, choices: choices() };
    let task_type = snapshot.task_type(tenant, name).ok_or_else(|| unavailable("does not exist"))?;
    if task_type.spec.disabled {
        return Err(unavailable("is disabled"));
    }
    if !task_type.may_start(agent) {
        return Err(unavailable("may not be started by this agent"));
    }
    Ok(task_type.clone())
}

/// The task's type as it stands today: gone or disabled refuses every exchange below it (T20).
fn task_type_in_force(at: &Moment, parent: &Parent) -> Result<Arc<TaskType>, Refusal> {
    let (tenant, name) = (&parent.task.tenant, &parent.task.task_type);
    let in_force = at.world.snapshot.task_type(tenant, name);
    let in_force = in_force.filter(|t| t.reach.tenant == parent.task.task_type_tenant && !t.spec.disabled);
    in_force.cloned().ok_or_else(|| Refusal::TaskType {
        name: name.clone(),
        why: "is disabled or gone, and with it this task",
        choices: BTreeSet::new(),
    })
}

/// `authorization_details` by the tenant's registered schemas and rules (RA-02).
fn read_details(at: &Moment, tenant: &Name, wish: &Wish) -> Result<Option<Details>, Refusal> {
    let Some(value) = &wish.details else { return Ok(None) };
    let details = Details::read(value, &at.world.snapshot.detail_rules(tenant)).map_err(Refusal::Details)?;
    at.world.schemas.validate(tenant, value).map_err(Refusal::Details)?;
    Ok(Some(details))
}

fn fault(code: &'static str, why: &dyn std::fmt::Display) -> Refusal {
    Refusal::Subject(TokenFault { code, why: why.to_string(), retry: Retry::Never })
}

fn subject(jws: &JwsFault) -> Refusal {
    fault("invalid", jws)
}
