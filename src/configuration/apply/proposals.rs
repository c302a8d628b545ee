//! The use case: what takes two persons is proposed by one and carried out by the word of another (DESIGN §6). Read
//! [`Configuration::confirm`] first.
//!
//! A proposal holds the request itself and what that would have done. Confirmed, the request goes the way that it would have gone
//! at once, under the same turn and checks; where it would by then do anything else, it does nothing.

mod fault;

use std::collections::BTreeSet;
use std::path::PathBuf;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::task::spawn_blocking;
use tracing::{info, warn};

pub use self::fault::{ChangeFault, ProposalFault};
use super::candidate::CanaryOrder;
use super::kept::admitted;
use super::mode::ModeOrder;
use super::policy::{BundleFile, Origin, PolicyChangeFault};
use super::standing::By;
use super::word::{Confirmed, Needed, Unagreed, Word};
use super::{ApplyFault, Configuration, Inner, Options, Order, reason, recorded};
use crate::clock::Random;
use crate::configuration::documents::Source;
use crate::configuration::plan::Plan;
use crate::domain::decision::{Decision, Outcome};
use crate::domain::ids::{ClientId, DecisionId, ProposalId};
use crate::domain::principal::Principal;
use crate::domain::proposal::{Answered, Guarded, Person, Proposal, ProposalState, Unsettled, WAITS};
use crate::hash::sha256;
use crate::issuers::person::is_fresh;
use crate::policy::bundle::Bundle;
use crate::policy::data::DataPath;
use crate::store::change::{Change, CommitFault, Committed, Loss, Propose, Proposing};

/// Longest content of a proposal with its effect, in bytes of JSON.
const LONGEST: usize = 4 << 20;
/// Most proposals that wait at once.
const MOST_PENDING: u32 = 100;
/// Most of one person among them: nobody keeps others from proposing.
const MOST_OF_ONE: usize = 10;
/// Most that are listed.
const MOST_LISTED: u32 = 200;
/// Longest reason, in bytes.
const LONGEST_REASON: usize = 2000;
/// Who answers where no person does.
const BY_ITSELF: &str = "the server";

/// What is to be done: a request to the admin API, as it came.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command")]
pub enum Content {
    /// Apply documents.
    #[serde(rename = "apply")]
    Apply {
        /// The documents.
        documents: Vec<Source>,
        /// How.
        options: Options,
    },
    /// Put a bundle in force.
    #[serde(rename = "policy apply")]
    Policy {
        /// Its files.
        files: Vec<BundleFile>,
    },
    /// Put in force what the folders of the server held when this was proposed.
    #[serde(rename = "policy reload")]
    Folders {
        /// Its files.
        files: Vec<BundleFile>,
    },
    /// Put the candidate in force.
    #[serde(rename = "policy promote")]
    Promote {
        /// Its version, or the beginning of it; whichever it is when left out.
        version: Option<String>,
        /// Why, for the record.
        reason: String,
    },
    /// Put a bundle in force again that was so before the last one.
    #[serde(rename = "policy rollback")]
    Rollback {
        /// Its version, or the beginning of it.
        version: String,
    },
    /// Have the candidate bite for more.
    #[serde(rename = "policy canary")]
    Canary(CanaryOrder),
    /// Keep what policy says from biting.
    #[serde(rename = "policy mode")]
    Mode(ModeOrder),
    /// Put a data document in force.
    #[serde(rename = "policy data put")]
    PutData {
        /// Where.
        path: DataPath,
        /// The document, a JSON text.
        document: String,
        /// Why, for the record.
        reason: Option<String>,
    },
    /// Take a data document away.
    #[serde(rename = "policy data drop")]
    DropData {
        /// Where.
        path: DataPath,
        /// Why, for the record.
        reason: Option<String>,
    },
}

/// Who proposed something, as people see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposer {
    /// Who.
    pub principal: Principal,
    /// The console that they worked through.
    pub client_id: ClientId,
}

