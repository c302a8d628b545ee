//! What the commit decides under the lock, in queue order: pure, from the facts that were read (L4).

mod proposals;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};

use super::change::{
    Change, Committed, Configure, Defer, Hear, Issue, Lockdown, Loss, Place, Receipt, Revoke, Settle,
    Settlement, Spend, SpendKind,
};
use super::entry::Entry;
use super::policy_data::DataRow;
use super::read::Head;
use super::rows::{BundleRow, Growth, Known, ObjectRow, TaskRow, TokenRow, micros};
use crate::clock::watch::TOLERANCE;
use crate::domain::approval::{Approval, ApprovalState, Unmoved, Vote};
use crate::domain::decision::EnvelopeRecord;
use crate::domain::envelope::EnvelopeUse;
use crate::domain::ids::{ApprovalId, Jti, ProposalId, TaskId};
use crate::domain::objects::ObjectRef;
use crate::domain::proposal::Proposal;
use crate::domain::record::{Bears, MAX_HEIGHT, RevocationKey, TokenRecord, TreeLimits};
use crate::domain::refusal::{Limited, LimitedBy};

const MINUTE_US: i64 = 60_000_000;

/// How long what was spent is kept after its expiry. Expired is what ended before the greatest `iat` of any committed token:
/// that never goes back, whatever the clock does.
const REMEMBERED: TimeDelta = TimeDelta::hours(2);

/// What ended before this may be forgotten, and from then on counts as spent: so nothing that is forgotten is ever good
/// again (T31), after any step of the clock, any restart and in any replica. By a clock that may issue it is long past.
pub(super) fn forgotten_before(head: &Head) -> DateTime<Utc> {
    head.greatest_iat - REMEMBERED
}

/// A row of `revocations`.
#[derive(Clone, Debug)]
pub(super) struct RevocationRow {
    pub(super) not_before: i64,
    pub(super) keep_until: i64,
    pub(super) tenant: Option<String>,
    pub(super) reason: String,
    pub(super) decision_id: String,
}

/// A row of `spent`.
#[derive(Clone, Debug)]
pub(super) struct SpentRow {
    pub(super) kind: &'static str,
    pub(super) key: String,
    pub(super) keep_until: i64,
}

/// Everything one batch writes.
#[derive(Debug, Default)]
pub(super) struct Writes<'b> {
    pub(super) entries: Vec<(i64, Cow<'b, Entry>)>,
    pub(super) spent: Vec<SpentRow>,
    pub(super) tasks: Vec<TaskRow>,
    pub(super) tokens: Vec<TokenRow>,
    pub(super) revocations: BTreeMap<RevocationKey, RevocationRow>,
    /// Lockdowns that end.
    pub(super) lifted: BTreeSet<RevocationKey>,
    /// New versions, and the names whose current version ends.
    pub(super) objects: Vec<ObjectRow>,
    /// The version that is current after this batch, none for a retired object.
    pub(super) current: BTreeMap<ObjectRef, Option<i64>>,
    pub(super) bundles: Vec<BundleRow>,
    pub(super) documents: Vec<DataRow>,
    pub(super) settings: BTreeMap<String, String>,
    /// Approvals as they stand after this batch.
    pub(super) approvals: BTreeMap<ApprovalId, Approval>,
    /// Proposals as they stand after this batch.
    pub(super) proposals: BTreeMap<ProposalId, Proposal>,
}

/// The state that the batch sees and moves on.
#[derive(Debug)]
pub(super) struct Ledger<'b> {
    now: DateTime<Utc>,
    head: Head,
    /// Tokens with a record: those read, and those issued in this batch.
    tokens: HashMap<Jti, TokenRecord>,
    /// How far the trees of these have grown, and how many children each has.
    trees: HashMap<TaskId, Growth>,
    children: HashMap<Jti, i64>,
    /// Every key that was asked for, with its `not_before` if it is revoked.
    revoked: HashMap<RevocationKey, Option<i64>>,
    spent: HashSet<(SpendKind, String)>,
    /// Approvals that the batch names, as far as they are there.
    approvals: HashMap<ApprovalId, Approval>,
    /// The same of proposals.
    proposals: HashMap<ProposalId, Proposal>,
    writes: Writes<'b>,
}

