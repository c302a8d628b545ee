//! Approvals as they are stored and found. They are changed by the writer alone.

use chrono::{DateTime, Utc};
use sqlx::FromRow;

use super::error::StoreError;
use super::rows::{approval_columns, as_array, corrupt, from_json, instant, micros, parsed, to_json};
use super::{Store, on_db};
use crate::domain::approval::{Approval, ApprovalState, Vote};
use crate::domain::envelope::OpenEnvelope;
use crate::domain::ids::{ApprovalId, ClientId, Name, TaskId};
use crate::domain::request::DeferralCode;
use crate::hash::sha256;

pub(super) const APPROVAL: &str = concat!("SELECT ", approval_columns!(), " FROM approvals WHERE id = $1");
pub(super) const APPROVAL_OF_CODE: &str =
    concat!("SELECT ", approval_columns!(), " FROM approvals WHERE code_sha256 = $1");
/// How many of one client wait, and when the first of them is over.
pub(super) const APPROVALS_COUNTED: &str = "SELECT COUNT(*), MIN(expires_at) FROM approvals WHERE client_id = $1 AND state = 'pending' AND expires_at > $2";
/// The latest of one client that asked for the same.
pub(super) const APPROVAL_LIKE: &str = concat!(
    "SELECT ",
    approval_columns!(),
    " FROM approvals WHERE client_id = $1 AND likeness = $2 ORDER BY id DESC LIMIT 1"
);
/// Those that wait and end behind an instant, or at it with a greater id; what ends first first; of one tenant if one is named.
pub(super) const APPROVALS_WAITING: &str = concat!(
    "SELECT ",
    approval_columns!(),
    " FROM approvals WHERE state = 'pending' AND (expires_at, id) > ($1, $2) AND ($3 = '' OR tenant = $3) ORDER BY expires_at, id LIMIT $4"
);
/// All that are kept and older than an id, the newest first; of one tenant if one is named.
pub(super) const APPROVALS_LATEST: &str = concat!(
    "SELECT ",
    approval_columns!(),
    " FROM approvals WHERE id < $1 AND ($2 = '' OR tenant = $2) ORDER BY id DESC LIMIT $3"
);
/// Those of one client with an envelope that may have something left in a task, the newest first.
pub(super) const APPROVALS_OPEN: &str = concat!(
    "SELECT ",
    approval_columns!(),
    " FROM approvals WHERE open_in = $1 AND client_id = $2 ORDER BY id DESC LIMIT $3"
);
pub(super) const APPROVALS_OVERDUE: &str = concat!(
    "SELECT ",
    approval_columns!(),
    " FROM approvals WHERE state = 'pending' AND expires_at <= $1 ORDER BY expires_at LIMIT $2"
);

/// A row of `approvals`.
#[derive(Debug, FromRow)]
pub(super) struct ApprovalRow {
    id: String,
    tenant: String,
    client_id: String,
    code_sha256: String,
    likeness: String,
    state: String,
    quorum: i64,
    created_at: i64,
    expires_at: i64,
    decision_id: String,
    request: String,
    shown: String,
    votes: String,
    jti: Option<String>,
    envelope: Option<String>,
    open_in: Option<String>,
}

as_array!(ApprovalRow; id tenant client_id code_sha256 likeness state quorum created_at expires_at decision_id
    request shown votes jti envelope open_in);

impl From<&Approval> for ApprovalRow {
    fn from(approval: &Approval) -> Self {
        Self {
            id: approval.id.to_string(),
            tenant: approval.tenant.to_string(),
            client_id: approval.client_id.to_string(),
            code_sha256: approval.code_sha256.clone(),
            likeness: approval.likeness.clone(),
            state: approval.state.as_str().to_owned(),
            quorum: i64::from(approval.quorum),
            created_at: micros(approval.created_at),
            expires_at: micros(approval.expires_at),
            decision_id: approval.decision_id.to_string(),
            request: to_json(&approval.request),
            shown: to_json(&approval.shown),
            votes: to_json(&approval.votes),
            jti: approval.jti.map(|jti| jti.to_string()),
            envelope: approval.envelope.as_ref().map(to_json),
            open_in: approval.envelope.as_ref().filter(|e| !e.is_exhausted()).map(|e| e.task_id.to_string()),
        }
    }
}

impl TryFrom<ApprovalRow> for Approval {
    type Error = StoreError;
    fn try_from(row: ApprovalRow) -> Result<Self, StoreError> {
        let quorum = u32::try_from(row.quorum).map_err(|why| corrupt("quorum")(why.to_string()))?;
        Ok(Self {
            id: parsed(&row.id, "approval id")?,
            tenant: parsed(&row.tenant, "tenant")?,
            client_id: parsed(&row.client_id, "client id")?,
            code_sha256: row.code_sha256,
            likeness: row.likeness,
            state: parsed::<ApprovalState>(&row.state, "state of an approval")?,
            quorum,
            created_at: instant(row.created_at)?,
            expires_at: instant(row.expires_at)?,
            decision_id: parsed(&row.decision_id, "decision id")?,
            request: from_json(&row.request, "deferred request")?,
            shown: from_json(&row.shown, "shown request")?,
            votes: from_json(&row.votes, "list of votes")?,
            jti: row.jti.map(|jti| parsed(&jti, "jti")).transpose()?,
            envelope: row
                .envelope
                .map(|envelope| from_json::<OpenEnvelope>(&envelope, "envelope"))
                .transpose()?,
        })
    }
}