/// A proposal as people see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListedProposal {
    /// Its id.
    pub id: ProposalId,
    /// How it stands.
    pub state: ProposalState,
    /// The command that would do it at once.
    pub command: String,
    /// Why it takes two.
    pub needs: BTreeSet<Guarded>,
    /// Who proposed it.
    pub proposer: Proposer,
    /// Since when.
    pub created_at: DateTime<Utc>,
    /// Until when.
    pub expires_at: DateTime<Utc>,
    /// Names what is shown; who confirms says it.
    pub digest: String,
    /// What it does; left out of lists.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub effect: Value,
    /// The request, as it came; left out of lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Value>,
    /// The decision that made it.
    pub decision_id: DecisionId,
    /// How it ended; none while it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<Answered>,
}

/// What came of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProposalSettled {
    /// The proposal after it.
    pub proposal: ListedProposal,
    /// What was done, as the command itself would have told it; none of a rejection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<Value>,
    /// The decision that records it.
    pub decision_id: DecisionId,
}

impl ListedProposal {
    fn new(proposal: &Proposal, now: DateTime<Utc>) -> Self {
        let Person { principal, client_id, .. } = proposal.proposer.clone();
        Self {
            id: proposal.id,
            state: proposal.state_at(now),
            command: proposal.command.clone(),
            needs: proposal.needs.clone(),
            proposer: Proposer { principal, client_id },
            created_at: proposal.created_at,
            expires_at: proposal.expires_at,
            digest: proposal.digest.clone(),
            effect: proposal.effect.clone(),
            request: serde_json::from_str(&proposal.content).ok(),
            decision_id: proposal.decision_id,
            answered: proposal.answered.clone(),
        }
    }
}

impl Configuration {
    /// Keeps what one person's word was not enough for, so that a second person may confirm it.
    pub async fn propose(
        &self,
        content: &Content,
        needed: Needed,
        proposer: Person,
    ) -> Result<ListedProposal, ProposalFault> {
        let inner = &self.0;
        let unreadable = |error: serde_json::Error| ProposalFault::Unreadable(error.to_string());
        let content = serde_json::to_value(content).map_err(unreadable)?;
        let command = content.get("command").and_then(Value::as_str).unwrap_or_default().to_owned();
        let content = content.to_string();
        let Needed { needs, effect } = needed;
        let length = content.len().saturating_add(effect.to_string().len());
        if length > LONGEST {
            return Err(ProposalFault::TooLong(length));
        }
        let pending = inner.store.proposals_pending(MOST_PENDING).await?;
        let own = pending.iter().filter(|other| other.proposer.principal == proposer.principal).count();
        if own >= MOST_OF_ONE || u32::try_from(pending.len()).is_ok_and(|all| all >= MOST_PENDING) {
            return Err(ProposalFault::TooMany);
        }
        let now = inner.clock.now();
        let id = Random::default().proposal(now);
        let shown = json!({"id": id, "needs": needs, "effect": effect, "proposer": proposer.principal});
        let hash = sha256(&[shown.to_string().as_bytes(), b"\n", content.as_bytes()]);
        let digest = format!("sha256:{}", hex::encode(hash));
        let told = effect_recorded(&effect);
        let asked = json!({
            "command": "propose", "proposal": id, "proposed": command, "digest": digest, "effect": told,
        });
        let decision = inner.of(&proposer.account, asked, Outcome::RequireApproval)?;
        let proposal = Proposal {
            id,
            needs,
            command,
            content,
            effect,
            digest,
            proposer,
            created_at: now,
            expires_at: now + WAITS,
            state: ProposalState::Pending,
            decision_id: decision.id,
            answered: None,
        };
        let listed = ListedProposal::new(&proposal, now);
        let how = Proposing::Make(Box::new(proposal));
        inner.settle(Propose { proposal: id, how, decision }).await?;
        inner.metrics.proposal("propose");
        info!(proposal = %id, command = listed.command, "a change waits for a second person");
        Ok(listed)
    }