/// The token of `issue` as it would stand in its record; none if its parent is unknown. A parent may be earlier in
/// the same batch: `drafts` are the tokens of this batch so far.
fn complete(
    issue: &Issue,
    known: &HashMap<Jti, TokenRecord>,
    drafts: &HashMap<Jti, TokenRecord>,
) -> Option<TokenRecord> {
    let mut token = issue.token.clone();
    token.ancestors.clear();
    token.signers.clear();
    if let Some(jti) = token.parent {
        let parent = known.get(&jti).or_else(|| drafts.get(&jti))?;
        token.ancestors.clone_from(&parent.ancestors);
        token.ancestors.push(jti);
        let above = parent.signers.iter().chain([&parent.kid]);
        token.signers = above.filter(|kid| **kid != token.kid).cloned().collect();
        token.session = parent.session.clone();
    }
    Some(token)
}

impl<'b> Ledger<'b> {
    /// Begins a batch at the head under the lock, knowing the tokens that the batch names.
    pub(super) fn new(now: DateTime<Utc>, head: Head, known: Vec<Known>) -> Self {
        let trees = known.iter().map(|known| (known.token.task_id, known.growth)).collect();
        let children = known.iter().map(|known| (known.token.jti, known.children)).collect();
        let tokens = known.into_iter().map(|known| (known.token.jti, known.token)).collect();
        let (revoked, spent, writes) = (HashMap::new(), HashSet::new(), Writes::default());
        let (approvals, proposals) = (HashMap::new(), HashMap::new());
        Self { now, head, tokens, trees, children, revoked, spent, approvals, proposals, writes }
    }