/// The hash under which a code is stored (AP-01).
pub fn hash_of(code: &DeferralCode) -> String {
    hex::encode(sha256(&[code.reveal().as_bytes()]))
}

/// What no id comes behind.
fn last_id() -> String {
    uuid::Uuid::max().to_string()
}

fn read(rows: Vec<ApprovalRow>) -> Result<Vec<Approval>, StoreError> {
    rows.into_iter().map(Approval::try_from).collect()
}

impl Store {
    /// The approval of this id.
    pub async fn approval(&self, id: ApprovalId) -> Result<Option<Approval>, StoreError> {
        let row: Option<ApprovalRow> = on_db!(self.db(), pools =>
            sqlx::query_as(APPROVAL).bind(id.to_string()).fetch_optional(&pools.read).await?);
        row.map(Approval::try_from).transpose()
    }

    /// The approval that this code redeems.
    pub async fn approval_of_code(&self, code: &DeferralCode) -> Result<Option<Approval>, StoreError> {
        let code_sha256 = hash_of(code);
        let row: Option<ApprovalRow> = on_db!(self.db(), pools =>
            sqlx::query_as(APPROVAL_OF_CODE).bind(code_sha256).fetch_optional(&pools.read).await?);
        row.map(Approval::try_from).transpose()
    }

    /// The approvals of `client` whose envelopes may have something left in `task`, the newest first, at most `most`.
    pub async fn envelopes(
        &self,
        task: TaskId,
        client: &ClientId,
        most: u32,
    ) -> Result<Vec<Approval>, StoreError> {
        read(on_db!(self.db(), pools => sqlx::query_as(APPROVALS_OPEN)
            .bind(task.to_string())
            .bind(client.as_str())
            .bind(i64::from(most))
            .fetch_all(&pools.read)
            .await?))
    }

    /// Whether nothing that its envelope hangs on is revoked: the token that it was redeemed for with all above it, its task, and
    /// who approved it. What the commit checks, read without the lock.
    pub async fn is_envelope_alive(&self, approval: &Approval) -> Result<bool, StoreError> {
        let Some(jti) = approval.jti else { return Ok(false) };
        let Some(token) = self.token(jti).await? else { return Ok(false) };
        let keys: Vec<_> =
            token.killed_by().into_iter().chain(approval.approvals().map(Vote::killed_by)).collect();
        Ok(!self.is_any_revoked(&keys).await?)
    }

    /// How many approvals `client` waits for at `now`, and when the first of them is over.
    pub async fn waiting_of(
        &self,
        client: &ClientId,
        now: DateTime<Utc>,
    ) -> Result<(u64, Option<DateTime<Utc>>), StoreError> {
        let (count, soonest): (i64, Option<i64>) = on_db!(self.db(), pools => sqlx::query_as(APPROVALS_COUNTED)
            .bind(client.as_str())
            .bind(micros(now))
            .fetch_one(&pools.read)
            .await?);
        Ok((u64::try_from(count).unwrap_or_default(), soonest.map(instant).transpose()?))
    }

    /// The latest approval that `client` asked for with this likeness, however it stands.
    pub async fn approval_like(
        &self,
        client: &ClientId,
        likeness: &str,
    ) -> Result<Option<Approval>, StoreError> {
        let row: Option<ApprovalRow> = on_db!(self.db(), pools => sqlx::query_as(APPROVAL_LIKE)
            .bind(client.as_str())
            .bind(likeness)
            .fetch_optional(&pools.read)
            .await?);
        row.map(Approval::try_from).transpose()
    }

    /// What waits for people at `now`, what ends first first, at most `most`; behind `after` in that order, and of `tenant`, if they
    /// are named.
    pub async fn waiting(
        &self,
        now: DateTime<Utc>,
        (tenant, after): (Option<&Name>, Option<&Approval>),
        most: u32,
    ) -> Result<Vec<Approval>, StoreError> {
        // What ends at `now` has ended, whatever its id is.
        let start = (now, last_id());
        let live = after.filter(|approval| approval.expires_at > now);
        let (ends, id) = live.map_or(start, |approval| (approval.expires_at, approval.id.to_string()));
        read(on_db!(self.db(), pools => sqlx::query_as(APPROVALS_WAITING)
            .bind(micros(ends))
            .bind(id)
            .bind(tenant.map_or("", Name::as_str))
            .bind(i64::from(most))
            .fetch_all(&pools.read)
            .await?))
    }

    /// All approvals that are kept, the newest first, at most `most`; older than `after`, and of `tenant`, if they are named.
    pub async fn approvals(
        &self,
        (tenant, after): (Option<&Name>, Option<ApprovalId>),
        most: u32,
    ) -> Result<Vec<Approval>, StoreError> {
        let id = after.map_or_else(last_id, |id| id.to_string());
        read(on_db!(self.db(), pools => sqlx::query_as(APPROVALS_LATEST)
            .bind(id)
            .bind(tenant.map_or("", Name::as_str))
            .bind(i64::from(most))
            .fetch_all(&pools.read)
            .await?))
    }

    /// What nobody decided before `now`, at most `most`.
    pub async fn overdue(&self, now: DateTime<Utc>, most: u32) -> Result<Vec<Approval>, StoreError> {
        read(on_db!(self.db(), pools => sqlx::query_as(APPROVALS_OVERDUE)
            .bind(micros(now))
            .bind(i64::from(most))
            .fetch_all(&pools.read)
            .await?))
    }
}
