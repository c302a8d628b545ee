//! On whose word the configuration is changed, and whether that is enough: some changes take two persons, where the deployment
//! says so (DESIGN §6).

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};
use thiserror::Error;
use tracing::warn;

use super::standing::By;
use super::{Inner, LoadFault, Next};
use crate::configuration::plan::{Action, Before, Step, within};
use crate::domain::objects::{ObjectKind, Role, Spec};
use crate::domain::proposal::{Answered, Guarded, Person, Proposal, Unsettled};
use crate::domain::snapshot::Snapshot;
use crate::store::change::{CarriesOut, Configure, Loss};
use crate::store::error::StoreError;

/// Code of the reason for which one person's change is refused.
const NEEDED: &str = "two_persons_needed";

/// On whose word something is changed.
#[derive(Clone, Debug)]
pub struct Word {
    account: String,
    persons: Persons,
}

#[derive(Clone, Debug)]
enum Persons {
    /// One, who cannot propose: an account of the machine, or the server itself.
    Alone,
    /// One, who proposes what takes two.
    Proposes,
    /// Two.
    Two(Arc<Confirmed>),
}

/// What a second person has confirmed.
#[derive(Clone, Debug)]
pub(super) struct Confirmed {
    pub(super) proposal: Proposal,
    /// Who confirms.
    pub(super) by: Person,
    /// Why, in their words.
    pub(super) reason: Option<String>,
}

impl Word {
    /// The word of an administrator, who may propose what takes two persons.
    pub fn of_administrator(account: String) -> Self {
        Self { account, persons: Persons::Proposes }
    }

    pub(super) fn of_two(confirmed: Confirmed) -> Self {
        let account =
            format!("{}, confirmed by {}", confirmed.proposal.proposer.account, confirmed.by.account);
        Self { account, persons: Persons::Two(Arc::new(confirmed)) }
    }

    /// As the log names them.
    pub fn account(&self) -> &str {
        &self.account
    }

    /// Whether it is that of an account of the machine: its break-glass takes nobody else.
    pub(super) fn is_of_machine(&self) -> bool {
        matches!(self.persons, Persons::Alone)
    }
}

impl From<&str> for Word {
    fn from(account: &str) -> Self {
        Self { account: account.to_owned(), persons: Persons::Alone }
    }
}

impl From<&Self> for Word {
    fn from(word: &Self) -> Self {
        word.clone()
    }
}

impl From<&String> for Word {
    fn from(account: &String) -> Self {
        account.as_str().into()
    }
}

/// What one person's word is not enough for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needed {
    /// Why it takes two.
    pub needs: BTreeSet<Guarded>,
    /// What it would do.
    pub effect: Value,
}

/// Why a change is not agreed on.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Unagreed {
    /// It takes two persons.
    #[error(
        "this takes two persons here ({}), and an account of the machine is none: sign in with `taskgrant login --role admin` and \
         say it with --server; somebody else then confirms it",
        listed(&.0.needs)
    )]
    Needed(Box<Needed>),
    /// It would not do what was shown.
    #[error("it would now do something else than was shown, so that nothing is done: propose it again")]
    Superseded,
    /// Who proposed it is no administrator any more.
    #[error("who proposed this is no administrator any more, so that nothing is done")]
    NoProposer,
    /// Who confirms is none any more.
    #[error("no Administrator object gives you the role `approve` any more")]
    NoConfirmer,
    /// The commit found that it does not hold.
    #[error("{0}")]
    Lost(Loss),
    /// Who administers cannot be read.
    #[error("the store is not available: {0}")]
    Unavailable(String),
}

impl Unagreed {
    /// Whether it has to be proposed again: nothing that anybody does now would have it carried out.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::Superseded | Self::NoProposer | Self::Lost(Loss::Unsettled(Unsettled::ProposerRevoked)) => {
                true
            }
            Self::Needed(_) | Self::NoConfirmer | Self::Lost(_) | Self::Unavailable(_) => false,
        }
    }
}

impl From<StoreError> for Unagreed {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<LoadFault> for Unagreed {
    fn from(fault: LoadFault) -> Self {
        Self::Unavailable(fault.to_string())
    }
}

/// The words of these, as people read them.
fn listed(needs: &BTreeSet<Guarded>) -> String {
    let words: Vec<&str> = needs.iter().map(|what| what.as_str()).collect();
    format!("`admin.two_persons`: {}", words.join(", "))
}

/// A change that is ready for its commit.
pub(super) struct Ready {
    /// What of it may take two persons.
    pub(super) needs: BTreeSet<Guarded>,
    /// What it does, in a form that is compared.
    pub(super) effect: Value,
    /// The generation that it was computed from.
    pub(super) base: i64,
}

impl Ready {
    /// A change of the policy, which takes two persons if it is `guarded` and the deployment says so.
    pub(super) fn policy(guarded: bool, effect: Value, base: i64) -> Self {
        Self { needs: guarded.then_some(Guarded::Policy).into_iter().collect(), effect, base }
    }
}

impl Inner {
    /// Whether the word is enough for a change that is ready for its commit, and the proposal that it carries out. Only for the holder
    /// of the turn: what is agreed on is what is committed, or the commit is superseded.
    pub(super) async fn agreed(&self, by: By<'_>, ready: Ready) -> Result<Option<CarriesOut>, Unagreed> {
        let confirmed = match &by.word.persons {
            Persons::Two(confirmed) => confirmed,
            Persons::Alone | Persons::Proposes => {
                let needs = self.two_persons.of(&ready.needs);
                if needs.is_empty() || self.is_being_set_up().await? {
                    return Ok(None);
                }
                let needed = Unagreed::Needed(Box::new(Needed { needs, effect: told(&ready.effect) }));
                if matches!(by.word.persons, Persons::Alone)
                    && let Err(fault) = self.record_refusal((NEEDED, &needed.to_string()), by).await
                {
                    warn!(%fault, "a change that takes two persons was refused, which could not be recorded");
                }
                return Err(needed);
            }
        };
        let Confirmed { proposal, by: second, reason } = confirmed.as_ref();
        if proposal.effect != told(&ready.effect) {
            return Err(Unagreed::Superseded);
        }
        if self.active.load().generation != ready.base {
            self.take_stored().await?;
        }
        let snapshot = self.active.load().snapshot.clone();
        if !is(&snapshot, &proposal.proposer, Role::Admin) {
            return Err(Unagreed::NoProposer);
        }
        if !is(&snapshot, second, Role::Approve) {
            return Err(Unagreed::NoConfirmer);
        }
        let answered = Answered {
            account: second.account.clone(),
            principal: Some(second.principal.clone()),
            reason: reason.clone(),
            at: self.clock.now(),
            decision_id: proposal.decision_id,
        };
        let (proposal, digest, killed_by) = (proposal.id, proposal.digest.clone(), second.killed_by.clone());
        Ok(Some(CarriesOut { proposal, digest, by: answered, killed_by }))
    }