    /// Every revocation that could touch an issue of the batch, each once.
    pub(super) fn revocations_to_read<'c>(
        &self,
        changes: impl Iterator<Item = &'c Change>,
    ) -> Vec<RevocationKey> {
        let mut drafts = HashMap::new();
        let mut keys: HashSet<_> =
            self.tokens.values().flat_map(TokenRecord::killed_by).map(|(key, _)| key).collect();
        let approvers = self.approvals.values().flat_map(Approval::approvals);
        keys.extend(approvers.map(|vote| vote.killed_by().0));
        for change in changes {
            if let Change::Settle(settle) = change {
                keys.extend(settle.killed_by.iter().map(|(key, _)| key.clone()));
            }
            keys.extend(self.people(change).map(|(key, _)| key.clone()));
            let Some(issue) = change.issue() else { continue };
            if let Some(token) = complete(issue, &self.tokens, &drafts) {
                keys.extend(token.killed_by().into_iter().map(|(key, _)| key));
                keys.extend(token.held_up_by());
                drafts.entry(token.jti).or_insert(token);
            }
        }
        keys.into_iter().collect()
    }

    /// Takes in which of `asked` are revoked: position and `not_before`.
    pub(super) fn learn_revoked(&mut self, asked: Vec<RevocationKey>, found: &[(i64, i64)]) {
        let mut answers = vec![None; asked.len()];
        for (at, not_before) in found {
            if let Some(answer) = usize::try_from(*at).ok().and_then(|at| answers.get_mut(at)) {
                *answer = Some(*not_before);
            }
        }
        self.revoked.extend(asked.into_iter().zip(answers));
    }

    /// Takes in what is spent.
    pub(super) fn learn_spent(&mut self, rows: impl Iterator<Item = (SpendKind, String)>) {
        self.spent.extend(rows);
    }

    /// Takes in the approvals that the batch names.
    pub(super) fn learn_approvals(&mut self, approvals: Vec<Approval>) {
        self.approvals.extend(approvals.into_iter().map(|approval| (approval.id, approval)));
    }

    /// Decides on one change and appends its decision to the log, unless what it was decided by has been replaced.
    pub(super) fn take(&mut self, change: &Change, entry: &'b Entry) -> Committed {
        let generation = self.head.generation;
        if change.decided_by().is_some_and(|by| by != generation) {
            return Committed::Superseded { generation };
        }
        let outcome = match change {
            // Whether people are asked then, only who decides again can say. What would lose anyway loses.
            Change::Issue(issue) if !self.has_envelope(issue) && self.judge(issue).is_ok() => {
                return Committed::Superseded { generation };
            }
            Change::Issue(issue) => {
                self.admit(issue.assertion.as_ref()).and_then(|()| self.issue(issue)).map(Some)
            }
            Change::Refuse(refuse) => self.admit(refuse.assertion.as_ref()).map(|()| None),
            Change::Defer(defer) => {
                self.admit(defer.would_be.assertion.as_ref()).and_then(|()| self.defer(defer)).map(|()| None)
            }
            Change::Settle(settle) if self.is_past(settle) => return Committed::Superseded { generation },
            Change::Settle(settle) => self.settle(settle).map(|()| None),
            Change::Revoke(revoke) => {
                self.revoke(revoke);
                Ok(None)
            }
            Change::Lockdown(lockdown) => {
                self.lock_down(lockdown);
                Ok(None)
            }
            Change::Hear(hear) => self.admit(Some(&hear.event)).map(|()| {
                self.hear(hear);
                None
            }),
            Change::Configure(configure) => self.carry_out(configure).map(|()| {
                self.configure(configure);
                None
            }),
            Change::Propose(propose) if self.is_answered(propose) => {
                return Committed::Superseded { generation };
            }
            Change::Propose(propose) => self.propose(propose).map(|()| None),
        };
        match outcome {
            Ok(place) => {
                let entry = self.counted(change, entry);
                Committed::Done(Receipt { place, ..self.append(change, entry) })
            }
            Err(loss) => {
                let refused = change.decision().clone().refused(loss.reason());
                Committed::Lost(loss, self.append(change, Cow::Owned(entry.clone().retold(&refused))))
            }
        }
    }

    /// Spends what may be used once, unless it has been (T31). It is then spent, whatever becomes of the change.
    pub(super) fn spend(&mut self, spend: &Spend) -> Result<(), Loss> {
        if self.is_spent(spend) {
            return Err(Loss::AlreadySpent { kind: spend.kind });
        }
        self.spent.insert((spend.kind, spend.key.clone()));
        self.writes.spent.push(spent_row(spend));
        Ok(())
    }

    fn is_spent(&self, spend: &Spend) -> bool {
        spend.keep_until < forgotten_before(&self.head)
            || self.spent.contains(&(spend.kind, spend.key.clone()))
    }

    fn admit(&mut self, assertion: Option<&Spend>) -> Result<(), Loss> {
        assertion.map_or(Ok(()), |assertion| self.spend(assertion))
    }

    /// What the batch writes, and the head after it.
    pub(super) fn into_writes(self) -> (Writes<'b>, Head) {
        (self.writes, self.head)
    }

    fn append(&mut self, change: &Change, entry: Cow<'b, Entry>) -> Receipt {
        let index = self.head.frontier.size();
        self.head.frontier.append(entry.leaf.hash());
        // The column is signed; 2^63 leaves will not be reached.
        self.writes.entries.push((i64::try_from(index).unwrap_or(i64::MAX), entry));
        Receipt {
            index,
            decision_id: change.decision().id,
            committed_at: self.now,
            generation: self.head.generation,
            place: None,
        }
    }

    fn issue(&mut self, issue: &Issue) -> Result<Place, Loss> {
        let (token, growth, sibling) = self.judge(issue)?;
        if let Some(id) = issue.redeems {
            self.judge_approval(id, &token)?;
            self.change_approval(id, |approval, now| {
                approval.redeem(token.jti, now)?;
                issue.opens.iter().for_each(|envelope| approval.open(*envelope.clone()));
                Ok(())
            })?;
        }
        if let Some(held) = &issue.uses {
            self.change_approval(held.approval, |approval, now| {
                let state = approval.state;
                approval.use_envelope(held, now).map(drop).map_err(|_| Unmoved::Is(state))
            })?;
        }
        // From here on the issue has won: only now is anything spent.
        for spend in &issue.spend {
            self.spend(spend).ok();
        }
        self.writes.tasks.extend(issue.task.as_ref().map(TaskRow::from));
        let Growth { tokens: task_serial, paced_until } = growth;
        self.writes.tokens.push(TokenRow { task_serial, sibling, paced_until, ..TokenRow::from(&token) });
        self.head.greatest_iat = self.head.greatest_iat.max(token.iat);
        self.trees.insert(token.task_id, growth);
        self.children.extend(token.parent.map(|parent| (parent, sibling)));
        self.tokens.insert(token.jti, token);
        let number = |count: i64| u64::try_from(count).unwrap_or_default();
        Ok(Place { task_serial: number(task_serial), sibling: number(sibling) })
    }

    /// What could be issued now waits for a person instead. What it would use up is used up (DESIGN §4 step 4).
    fn defer(&mut self, defer: &Defer) -> Result<(), Loss> {
        self.judge(&defer.would_be)?;
        let Approval { id, code_sha256, .. } = &defer.approval;
        if self.approvals.contains_key(id) {
            self.change_approval(*id, |approval, now| approval.ask_again(code_sha256, now))?;
        } else {
            self.approvals.insert(*id, defer.approval.clone());
            self.writes.approvals.insert(*id, defer.approval.clone());
        }
        for spend in &defer.would_be.spend {
            self.spend(spend).ok();
        }
        Ok(())
    }

    /// Whether nothing is left to be said: two that keep the time say it once.
    fn is_past(&self, settle: &Settle) -> bool {
        let known = self.approvals.get(&settle.approval);
        settle.how == Settlement::Expire && known.is_none_or(|known| known.state != ApprovalState::Pending)
    }

    /// What was revoked while it waited kills it, as it would a token that had been issued then; and whoever approved it and
    /// was revoked since has not approved it.
    fn judge_approval(&self, id: ApprovalId, token: &TokenRecord) -> Result<(), Loss> {
        let approval = self.approvals.get(&id).ok_or(Loss::Unmoved(Unmoved::Unknown))?;
        self.judge_life(&TokenRecord { iat: approval.created_at, ..token.clone() })?;
        let approvers: Vec<_> = approval.approvals().map(Vote::killed_by).collect();
        self.judge_keys(&approvers)
    }

    /// Whether the envelope that it uses, if it does, has a use left, and nothing that the envelope hangs on is revoked.
    fn has_envelope(&self, issue: &Issue) -> bool {
        let Some(held) = &issue.uses else { return true };
        let (approval, token) = (self.approvals.get(&held.approval), self.tokens.get(&held.token));
        let (Some(approval), Some(token)) = (approval, token) else { return false };
        let approvers: Vec<_> = approval.approvals().map(Vote::killed_by).collect();
        approval.may_use(held, self.now).is_ok()
            && self.judge_life(token).is_ok()
            && self.judge_keys(&approvers).is_ok()
    }

    /// The entry of what is done. Which use of an envelope it is, only the lock tells.
    fn counted(&self, change: &Change, entry: &'b Entry) -> Cow<'b, Entry> {
        let uses = change.issue().and_then(|issue| issue.uses);
        let Some(EnvelopeUse { approval, left, .. }) = uses else { return Cow::Borrowed(entry) };
        let envelope = self.approvals.get(&approval).and_then(|approval| approval.envelope.as_ref());
        let number = envelope.map_or(0, |envelope| envelope.used);
        let mut told = change.decision().clone();
        told.record.envelope = Some(EnvelopeRecord { number, of: left.of });
        Cow::Owned(entry.clone().retold(&told))
    }

    fn settle(&mut self, settle: &Settle) -> Result<(), Loss> {
        self.judge_keys(&settle.killed_by)?;
        self.change_approval(settle.approval, |approval, now| match &settle.how {
            Settlement::Vote(vote) => approval.cast(vote.clone(), now),
            Settlement::Expire => approval.expire(now),
            Settlement::Cancel => approval.cancel(now),
        })
    }

    fn change_approval(
        &mut self,
        id: ApprovalId,
        change: impl FnOnce(&mut Approval, DateTime<Utc>) -> Result<(), Unmoved>,
    ) -> Result<(), Loss> {
        let approval = self.approvals.get_mut(&id).ok_or(Loss::Unmoved(Unmoved::Unknown))?;
        change(approval, self.now).map_err(Loss::Unmoved)?;
        self.writes.approvals.insert(id, approval.clone());
        Ok(())
    }

    /// The token as it is recorded, how far its tree has grown with it, and the how-manieth child of its parent it is.
    fn judge(&self, issue: &Issue) -> Result<(TokenRecord, Growth, i64), Loss> {
        if self.tokens.contains_key(&issue.token.jti) {
            return Err(Loss::Duplicate);
        }
        if self.head.greatest_iat > self.now + TOLERANCE {
            return Err(Loss::ClockBehind);
        }
        match issue.token.parent {
            Some(parent) => self.judge_parent(issue, parent)?,
            None if issue.task.as_ref().is_some_and(|task| task.id == issue.token.task_id) => {}
            None => return Err(Loss::ParentUnknown),
        }
        let token = complete(issue, &self.tokens, &HashMap::new()).ok_or(Loss::ParentUnknown)?;
        if token.ancestors.len() >= MAX_HEIGHT {
            return Err(Loss::TreeTooHigh);
        }
        self.judge_life(&token)?;
        // A key that was not asked for counts as a lockdown (L7).
        if token.held_up_by().iter().any(|key| self.revoked.get(key) != Some(&None)) {
            return Err(Loss::LockedDown);
        }
        let (growth, sibling) = self.judge_tree(issue)?;
        match issue.spend.iter().find(|spend| self.is_spent(spend)) {
            Some(spend) => Err(Loss::AlreadySpent { kind: spend.kind }),
            None => Ok((token, growth, sibling)),
        }
    }

    /// How far the tree has grown with this token, and the how-manieth child of its parent it is; unless that is too far,
    /// or too fast.
    fn judge_tree(&self, issue: &Issue) -> Result<(Growth, i64), Loss> {
        let Some(parent) = issue.token.parent else {
            return Ok((grown(Growth::default(), issue.limits.task_rate, self.now)?, 0));
        };
        let expiry = self.tokens.get(&parent).ok_or(Loss::ParentUnknown)?.exp;
        let growth = self.trees.get(&issue.token.task_id).copied().unwrap_or_default();
        let children = self.children.get(&parent).copied().unwrap_or_default();
        Ok((below((expiry, children), growth, issue.limits, self.now)?, children + 1))
    }

    /// The parent has a record, was issued with the claims that it shows (a key that leaked can sign others), is of the
    /// same task, tenant and principal (L1), has not expired and is alive by its
    /// own keys: an agent revoked after the parent's `iat` kills it although the child is younger.
    fn judge_parent(&self, issue: &Issue, parent: Jti) -> Result<(), Loss> {
        let parent = self.tokens.get(&parent).ok_or(Loss::ParentUnknown)?;
        let child = &issue.token;
        let of_one_task = parent.task_id == child.task_id
            && parent.tenant == child.tenant
            && parent.principal == child.principal;
        let as_issued = issue.parent_digest == Some(parent.capability_digest);
        if !of_one_task || !as_issued || issue.task.is_some() {
            return Err(Loss::ParentUnknown);
        }
        if parent.exp <= self.now {
            return Err(Loss::ParentExpired);
        }
        self.judge_life(parent)
    }

    /// Nothing that is revoked kills the token.
    fn judge_life(&self, token: &TokenRecord) -> Result<(), Loss> {
        self.judge_keys(&token.killed_by())
    }

    /// None of these is revoked. A key that was not asked for counts as revoked (L7).
    fn judge_keys(&self, keys: &[(RevocationKey, Bears)]) -> Result<(), Loss> {
        let killed = |(key, bears): &(RevocationKey, Bears)| match self.revoked.get(key) {
            Some(revoked) => revoked.is_some_and(|not_before| bears.kills(not_before)),
            None => true,
        };
        match keys.iter().find(|key| killed(key)) {
            Some((key, _)) => Err(Loss::Revoked { kind: key.kind }),
            None => Ok(()),
        }
    }

    fn revoke(&mut self, revoke: &Revoke) {
        let not_before = self.head.not_before(self.now);
        revoke.keys.iter().for_each(|key| self.kill(key, not_before, revoke));
    }

    /// Events tell when they happened by their issuer's clock, which also tells when its sessions began. What lies in
    /// our future is cut: nobody revokes in advance.
    fn hear(&mut self, hear: &Hear) {
        self.revoke(&hear.revoke);
        let present = self.head.not_before(self.now);
        hear.until.iter().for_each(|(key, until)| self.kill(key, micros(*until).min(present), &hear.revoke));
    }

    fn kill(&mut self, key: &RevocationKey, not_before: i64, revoke: &Revoke) {
        let known = self.revoked.entry(key.clone()).or_default();
        let not_before = known.map_or(not_before, |known| known.max(not_before));
        *known = Some(not_before);
        // The caller counts from its clock; what dies may have begun by one that was ahead of it.
        let ahead = micros(self.head.greatest_iat).saturating_sub(micros(self.now)).max(0);
        let keep_until = micros(revoke.keep_until).saturating_add(ahead);
        let earlier = self.writes.revocations.get(key).map_or(i64::MIN, |row| row.keep_until);
        let row = RevocationRow {
            not_before,
            keep_until: keep_until.max(earlier),
            tenant: revoke.decision.tenant.as_ref().map(ToString::to_string),
            reason: revoke.reason.clone(),
            decision_id: revoke.decision.id.to_string(),
        };
        self.writes.revocations.insert(key.clone(), row);
    }

    fn lock_down(&mut self, lockdown: &Lockdown) {
        let key = RevocationKey::lockdown(lockdown.tenant.as_ref());
        let since = micros(self.now);
        self.revoked.insert(key.clone(), lockdown.on.then_some(since));
        if !lockdown.on {
            self.writes.revocations.remove(&key);
            self.writes.lifted.insert(key);
            return;
        }
        self.writes.lifted.remove(&key);
        let row = RevocationRow {
            not_before: since,
            keep_until: micros(DateTime::<Utc>::MAX_UTC),
            tenant: lockdown.tenant.as_ref().map(ToString::to_string),
            reason: lockdown.reason.clone(),
            decision_id: lockdown.decision.id.to_string(),
        };
        self.writes.revocations.insert(key, row);
    }

    fn configure(&mut self, configure: &Configure) {
        if configure.decides() {
            self.head.generation += 1;
        }
        for name in &configure.retire {
            self.writes.current.insert(name.clone(), None);
        }
        for object in &configure.put {
            self.writes.current.insert(object.id.clone(), Some(object.version));
        }
        self.writes.objects.extend(configure.put.iter().cloned());
        self.writes.bundles.extend(configure.bundle.iter().cloned());
        self.writes.documents.extend(configure.documents.iter().cloned());
        self.writes.settings.extend(configure.settings.iter().cloned());
    }
}

