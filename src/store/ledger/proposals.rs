//! Changes of the configuration that wait for a second person: confirmed with the change, or neither is written.

use chrono::{DateTime, Utc};

use super::Ledger;
use crate::domain::ids::ProposalId;
use crate::domain::proposal::{Proposal, ProposalState, Unsettled};
use crate::domain::record::{Bears, RevocationKey};
use crate::store::change::{CarriesOut, Change, Configure, Loss, Propose, Proposing};

impl Ledger<'_> {
    /// What the words hang on of those who propose a change of the configuration, and who confirm one.
    pub(super) fn people<'s>(
        &'s self,
        change: &'s Change,
    ) -> impl Iterator<Item = &'s (RevocationKey, Bears)> {
        let made = match change {
            Change::Propose(propose) => match &propose.how {
                Proposing::Make(made) => Some(&made.proposer.killed_by),
                Proposing::Reject(_) | Proposing::Expire(_) | Proposing::Supersede(_) => None,
            },
            Change::Configure(configure) => configure.carries_out.as_ref().map(|carries| &carries.killed_by),
            Change::Issue(_)
            | Change::Refuse(_)
            | Change::Defer(_)
            | Change::Settle(_)
            | Change::Revoke(_)
            | Change::Lockdown(_)
            | Change::Hear(_) => None,
        };
        let proposal = change.proposal().and_then(|id| self.proposals.get(&id));
        made.into_iter().chain(proposal.map(|proposal| &proposal.proposer.killed_by)).flatten()
    }

    /// Takes in a proposal that the batch names.
    pub(in crate::store) fn learn_proposal(&mut self, proposal: Proposal) {
        self.proposals.insert(proposal.id, proposal);
    }

    /// What a change of the configuration carries out is confirmed with it, once: by somebody whose word counts, and so long as
    /// that of its proposer does.
    pub(super) fn carry_out(&mut self, configure: &Configure) -> Result<(), Loss> {
        let Some(carries) = configure.carries_out.as_deref() else { return Ok(()) };
        let CarriesOut { proposal, digest, by, killed_by } = carries;
        self.judge_keys(killed_by)?;
        let waits = self.proposals.get(proposal).ok_or(Loss::Unsettled(Unsettled::Unknown))?;
        let proposer = self.judge_keys(&waits.proposer.killed_by);
        proposer.map_err(|_| Loss::Unsettled(Unsettled::ProposerRevoked))?;
        self.change_proposal(*proposal, |waits, now| waits.carry_out(digest, by.clone(), now))
    }

    pub(super) fn propose(&mut self, propose: &Propose) -> Result<(), Loss> {
        match &propose.how {
            Proposing::Make(made) => {
                self.judge_keys(&made.proposer.killed_by)?;
                self.proposals.insert(made.id, *made.clone());
                self.writes.proposals.insert(made.id, *made.clone());
                Ok(())
            }
            Proposing::Reject(by) => {
                self.change_proposal(propose.proposal, |proposal, now| proposal.reject(by.clone(), now))
            }
            Proposing::Expire(by) => {
                self.change_proposal(propose.proposal, |proposal, now| proposal.expire(by.clone(), now))
            }
            Proposing::Supersede(by) => {
                self.change_proposal(propose.proposal, |proposal, now| proposal.supersede(by.clone(), now))
            }
        }
    }

    /// Whether nothing is left to be said of a proposal: two that look after it say it once.
    pub(super) fn is_answered(&self, propose: &Propose) -> bool {
        let by_itself = matches!(propose.how, Proposing::Expire(_) | Proposing::Supersede(_));
        let known = self.proposals.get(&propose.proposal);
        by_itself && known.is_none_or(|known| known.state != ProposalState::Pending)
    }

    fn change_proposal(
        &mut self,
        id: ProposalId,
        change: impl FnOnce(&mut Proposal, DateTime<Utc>) -> Result<(), Unsettled>,
    ) -> Result<(), Loss> {
        let proposal = self.proposals.get_mut(&id).ok_or(Loss::Unsettled(Unsettled::Unknown))?;
        change(proposal, self.now).map_err(Loss::Unsettled)?;
        self.writes.proposals.insert(id, proposal.clone());
        Ok(())
    }
}