    /// A second person confirms what is named `digest`, and it is carried out: the request goes the way that it would have gone at once.
    ///
    /// Once begun, the change runs to its end also if the caller goes away.
    pub async fn confirm(
        &self,
        id: ProposalId,
        (digest, reason): (&str, Option<&str>),
        person: Person,
    ) -> Result<ProposalSettled, ProposalFault> {
        if reason.is_some_and(|reason| reason.len() > LONGEST_REASON) {
            return Err(ProposalFault::Reason);
        }
        let now = self.0.clock.now();
        let proposal = self.0.find_proposal(id).await?;
        let may = proposal.may_be_confirmed(&person.principal, digest, now).map_err(ProposalFault::from);
        let may = may.and_then(|()| Ok(is_fresh(person.auth_time, now)?));
        if let Err(refused) = may {
            return Err(self.0.refuse_answer(id, &person.account, refused).await);
        }
        let content = serde_json::from_str::<Content>(&proposal.content);
        let content = content.map_err(|error| ProposalFault::Unreadable(error.to_string()))?;
        let account = person.account.clone();
        let word = Word::of_two(Confirmed { proposal, by: person, reason: reason.map(str::to_owned) });
        let done = match self.carry_out(content, &word).await {
            Ok((done, Some(decision_id))) => Ok((done, decision_id)),
            Ok((_, None)) => Err(self.0.supersede(id, "nothing is left to be changed").await),
            Err(fault) => Err(self.of_two(id, fault, &account).await),
        };
        let (done, decision_id) = done?;
        self.0.metrics.proposal("confirm");
        info!(proposal = %id, %decision_id, "a second person has confirmed a change");
        Ok(ProposalSettled { proposal: self.proposal(id).await?, done: Some(done), decision_id })
    }

    /// Somebody who administers rejects what waits, or its proposer takes it back.
    pub async fn reject_proposal(
        &self,
        id: ProposalId,
        reason: &str,
        (account, principal): (&str, Option<Principal>),
    ) -> Result<ProposalSettled, ProposalFault> {
        if reason.trim().is_empty() || reason.len() > LONGEST_REASON {
            return Err(ProposalFault::Reason);
        }
        let inner = &self.0;
        inner.find_proposal(id).await?.must_wait(inner.clock.now())?;
        let asked = json!({"command": "proposals reject", "proposal": id, "reason": reason});
        let decision = inner.of(account, asked, Outcome::Deny)?;
        let by = Answered { principal, reason: Some(reason.to_owned()), ..answered(account, &decision) };
        let decision_id = decision.id;
        inner.settle(Propose { proposal: id, how: Proposing::Reject(by), decision }).await?;
        inner.metrics.proposal("reject");
        Ok(ProposalSettled { proposal: self.proposal(id).await?, done: None, decision_id })
    }

    /// What waits for a second person, what ends first first; with `all` also what is settled, the newest first.
    pub async fn proposals(&self, all: bool) -> Result<Vec<ListedProposal>, ProposalFault> {
        let (store, now) = (&self.0.store, self.0.clock.now());
        let kept = if all {
            store.proposals(MOST_LISTED).await?
        } else {
            store.proposals_pending(MOST_LISTED).await?
        };
        let kept = kept.iter().filter(|proposal| all || proposal.must_wait(now).is_ok());
        Ok(kept.map(|kept| ListedProposal::new(kept, now)).collect())
    }

    /// One proposal, with the whole request.
    pub async fn proposal(&self, id: ProposalId) -> Result<ListedProposal, ProposalFault> {
        Ok(ListedProposal::new(&self.0.find_proposal(id).await?, self.0.clock.now()))
    }