/// How far the tree has grown with one more token below a parent of this expiry that has so many children, unless that is
/// too far or too fast.
pub(super) fn below(
    (parent_exp, children): (DateTime<Utc>, i64),
    growth: Growth,
    limits: TreeLimits,
    now: DateTime<Utc>,
) -> Result<Growth, Loss> {
    let left = seconds(parent_exp - now);
    let reached = |count: i64, most: u32| most > 0 && count >= i64::from(most);
    let full = |by| Err(Loss::TreeLimit(Limited { by, retry_after: left }));
    if reached(growth.tokens, limits.task_tokens) {
        return full(LimitedBy::TaskTokens);
    }
    if reached(children, limits.token_children) {
        return full(LimitedBy::TokenChildren);
    }
    grown(growth, limits.task_rate, now)
}

/// `growth` and one more token, unless within the last minute there were as many as `rate`, 0 for any number: a bucket that
/// holds a minute's worth, told by the instant at which it will be full again (the generic cell rate algorithm).
fn grown(growth: Growth, rate: u32, now: DateTime<Utc>) -> Result<Growth, Loss> {
    let now = micros(now);
    let one = MINUTE_US.checked_div(i64::from(rate)).unwrap_or_default();
    let paced_until = growth.paced_until.max(now) + one;
    let late = paced_until - now - MINUTE_US;
    if rate > 0 && late > 0 {
        let retry_after = seconds(TimeDelta::microseconds(late));
        return Err(Loss::TreeLimit(Limited { by: LimitedBy::TaskRate, retry_after }));
    }
    Ok(Growth { tokens: growth.tokens + 1, paced_until })
}

/// Whole seconds to wait for that long, at least 1.
fn seconds(wait: TimeDelta) -> u32 {
    let whole = wait.num_seconds() + i64::from(wait.subsec_nanos() > 0);
    u32::try_from(whole.max(1)).unwrap_or(u32::MAX)
}

fn spent_row(spend: &Spend) -> SpentRow {
    SpentRow { kind: spend.kind.as_str(), key: spend.key.clone(), keep_until: micros(spend.keep_until) }
}
