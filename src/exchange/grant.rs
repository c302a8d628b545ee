//! Steps 6 to 9: attenuation within the ceilings, policy, and the last check before signing.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::Value;
use tracing::warn;

use super::deferral::Approved;
use super::lenience::{self, Said};
use super::limits::{Attenuated, attenuate, deadline, ends, lifetime, task_types};
use super::story::Story;
use super::verify::{Origin, Verified};
use super::{Exchange, Moment, facts};
use crate::domain::capability::{Capability, Grant, Lifetime, Widening, expiry, never_wider};
use crate::domain::ceiling::Wanted;
use crate::domain::chain::Chain;
use crate::domain::claims::{Envelope, TokenClaims};
use crate::domain::decision::Reason;
use crate::domain::details::MAX_DETAILS;
use crate::domain::envelope::{EnvelopeUse, OpenEnvelope};
use crate::domain::ids::{ApprovalId, DecisionId, Jti, TaskId, shown};
use crate::domain::objects::ApprovalWhen;
use crate::domain::record::{SessionKey, TaskRecord, TokenRecord};
use crate::domain::refusal::Refusal;
use crate::domain::request::Target;
use crate::domain::resource::ResourceUri;
use crate::domain::snapshot::{Resource, TaskType};
use crate::hash::sha256;
use crate::keys::jws::MAX_COMPACT;
use crate::policy::candidate::{Judged, Shadow};
use crate::policy::comparison::Unjudged;
use crate::policy::fault::PolicyFault;
use crate::policy::input::PolicyInput;
use crate::policy::judgement::{Judgement, Outcome};
use crate::policy::mode::Mode;
use crate::policy::replay::TASK_TYPE_APPROVAL;
use crate::status::record_of;

/// Longest claims in bytes: as Base64, with a header and the longest signature, they stay below [`MAX_COMPACT`].
const MAX_CLAIMS: usize = (MAX_COMPACT - 1024) / 4 * 3;

/// A decision to grant, with everything the commit needs.
pub(super) struct Granted {
    pub(super) grant: Grant,
    pub(super) claims: TokenClaims,
    /// SHA-256 of the claims: the token's record keeps it.
    pub(super) digest: [u8; 32],
    /// The task that begins with it.
    pub(super) task: Option<TaskRecord>,
    pub(super) session: SessionKey,
    pub(super) task_type: Arc<TaskType>,
    /// The hash of the claims that the parent showed.
    pub(super) parent_digest: Option<[u8; 32]>,
    /// The generation of the configuration that it was decided by.
    pub(super) generation: i64,
    /// The single-use token it spends, and that token's expiry.
    pub(super) spends: Option<(Jti, DateTime<Utc>)>,
    pub(super) issued_at: DateTime<Utc>,
    pub(super) narrowed: Vec<&'static str>,
    pub(super) dry_run: bool,
    /// What people must approve first; empty where nobody has to.
    pub(super) asks: Vec<Reason>,
    /// The approval that it redeems.
    pub(super) redeems: Option<ApprovalId>,
    /// The envelope that opens with it.
    pub(super) opens: Option<Box<OpenEnvelope>>,
    /// The envelope that it uses, and how often that was used before.
    pub(super) uses: Option<(EnvelopeUse, u32)>,
}

impl Exchange {
    /// Grants `verified` within every ceiling, or refuses with the reason (L1, L2, L8).
    pub(super) fn grant(
        &self,
        at: &Moment,
        verified: &Verified,
        story: &mut Story,
    ) -> Result<Granted, Refusal> {
        let wanted = self.wanted(at, verified)?;
        check_delegate(at, verified, &wanted)?;
        let (attenuated, cut) = within_approval(verified, attenuate(verified, wanted)?);
        let judgement = self.judge(at, verified, &attenuated, story)?;
        let (grant, narrowed) = self.narrow(at, verified, attenuated, (&judgement, cut))?;
        match &verified.origin {
            Origin::Parent(parent) => never_wider(&parent.grant, &grant).map_err(Refusal::Widens)?,
            Origin::Session { .. } if grant.capability.expires_at > grant.task_deadline => {
                return Err(Refusal::Widens(Widening::Expiry));
            }
            Origin::Session { .. } => {}
        }
        let grant = within_what_was_asked(at, verified, grant)?;
        self.granted(at, verified, grant, (narrowed, judgement.require_approval))
    }