    /// Whether nobody has ever administered: then nobody could propose anything.
    async fn is_being_set_up(&self) -> Result<bool, StoreError> {
        Ok(self.store.object_versions(ObjectKind::Administrator).await?.is_empty())
    }
}

/// Has `configure` carry out what was agreed on, if anything was, and its decision say so.
pub(super) fn carrying(mut configure: Configure, agreed: Option<CarriesOut>) -> Configure {
    let Some(mut carries) = agreed else { return configure };
    let decision = &mut configure.decision;
    (carries.by.at, carries.by.decision_id) = (decision.at, decision.id);
    if let Some(asked) = decision.record.asked.as_object_mut() {
        asked.insert("proposal".to_owned(), json!(carries.proposal));
        asked.insert("confirmed_by".to_owned(), json!(carries.by.principal));
    }
    configure.carries_out = Some(Box::new(carries));
    configure
}

/// The effect as the store gives it back: so that both sides of a comparison went the same way.
fn told(effect: &Value) -> Value {
    serde_json::from_str(&effect.to_string()).unwrap_or_default()
}

/// Whether they still administer in this role and through their console, by what their session said then: a group cannot be asked
/// again.
fn is(snapshot: &Snapshot, person: &Person, role: Role) -> bool {
    let Person { principal, tenant, facts, client_id, .. } = person;
    let console = snapshot.agent(client_id).filter(|agent| agent.spec.class.is_console());
    let issuer = snapshot.issuer(&principal.iss);
    console.is_some_and(|console| !console.spec.disabled)
        && issuer.is_some_and(|issuer| issuer.roles(tenant, principal, facts).contains(&role))
}

/// Says how what the folders hold, or the program brings where there are none, comes into force where that takes two persons.
pub fn warn_of_two(policy: &str) {
    warn!(
        policy,
        "the bundle of the policy folders, or the starter, is another one than that in force, and is not taken: `admin.two_persons` \
         has `policy`, so an administrator proposes it with `taskgrant policy reload --server URL`, and a second one confirms"
    );
}

/// What of an apply may take two persons. To take away never does.
pub(super) fn needs(before: &Before, next: &Next) -> BTreeSet<Guarded> {
    let mut needs = BTreeSet::new();
    if next.plan.widenings().next().is_some() {
        needs.insert(Guarded::Widening);
    }
    for step in next.plan.told().filter(|step| step.action != Action::Retire) {
        let mut differences =
            step.formers.iter().flat_map(|former| &former.differences).chain(&step.differences);
        if differences.any(|difference| is_told_to_policy(&difference.path)) {
            needs.insert(Guarded::Policy);
        }
        if step.object.kind == ObjectKind::Exception && step.action != Action::Keep {
            needs.insert(Guarded::Exceptions);
        }
        let gives = step.action == Action::Create || !step.widenings.is_empty();
        if gives && tells_who_administers(step, before, &next.snapshot) {
            needs.insert(Guarded::Administrators);
        }
    }
    needs
}

/// Whether rules go by what stands there: it is told to them as it is, and no widening.
fn is_told_to_policy(path: &str) -> bool {
    ["spec.labels", "spec.owner", "spec.principals"].iter().any(|told| within(path, told))
}

/// Whether the object says who administers, where they sign in, or through what.
fn tells_who_administers(step: &Step, before: &Before, after: &Snapshot) -> bool {
    let (tenant, name) = (&step.object.tenant, &step.object.name);
    match step.object.kind {
        ObjectKind::Administrator => true,
        ObjectKind::Agent => {
            after.agents().any(|a| a.reach.tenant == *tenant && a.name == *name && a.spec.class.is_console())
        }
        ObjectKind::TrustedIssuer => {
            let issuer = after.issuers().find(|i| i.reach.tenant == *tenant && i.name == *name);
            let was_named = |iss: &str| {
                let spec = before.current.iter().map(|object| &object.spec);
                spec.filter_map(|spec| if let Spec::Administrator(spec) = spec { Some(spec) } else { None })
                    .any(|administrator| administrator.issuer == iss)
            };
            issuer.is_some_and(|issuer| !issuer.administrators.is_empty() || was_named(&issuer.spec.issuer))
        }
        ObjectKind::Tenant
        | ObjectKind::WorkloadIssuer
        | ObjectKind::CertificateAuthority
        | ObjectKind::AuthorizationDetailType
        | ObjectKind::Resource
        | ObjectKind::TaskType
        | ObjectKind::Exception => false,
    }
}