    /// Records what nobody answered in time, and whose proposer's word counts no more. What fails is tried again at the next turn.
    pub async fn tend_proposals(&self) {
        let inner = &self.0;
        let pending = match inner.store.proposals_pending(MOST_PENDING).await {
            Ok(pending) => pending,
            Err(fault) => return warn!(%fault, "what waits for a second person cannot be read"),
        };
        for proposal in pending {
            let tended = if proposal.must_wait(inner.clock.now()).is_err() {
                inner.expire(proposal.id).await
            } else {
                match inner.store.is_proposer_alive(&proposal).await {
                    Ok(true) => continue,
                    Ok(false) => inner.end(proposal.id, &Unsettled::ProposerRevoked.to_string()).await,
                    Err(fault) => Err(fault.into()),
                }
            };
            if let Err(fault) = tended {
                return warn!(%fault, "it is not recorded how a proposal ended");
            }
        }
    }

    /// What the folders of a server hold, to be proposed.
    pub async fn folder_content(&self, folders: Vec<PathBuf>) -> Result<Content, PolicyChangeFault> {
        let read = spawn_blocking(move || Bundle::of_folders(&folders)).await;
        let read = read.map_err(|ended| PolicyChangeFault::Unavailable(ended.to_string()))?;
        let bundle = read.map_err(|fault| PolicyChangeFault::Unfit(fault.into()))?;
        let file = |(path, text): (&str, &str)| BundleFile { path: path.to_owned(), text: text.to_owned() };
        Ok(Content::Folders { files: bundle.files().map(file).collect() })
    }

    /// Does what the request says; what it tells, and the decision that records it, if anything has changed.
    async fn carry_out(
        &self,
        content: Content,
        word: &Word,
    ) -> Result<(Value, Option<DecisionId>), ChangeFault> {
        let done = match content {
            Content::Apply { documents, options } => told(&self.apply(documents, options, word).await?),
            Content::Policy { files } => told(&self.apply_policy(files, word).await?),
            Content::Folders { files } => {
                let by = By::new("policy reload", word, None);
                told(&self.offer(admitted(files), Origin::Folders, by).await?)
            }
            Content::Promote { version, reason } => {
                told(&self.promote_candidate(version.as_deref(), &reason, word).await?)
            }
            Content::Rollback { version } => told(&self.roll_back_policy(Some(&version), word).await?),
            Content::Canary(order) => told(&self.set_canary(order, word).await?),
            Content::Mode(order) => told(&self.set_policy_mode(order, word).await?),
            Content::PutData { path, document, reason } => {
                told(&self.put_data(path, document.into_bytes(), (reason.as_deref(), word)).await?)
            }
            Content::DropData { path, reason } => {
                told(&self.drop_data(path, (reason.as_deref(), word)).await?)
            }
        };
        let decision_id = done.get("decision_id").and_then(|id| serde_json::from_value(id.clone()).ok());
        Ok((done, decision_id))
    }

    /// What it means that a confirmed change was not made.
    async fn of_two(&self, id: ProposalId, fault: ChangeFault, account: &str) -> ProposalFault {
        match fault.unagreed() {
            Some(Unagreed::NoConfirmer) => {
                self.0.refuse_answer(id, account, ProposalFault::NotYou(fault.to_string())).await
            }
            Some(Unagreed::Lost(Loss::Unsettled(unsettled))) if *unsettled != Unsettled::ProposerRevoked => {
                (*unsettled).into()
            }
            Some(Unagreed::Lost(Loss::Revoked { .. })) => ProposalFault::NotYou(fault.to_string()),
            Some(_) | None if fault.is_conflict() => {
                let proposal = self.0.find_proposal(id).await;
                let waits = proposal.and_then(|it| Ok(it.must_wait(self.0.clock.now())?));
                waits.err().unwrap_or(ProposalFault::Meanwhile)
            }
            Some(_) | None if fault.may_pass() => fault.into(),
            Some(_) | None => self.0.supersede(id, &fault.to_string()).await,
        }
    }
}

impl Inner {
    async fn find_proposal(&self, id: ProposalId) -> Result<Proposal, ProposalFault> {
        Ok(self.store.proposal(id).await?.ok_or(Unsettled::Unknown)?)
    }

    fn of(&self, account: &str, asked: Value, outcome: Outcome) -> Result<Decision, ApplyFault> {
        self.decision(&Order { options: Options::default(), actor: account, asked }, outcome)
    }