    /// The request's wish with its targets resolved to registered resources. Our own issuer among them asks for
    /// an exchange-only token.
    fn wanted(&self, at: &Moment, verified: &Verified) -> Result<Wanted, Refusal> {
        let mut resources = BTreeSet::new();
        let mut exchange_only = false;
        for target in &verified.wish.targets {
            if target.as_str() == self.parts.issuer {
                exchange_only = true;
            } else {
                let found = find(at, verified, target);
                let resource =
                    found.ok_or_else(|| Refusal::UnknownTarget { asked: shown(target.as_str()) })?;
                resources.insert(resource.spec.uri.clone());
            }
        }
        if exchange_only && verified.task_type.is_built_in() {
            return Err(Refusal::malformed("audience", "what opens the admin API is for it alone (depth 0)"));
        }
        let resources = (!resources.is_empty()).then_some(resources);
        let (scopes, details) = (verified.wish.scope.clone(), verified.details.clone());
        Ok(Wanted { scopes, resources, details, exchange_only })
    }

    /// Step 7: policy on the verified facts as far as it bites in the mode of this moment, and what the task type itself wants
    /// approved, which no mode lifts. What opens the admin API no bundle is asked about: a bad one must not keep out who would
    /// replace it (DESIGN §9).
    fn judge(
        &self,
        at: &Moment,
        verified: &Verified,
        attenuated: &Attenuated,
        story: &mut Story,
    ) -> Result<Judgement, Refusal> {
        if verified.task_type.is_built_in() {
            return Ok(Judgement::unasked());
        }
        let wanted = &attenuated.wanted;
        let asked = facts::Asked {
            authority: &attenuated.authority,
            ceilings: &attenuated.ceilings,
            lifetime: lifetime(verified, wanted),
            depth_left: attenuated.depth_left,
            exchange_only: wanted.exchange_only,
            stats: self.tasks.stats(tree(&verified.origin)),
        };
        let input = facts::input(&self.parts.environment, at, verified, &asked);
        let approved = verified.approved.as_ref().is_some_and(|a| a.covers(TASK_TYPE_APPROVAL));
        let asks = needs_approval(verified, wanted) && !approved;
        let mode = at.world.policy.mode(at.now);
        let (judgement, let_pass) = if mode == Mode::Off {
            story.not_asked(&input, &at.world.policy);
            (Ok(Judgement::unasked()), Some(lenience::unasked()))
        } else {
            let unjudged = Unjudged { lifetime: unjudged_lifetime(at, verified, wanted), asks };
            self.ask_policy(at, (mode, input, unjudged), story).in_mode(mode, self.parts.on_error)
        };
        if let Some(record) = let_pass {
            self.parts.metrics.policy_let_pass(&record.mode, record.change.as_deref());
            story.let_pass(record);
        }
        let mut judgement = judgement.map_err(|fault| Refusal::PolicyFault { why: fault.to_string() })?;
        if asks {
            judgement.require_approval.insert(always_approved());
        }
        match judgement.outcome() {
            Outcome::Allow | Outcome::RequireApproval => Ok(judgement),
            Outcome::Deny => Err(Refusal::Policy { reasons: judgement.deny.into_iter().collect() }),
        }
    }

    /// Asks the bundle in force and, where one is tried, the candidate: one of both judgements counts; the other one is compared
    /// with it, and no more.
    fn ask_policy(
        &self,
        at: &Moment,
        (mode, input, unjudged): (Mode, PolicyInput, Unjudged),
        story: &mut Story,
    ) -> Said {
        let policy = &at.world.policy;
        let judged = if mode == Mode::Enforce { policy.judge(&input) } else { policy.observe(&input) };
        let Judged { bites, shadow, pauses } = judged;
        self.parts.metrics.judged(bites.took);
        let shadowed = shadow.as_ref().map(|shadow| &shadow.ruling.judgement);
        let panics = |judged: &Result<_, PolicyFault>| judged.as_ref().is_err_and(PolicyFault::is_panic);
        if [Some(&bites.judgement), shadowed].into_iter().flatten().any(panics) {
            self.parts.metrics.panicked();
        }
        if pauses {
            self.parts.metrics.candidate_paused();
            warn!(
                "the policy candidate runs over its limits again and again: as a shadow it is asked no more"
            );
        }
        story.judged(&bites, policy.data(), &input);
        let by_candidate = shadow.as_ref().is_some_and(Shadow::is_canary);
        if let Some(shadow) = shadow {
            self.parts.metrics.candidate_judged(shadow.candidate_took(&bites));
            story.tried(shadow.compare(&bites, input.clone(), unjudged));
        }
        Said { input, unjudged, by_candidate, judgement: bites.judgement }
    }

