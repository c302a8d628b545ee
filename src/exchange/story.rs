//! The story of one exchange as the decision log will tell it: filled in step by step, whatever the end (L12).

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::json;

use super::grant::Granted;
use super::verify::{Origin, Verified};
use crate::domain::approval::Approval;
use crate::domain::claims::TokenClaims;
use crate::domain::decision::{DataRecord, Decision, EnvelopeRecord, Kind, ModeRecord, Outcome, Record};
use crate::domain::ids::DecisionId;
use crate::domain::principal::Principal;
use crate::domain::refusal::Refusal;
use crate::domain::request::ExchangeRequest;
use crate::issuers::session::Session;
use crate::policy::candidate::{Policy, Ruling};
use crate::policy::comparison::{Compared, Whose};
use crate::policy::data::Data;
use crate::policy::input::PolicyInput;

/// A decision in the making.
#[derive(Clone)]
pub(super) struct Story {
    decision: Decision,
    tried: Option<Compared>,
}

impl Story {
    /// Begins with what is known after client authentication.
    pub(super) fn begin(id: DecisionId, caller: &str, trace: Option<String>, at: DateTime<Utc>) -> Self {
        let record = Record { actor: Some(caller.to_owned()), trace, ..Record::default() };
        let decision = Decision {
            id,
            kind: Kind::Exchange,
            at,
            tenant: None,
            outcome: Outcome::Deny,
            policy: None,
            task_type: None,
            record,
            input: None,
        };
        Self { decision, tried: None }
    }

    /// The decision's id.
    pub(super) fn id(&self) -> DecisionId {
        self.decision.id
    }

    /// The client id of who asks.
    pub(super) fn caller(&self) -> &str {
        self.decision.record.actor.as_deref().unwrap_or_default()
    }

    /// The request was not read: only which endpoint was called is known.
    pub(super) fn called(&mut self, endpoint: &str) {
        self.decision.record.asked = json!({"endpoint": endpoint});
    }

    /// The request was readable.
    pub(super) fn asked(&mut self, request: &ExchangeRequest) {
        self.decision.record.asked = request.asked();
        self.decision.record.dry_run = request.wish.dry_run;
    }

    /// A session token's signature and tenant stand. Whose it is is recorded also where it is refused from here on: that is
    /// how a stolen one is found (L12, T02).
    pub(super) fn presented_session(&mut self, session: &Session) {
        self.decision.tenant = Some(session.tenant.clone());
        self.decision.record.principal = Some(session.principal.clone());
        self.decision.record.session_sha256 = Some(session.key.token_sha256.clone());
    }

    /// The same for a token of ours.
    pub(super) fn presented_token(&mut self, claims: &TokenClaims) {
        let TokenClaims { sub_id, .. } = claims;
        self.decision.tenant = Some(claims.tenant.clone());
        let record = &mut self.decision.record;
        record.principal = Some(Principal { iss: sub_id.iss.clone(), sub: sub_id.sub.clone() });
        record.parent_jti = Some(claims.jti);
        record.task_id = Some(claims.task_id);
    }

    /// What was presented is verified.
    pub(super) fn verified(&mut self, verified: &Verified) {
        let record = &mut self.decision.record;
        record.chain = Some(verified.chain.to_json());
        record.data_class = verified.task_type.spec.labels.get("data_class").cloned();
        let task_type = match &verified.origin {
            Origin::Session { .. } => &verified.task_type,
            Origin::Parent(parent) => &parent.began_with,
        };
        self.decision.task_type = Some(task_type.label());
    }

    /// The name of the task type, as far as the story has come; else empty.
    pub(super) fn task_type(&self) -> String {
        let label = self.decision.task_type.as_deref().unwrap_or_default();
        label.split('@').next().unwrap_or_default().to_owned()
    }

    /// Policy was asked, with these documents in force.
    pub(super) fn judged(&mut self, ruling: &Ruling<'_>, data: &Data, input: &PolicyInput) {
        self.decision.policy = Some(ruling.version.to_owned());
        self.decision.record.data = ruling.data.cloned().or_else(|| untaken(data));
        self.decision.input = serde_json::to_vec(input).ok();
        self.decision.record.exceptions = input.exceptions.iter().map(|e| e.name.clone()).collect();
        if let Ok(judgement) = &ruling.judgement {
            self.decision.record.tags = judgement.tags.iter().cloned().collect();
        }
    }