    /// Whether it is done: where another replica was first with what no person says, there is nothing left to be said.
    async fn settle(&self, propose: Propose) -> Result<bool, ProposalFault> {
        match self.writer.submit(propose).await? {
            Committed::Done(_) => Ok(true),
            Committed::Superseded { .. } => Ok(false),
            Committed::Lost(Loss::Unsettled(unsettled), _) => Err(unsettled.into()),
            Committed::Lost(loss, _) => Err(ProposalFault::NotYou(loss.to_string())),
        }
    }

    /// Ends a proposal that cannot be carried out any more as it was shown; what that means for who confirmed it.
    async fn supersede(&self, id: ProposalId, why: &str) -> ProposalFault {
        if let Err(fault) = self.end(id, why).await {
            warn!(%fault, "it is not recorded yet that a proposal is superseded");
        }
        match self.find_proposal(id).await.map(|proposal| proposal.state) {
            // Somebody else has confirmed or rejected it first.
            Ok(state @ (ProposalState::CarriedOut | ProposalState::Rejected | ProposalState::Expired)) => {
                Unsettled::Is(state).into()
            }
            Ok(ProposalState::Pending | ProposalState::Superseded) | Err(_) => {
                ProposalFault::Superseded(why.to_owned())
            }
        }
    }

    async fn end(&self, id: ProposalId, why: &str) -> Result<(), ProposalFault> {
        let decision = self.ended(id, ("proposal_superseded", why))?;
        let by = Answered { reason: Some(why.to_owned()), ..answered(BY_ITSELF, &decision) };
        if self.settle(Propose { proposal: id, how: Proposing::Supersede(by), decision }).await? {
            self.metrics.proposal("supersede");
        }
        Ok(())
    }

    async fn expire(&self, id: ProposalId) -> Result<(), ProposalFault> {
        let decision = self.ended(id, ("proposal_expired", "nobody answered in time"))?;
        let how = Proposing::Expire(answered(BY_ITSELF, &decision));
        if self.settle(Propose { proposal: id, how, decision }).await? {
            self.metrics.proposal("expire");
        }
        Ok(())
    }

    fn ended(&self, id: ProposalId, (code, why): (&str, &str)) -> Result<Decision, ApplyFault> {
        let mut decision = self.of(BY_ITSELF, json!({"proposal": id}), Outcome::Deny)?;
        decision.record.reasons.push(reason(code, why));
        Ok(decision)
    }

    /// Who may not confirm and tried is in the log.
    async fn refuse_answer(&self, id: ProposalId, account: &str, refused: ProposalFault) -> ProposalFault {
        self.metrics.proposal("refused");
        let asked = json!({"command": "proposals confirm", "proposal": id});
        let decision = self.of(account, asked, Outcome::Deny).map(|mut decision| {
            decision.record.reasons.push(reason(refused.code(), &refused.to_string()));
            decision
        });
        let recorded = match decision {
            Ok(decision) => self.writer.submit(Change::from(decision)).await.map(drop),
            Err(_) => Err(CommitFault::Unavailable),
        };
        if let Err(fault) = recorded {
            warn!(%fault, "a refused answer to a proposal could not be recorded");
        }
        refused
    }
}

/// The effect as the log keeps it: of an apply which objects and fields, but no values; the proposal has them.
fn effect_recorded(effect: &Value) -> Value {
    let plan = effect.get("plan").and_then(|plan| serde_json::from_value::<Plan>(plan.clone()).ok());
    match plan {
        Some(plan) => json!({"objects": plan.told().map(recorded).collect::<Vec<_>>()}),
        None => effect.clone(),
    }
}

fn answered(account: &str, decision: &Decision) -> Answered {
    let (at, decision_id) = (decision.at, decision.id);
    Answered { account: account.to_owned(), principal: None, reason: None, at, decision_id }
}

/// Texts, numbers and maps of texts: writing them to memory cannot fail.
fn told(done: &impl Serialize) -> Value {
    serde_json::to_value(done).unwrap_or_default()
}