    /// What policy limits is taken away, and said so; nothing left is a denial (L8). Then every ceiling once more.
    fn narrow(
        &self,
        at: &Moment,
        verified: &Verified,
        attenuated: Attenuated,
        (judgement, mut narrowed): (&Judgement, Vec<&'static str>),
    ) -> Result<(Grant, Vec<&'static str>), Refusal> {
        let Attenuated { wanted, ceilings, mut authority, depth_left } = attenuated;
        if let Some(allowed) = judgement.limits.scopes() {
            let kept = authority.scopes.iter().filter(|s| allowed.contains(s.as_str())).cloned().collect();
            if kept != authority.scopes {
                narrowed.push("scope");
                narrowed.dedup();
                authority.scopes = kept;
            }
        }
        let asked = lifetime(verified, &wanted);
        let ends = ends(at, verified);
        let unlimited = expiry(at.now, asked, &ends);
        let limit = judgement.limits.lifetime().map_or(u32::MAX, |s| u32::try_from(s).unwrap_or(u32::MAX));
        let limit = limit.min(verified.approved.as_ref().and_then(Approved::lifetime).unwrap_or(u32::MAX));
        let expires_at = expiry(at.now, Lifetime { max: asked.max.min(limit), ..asked }, &ends);
        if expires_at < unlimited {
            narrowed.push("expires_in");
        }
        if unlimited <= at.now {
            return Err(Refusal::Expired);
        }
        if authority.scopes.is_empty() || expires_at <= at.now {
            return Err(Refusal::NarrowedToNothing);
        }
        ceilings.admits(&authority, wanted.exchange_only).map_err(Refusal::Excess)?;
        let sender_key = None;
        let capability = Capability { authority, expires_at, depth_left, sender_key };
        Ok((self.to_grant(at, verified, &wanted, capability), narrowed))
    }

    fn to_grant(&self, at: &Moment, verified: &Verified, wanted: &Wanted, capability: Capability) -> Grant {
        let (task_id, task_deadline) = match &verified.origin {
            Origin::Session { .. } => (self.parts.random.task(at.now), deadline(at, verified)),
            Origin::Parent(parent) => (parent.task.id, parent.grant.task_deadline),
        };
        Grant {
            tenant: verified.tenant.clone(),
            principal: verified.principal.clone(),
            task_id,
            task_deadline,
            agent: verified.agent.spec.client_id.clone(),
            chain: verified.chain.clone(),
            capability,
            exchange_only: wanted.exchange_only,
            may_act: verified.wish.delegate_to.clone(),
        }
    }

    fn granted(
        &self,
        at: &Moment,
        verified: &Verified,
        grant: Grant,
        (narrowed, asks): (Vec<&'static str>, BTreeSet<Reason>),
    ) -> Result<Granted, Refusal> {
        let parent = match &verified.origin {
            Origin::Session { .. } => None,
            Origin::Parent(parent) => Some(parent),
        };
        let began_with = parent.map_or(&verified.task_type, |p| &p.began_with).clone();
        let envelope = Envelope {
            issuer: self.parts.issuer.clone(),
            jti: self.parts.random.jti(at.now),
            parent: parent.map(|p| p.jti),
            iat: at.now,
            subject: verified.subject.clone(),
            task_type: began_with.label(),
            login: verified.login.clone(),
            approval: verified.approved.as_ref().map(Approved::claim),
            status: self.parts.status.draw(grant.capability.expires_at).map_err(|_| Refusal::StoreFault)?,
        };
        let claims = TokenClaims::new(&grant, envelope);
        let canonical = claims.canonical();
        if is_too_large(&claims, &canonical) {
            return Err(Refusal::TooLarge);
        }
        let (task, session) = match &verified.origin {
            Origin::Session { key, .. } => (Some(new_task(at, verified, &grant, key)), key.clone()),
            Origin::Parent(parent) => (None, parent.task.session.clone()),
        };
        let approved = verified.approved.as_ref();
        let redeems = approved.and_then(|approved| approved.redeems);
        let opens = approved.and_then(|approved| approved.opens(&grant)).map(Box::new);
        let uses = approved.and_then(|approved| approved.uses);
        // What is redeemed has spent it when it was deferred.
        let spends = parent.filter(|p| p.grant.may_act.is_some() && redeems.is_none());
        Ok(Granted {
            parent_digest: parent.map(|p| p.digest),
            generation: at.world.generation,
            spends: spends.map(|p| (p.jti, p.grant.capability.expires_at)),
            grant,
            claims,
            digest: sha256(&[&canonical]),
            task,
            session,
            task_type: began_with,
            issued_at: at.now,
            narrowed,
            dry_run: verified.wish.dry_run,
            asks: asks.into_iter().collect(),
            redeems,
            opens,
            uses,
        })
    }
}

/// What people approved bounds the token in every dimension, by the same order as a parent does (L1, AP-02): what was left to a
/// default, or to policy, may have grown since.
fn within_what_was_asked(at: &Moment, verified: &Verified, mut grant: Grant) -> Result<Grant, Refusal> {
    let rules = at.world.snapshot.detail_rules(&verified.tenant);
    let Some(most) = verified.approved.as_ref().and_then(|approved| approved.most(&rules, at, &grant)) else {
        return Ok(grant);
    };
    let most = most?;
    grant.capability.depth_left = grant.capability.depth_left.min(most.capability.depth_left);
    if verified.is_root() {
        grant.task_deadline = grant.task_deadline.min(most.task_deadline);
    }
    let wider = |widening: Widening| {
        let message = format!("the token would be wider than what people approved: {widening}; ask again");
        let reason = Reason { code: "wider_than_approved".to_owned(), message, public: true };
        Refusal::NotCovered { reasons: vec![reason] }
    };
    never_wider(&most, &grant).map_err(wider)?;
    Ok(grant)
}

/// Seconds that the token would live if policy took nothing away.
fn unjudged_lifetime(at: &Moment, verified: &Verified, wanted: &Wanted) -> u64 {
    let most = verified.approved.as_ref().and_then(Approved::lifetime).unwrap_or(u32::MAX);
    let asked = lifetime(verified, wanted);
    let latest = expiry(at.now, Lifetime { max: asked.max.min(most), ..asked }, &ends(at, verified));
    u64::try_from(latest.timestamp() - at.now.timestamp()).unwrap_or(0)
}

/// What the approvers left of what is asked for, before policy is asked again (AP-02); and whether that is less.
fn within_approval(verified: &Verified, mut attenuated: Attenuated) -> (Attenuated, Vec<&'static str>) {
    let Some(left) = verified.approved.as_ref().and_then(Approved::scopes) else {
        return (attenuated, Vec::new());
    };
    let kept = attenuated.authority.scopes.intersection(left);
    let cut = if kept == attenuated.authority.scopes { Vec::new() } else { vec!["scope"] };
    attenuated.authority.scopes = kept;
    (attenuated, cut)
}

/// The task and the token that the new one will stand below; none for a root.
fn tree(origin: &Origin) -> Option<(TaskId, Jti)> {
    match origin {
        Origin::Session { .. } => None,
        Origin::Parent(parent) => Some((parent.task.id, parent.jti)),
    }
}

/// The registered resource that a target names, if it serves the tenant (L10).
fn find<'a>(at: &'a Moment, verified: &Verified, target: &Target) -> Option<&'a Arc<Resource>> {
    let snapshot = &at.world.snapshot;
    let by_uri = |uri: &ResourceUri| snapshot.resource(&verified.tenant, uri);
    match target {
        Target::Uri(uri) => by_uri(uri),
        Target::Audience(name) => {
            let named = name.parse().ok().and_then(|name| snapshot.resource_named(&verified.tenant, &name));
            named.or_else(|| by_uri(&name.parse().ok()?))
        }
    }
}