    /// Policy was not asked. Its input and the version of the documents in force are kept: what it would have said can be told
    /// later.
    pub(super) fn not_asked(&mut self, input: &PolicyInput, policy: &Policy) {
        self.decision.input = serde_json::to_vec(input).ok();
        self.decision.record.data = policy.active().data().cloned().or_else(|| untaken(policy.data()));
    }

    /// Policy did not bite, or a fault of it did not.
    pub(super) fn let_pass(&mut self, record: ModeRecord) {
        self.decision.record.mode = Some(record);
    }

    /// A candidate was asked too.
    pub(super) fn tried(&mut self, compared: Compared) {
        self.decision.record.candidate = compared.record();
        self.tried = Some(compared);
    }

    /// What a candidate said, and of which exchange: to be counted once that is recorded.
    pub(super) fn take_tried(&mut self) -> Option<(Compared, Whose)> {
        let compared = self.tried.take()?;
        let (task_type, agent) = (self.task_type(), self.caller().to_owned());
        Some((compared, Whose { id: self.id(), at: self.decision.at, task_type, agent }))
    }

    /// It was granted.
    pub(super) fn granted(&mut self, granted: &Granted) {
        let record = &mut self.decision.record;
        let claims = &granted.claims;
        record.task_id = Some(granted.task_id());
        record.approval_id = granted.claims.approval.as_ref().map(|approval| approval.id);
        // The commit counts again.
        record.envelope =
            granted.uses.map(|(uses, before)| EnvelopeRecord { number: before + 1, of: uses.left.of });
        record.jti = (!granted.dry_run).then(|| granted.jti());
        record.granted = json!({
            "aud": claims.aud,
            "authorization_details": claims.authorization_details,
            "depth_left": claims.depth_left,
            "exp": claims.exp,
            "may_act": claims.may_act,
            "narrowed": granted.narrowed,
            "resources": claims.resources,
            "scope": claims.scope,
        });
    }

    /// Ends with an allow.
    pub(super) fn allow(mut self, now: DateTime<Utc>) -> Decision {
        self.decision.outcome = Outcome::Allow;
        self.end(now)
    }

    /// Ends with a question to people: nothing is granted yet, and no task begins.
    pub(super) fn ask(mut self, granted: &Granted, approval: &Approval, now: DateTime<Utc>) -> Decision {
        self.decision.outcome = Outcome::RequireApproval;
        self.decision.record.approval_id = Some(approval.id);
        if let Some(asked) = self.decision.record.asked.as_object_mut() {
            asked.insert("shown".to_owned(), approval.shown.clone());
        }
        self.decision.record.task_id = granted.parent().map(|_| granted.task_id());
        self.decision.record.reasons.clone_from(&granted.asks);
        self.end(now)
    }

    /// An approval is redeemed, or asked after.
    pub(super) fn resumed(&mut self, approval: &Approval) {
        self.decision.tenant = Some(approval.tenant.clone());
        self.decision.record.approval_id = Some(approval.id);
        self.decision.record.asked = json!({"deferred": approval.decision_id});
        self.decision.task_type = approval.task_type();
        let principal = approval.shown.get("principal").cloned().unwrap_or_default();
        self.decision.record.principal = serde_json::from_value(principal).ok();
    }

    /// Ends with a refusal and all its reasons.
    pub(super) fn refuse(mut self, refusal: &Refusal, now: DateTime<Utc>) -> Decision {
        let approval = matches!(
            refusal,
            Refusal::Approval { .. } | Refusal::NoApprovers { .. } | Refusal::NotCovered { .. }
        );
        self.decision.outcome = if approval { Outcome::RequireApproval } else { Outcome::Deny };
        self.decision.record.reasons = refusal.reasons();
        self.end(now)
    }

    fn end(mut self, now: DateTime<Utc>) -> Decision {
        let took = now - self.decision.at;
        self.decision.record.duration_us = took.num_microseconds().unwrap_or(i64::MAX).max(0);
        self.decision
    }
}

/// The documents in force where the bundle takes none of them: another bundle that is asked later may.
fn untaken(data: &Data) -> Option<DataRecord> {
    let version = data.version()?.to_owned();
    Some(DataRecord { version, documents: BTreeMap::new() })
}
