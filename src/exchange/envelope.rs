//! Step 8 without a person: an exchange that lies within what people approved of the same task is one of its uses
//! (STANDARDS AP-05). Everything else about it is decided as ever, the policy's verdict included (L9).

use super::deferral::{Approved, likeness, names};
use super::grant::Granted;
use super::story::Story;
use super::verify::Verified;
use super::{Exchange, Moment};
use crate::domain::approval::{Approval, Narrowing};
use crate::domain::capability::Grant;
use crate::domain::envelope::{EnvelopeUse, OpenEnvelope};
use crate::domain::refusal::Refusal;

/// Most envelopes of one agent in one task that are looked at, the newest first: beyond them people are asked.
const MOST: u32 = 16;

impl Exchange {
    /// The same exchange under an envelope that covers it; none where people have to be asked: there is no such envelope, the
    /// token would be wider than what they saw, or there is a reason that they did not see.
    ///
    /// Nothing is read where the task type allows no envelopes, nor for the root of a task, which no envelope reaches.
    pub(super) async fn within_envelope(
        &self,
        at: &Moment,
        verified: &mut Verified,
        asked: &Granted,
        story: &mut Story,
    ) -> Result<Option<Granted>, Refusal> {
        let allowed = verified.task_type.spec.approval.envelope.is_some();
        if !allowed || verified.is_root() || asked.redeems.is_some() {
            return Ok(None);
        }
        let client_id = verified.agent.spec.client_id.clone();
        let found = self.parts.store.envelopes(asked.task_id(), &client_id, MOST).await;
        let mut heard = false;
        for approval in found.map_err(|_| Refusal::StoreFault)? {
            let Some(approved) = self.covered(at, verified, asked, &approval).await? else { continue };
            // Who said no to the very same is heard first (T38).
            if !std::mem::replace(&mut heard, true) {
                self.asked_before(at, &client_id, &likeness(verified, asked)).await?;
            }
            let (before, inherited) = (story.clone(), verified.approved.replace(approved));
            match self.grant(at, verified, story) {
                Ok(granted) if granted.asks.is_empty() => return Ok(Some(granted)),
                Ok(_) | Err(Refusal::NotCovered { .. }) => {
                    verified.approved = inherited;
                    *story = before;
                }
                Err(refusal) => return Err(refusal),
            }
        }
        Ok(None)
    }

    /// What people approved by the envelope of `approval`, if that is open and for this exchange, as far as can be told before
    /// it is judged again.
    async fn covered(
        &self,
        at: &Moment,
        verified: &Verified,
        asked: &Granted,
        approval: &Approval,
    ) -> Result<Option<Approved>, Refusal> {
        let spec = &verified.task_type.spec.approval;
        let Some(Ok(left)) = approval.envelope_left(spec, at.now) else { return Ok(None) };
        let Some(envelope) = &approval.envelope else { return Ok(None) };
        let codes = asked.asks.iter().map(|reason| reason.code.as_str());
        if !envelope.is_for(&asked.claims, codes, verified.wish.expires_in.is_some()) {
            return Ok(None);
        }
        // What the types registered now cannot read any more bounds nothing.
        let rules = at.world.snapshot.detail_rules(&verified.tenant);
        if envelope.most.as_ref().is_none_or(|most| most.grant(&rules).is_err()) {
            return Ok(None);
        }
        let alive = self.parts.store.is_envelope_alive(approval).await.map_err(|_| Refusal::StoreFault)?;
        let Some(token) = approval.jti.filter(|_| alive) else { return Ok(None) };
        let uses = EnvelopeUse { approval: approval.id, token, left };
        Ok(Some(Approved::by_envelope(approval, envelope, uses, verified.approved.as_ref())))
    }
}

impl Approved {
    /// By an envelope: no use is wider than what people saw, and a lifetime that was left to a default is cut to theirs.
    /// `before` is what the parent's approval was for.
    fn by_envelope(
        approval: &Approval,
        envelope: &OpenEnvelope,
        uses: EnvelopeUse,
        before: Option<&Self>,
    ) -> Self {
        let most = envelope.most.as_ref();
        let lifetime = most.and_then(|most| u32::try_from(most.exp - most.iat).ok());
        Self {
            id: approval.id,
            reasons: envelope.reasons.clone(),
            told: envelope.told.clone(),
            before: before.map(|before| before.reasons.clone()).unwrap_or_default(),
            would_be: envelope.most.clone(),
            approvers: names(approval),
            narrowing: Narrowing { scopes: None, lifetime },
            redeems: None,
            gives: None,
            uses: Some((uses, envelope.used)),
        }
    }

    /// The envelope that opens with the token of `grant`.
    pub(super) fn opens(&self, grant: &Grant) -> Option<OpenEnvelope> {
        let (terms, since) = self.gives?;
        let mut most = self.would_be.clone()?;
        if let Some(left) = &self.narrowing.scopes {
            most.scope = most.scope.intersection(left);
        }
        if let Some(left) = self.narrowing.lifetime {
            most.exp = most.exp.min(most.iat + i64::from(left));
        }
        Some(OpenEnvelope {
            terms,
            since,
            task_id: grant.task_id,
            task_deadline: grant.task_deadline,
            reasons: self.reasons.clone(),
            told: self.told.clone(),
            most: Some(most),
            used: 0,
        })
    }
}