/// `delegate_to` makes a hand-over token: exchange-only, for an agent that an edge leads to and a chain that has
/// room for it. The edge's own limits bite when that agent redeems it.
fn check_delegate(at: &Moment, verified: &Verified, wanted: &Wanted) -> Result<(), Refusal> {
    let Some(to) = &verified.wish.delegate_to else { return Ok(()) };
    if !wanted.exchange_only {
        return Err(Refusal::malformed("delegate_to", "needs `audience` set to this server's issuer"));
    }
    let known = at.world.snapshot.standing_agent(to.as_str(), &verified.tenant);
    let known = known.ok_or_else(|| Refusal::malformed("delegate_to", "no such agent serves this tenant"))?;
    if verified.chain.actors().any(|actor| actor.sub == to.as_str()) {
        return Err(Refusal::Chain(crate::domain::chain::BadChain::Repeated));
    }
    let from = verified.agent.spec.client_id.clone();
    let lets = |task_type: &TaskType| task_type.edges_between(&verified.agent, known).next().is_some();
    if task_types(verified).all(|t| lets(t)) { Ok(()) } else { Err(Refusal::NoEdge { from, to: to.clone() }) }
}

/// `approval: always` asks at each root exchange and each hand-over, whatever policy says (DESIGN §5).
fn needs_approval(verified: &Verified, wanted: &Wanted) -> bool {
    let hand_over = wanted.exchange_only && verified.wish.delegate_to.is_some();
    let crosses = match &verified.origin {
        Origin::Session { .. } => true,
        Origin::Parent(parent) => hand_over || parent.hands_over_to(&verified.agent),
    };
    crosses && task_types(verified).any(|t| t.spec.approval.when == ApprovalWhen::Always)
}

fn always_approved() -> Reason {
    Reason {
        code: TASK_TYPE_APPROVAL.to_owned(),
        message: "this task type always needs a person's approval".to_owned(),
        public: true,
    }
}

fn new_task(at: &Moment, verified: &Verified, grant: &Grant, session: &SessionKey) -> TaskRecord {
    TaskRecord {
        id: grant.task_id,
        tenant: grant.tenant.clone(),
        principal: grant.principal.clone(),
        session: session.clone(),
        started_by: grant.agent.clone(),
        task_type_tenant: verified.task_type.reach.tenant.clone(),
        task_type: verified.task_type.name.clone(),
        task_type_version: verified.task_type.version,
        created_at: at.now,
        deadline: grant.task_deadline,
        facts: verified.facts.clone(),
    }
}

/// Whether the token would be one that we refuse to read back: then it could be neither narrowed nor revoked (T21).
fn is_too_large(claims: &TokenClaims, canonical: &[u8]) -> bool {
    let details = claims.authorization_details.as_ref().and_then(Value::as_array).map_or(0, Vec::len);
    details > MAX_DETAILS || canonical.len() > MAX_CLAIMS
}

impl Granted {
    /// The token's record, signed by the key `kid`. The commit fills in the ancestors.
    pub(super) fn record(&self, kid: String, decision_id: DecisionId) -> TokenRecord {
        let grant = &self.grant;
        let own_agents = |chain: &Chain| {
            let iss = &self.claims.iss;
            chain.actors().filter(|a| a.iss == *iss).filter_map(|a| a.sub.parse().ok()).collect()
        };
        TokenRecord {
            jti: self.claims.jti,
            task_id: grant.task_id,
            tenant: grant.tenant.clone(),
            parent: self.claims.parent_jti,
            ancestors: Vec::new(),
            principal: grant.principal.clone(),
            session: self.session.clone(),
            agent: grant.agent.clone(),
            chain_agents: own_agents(&grant.chain),
            chain: self.claims.act.clone(),
            task_type_tenant: self.task_type.reach.tenant.clone(),
            task_type: self.task_type.name.clone(),
            task_type_version: self.task_type.version,
            capability_digest: self.digest,
            audience: (!grant.exchange_only).then(|| self.claims.aud.clone()),
            iat: self.issued_at,
            exp: grant.capability.expires_at,
            key_thumbprint: grant.capability.sender_key.clone(),
            status: self.claims.status.as_ref().map(record_of),
            approval_id: self.claims.approval.as_ref().map(|a| a.id),
            decision_id,
            kid,
            signers: Vec::new(),
        }
    }

    /// The token's id.
    pub(super) fn jti(&self) -> Jti {
        self.claims.jti
    }

    /// The token it is narrowed from; none for a root.
    pub(super) fn parent(&self) -> Option<Jti> {
        self.claims.parent_jti
    }

    /// The task it belongs to.
    pub(super) fn task_id(&self) -> TaskId {
        self.grant.task_id
    }
}
