//! Proposals as they are stored and found. They are changed by the writer alone.

use sqlx::FromRow;

use super::error::StoreError;
use super::rows::{from_json, instant, micros, parsed, to_json};
use super::transaction::Conn;
use super::{Store, on_db};
use crate::domain::ids::ProposalId;
use crate::domain::proposal::{Answered, Person, Proposal, ProposalState};

/// Columns of [`ProposalRow`], in the order of its fields.
macro_rules! columns {
    () => {
        columns!("content, effect")
    };
    // Requests may be long, and what they do too: neither is listed.
    (listed) => {
        columns!("'' AS content, 'null' AS effect")
    };
    ($long:literal) => {
        concat!(
            "id, needs, command, ",
            $long,
            ", digest, proposer, created_at, expires_at, state, decision_id, answered"
        )
    };
}

pub(super) const PROPOSAL: &str = concat!("SELECT ", columns!(), " FROM proposals WHERE id = $1");
/// Those that wait, and those whose time is over and nobody has said so yet; what ends first first.
pub(super) const PROPOSALS_PENDING: &str = concat!(
    "SELECT ",
    columns!(listed),
    " FROM proposals WHERE state = 'pending' ORDER BY expires_at, id LIMIT $1"
);
/// All that are kept, the newest first.
pub(super) const PROPOSALS_LATEST: &str =
    concat!("SELECT ", columns!(listed), " FROM proposals ORDER BY id DESC LIMIT $1");
/// As it stands now; what it is never changes.
pub(super) const PUT_PROPOSAL: &str = concat!(
    "INSERT INTO proposals (",
    columns!(),
    ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) \
     ON CONFLICT (id) DO UPDATE SET state = excluded.state, proposer = excluded.proposer, answered = excluded.answered"
);

/// [`PUT_PROPOSAL`] with the values of a row.
macro_rules! bound {
    ($row:expr) => {
        sqlx::query(PUT_PROPOSAL)
            .bind($row.id)
            .bind($row.needs)
            .bind($row.command)
            .bind($row.content)
            .bind($row.effect)
            .bind($row.digest)
            .bind($row.proposer)
            .bind($row.created_at)
            .bind($row.expires_at)
            .bind($row.state)
            .bind($row.decision_id)
            .bind($row.answered)
    };
}

/// A row of `proposals`.
#[derive(Debug, FromRow)]
struct ProposalRow {
    id: String,
    needs: String,
    command: String,
    content: String,
    effect: String,
    digest: String,
    proposer: String,
    created_at: i64,
    expires_at: i64,
    state: String,
    decision_id: String,
    answered: Option<String>,
}

impl From<&Proposal> for ProposalRow {
    fn from(proposal: &Proposal) -> Self {
        Self {
            id: proposal.id.to_string(),
            needs: to_json(&proposal.needs),
            command: proposal.command.clone(),
            content: proposal.content.clone(),
            effect: to_json(&proposal.effect),
            digest: proposal.digest.clone(),
            proposer: to_json(&proposal.proposer),
            created_at: micros(proposal.created_at),
            expires_at: micros(proposal.expires_at),
            state: proposal.state.as_str().to_owned(),
            decision_id: proposal.decision_id.to_string(),
            answered: proposal.answered.as_ref().map(to_json),
        }
    }
}

impl TryFrom<ProposalRow> for Proposal {
    type Error = StoreError;
    fn try_from(row: ProposalRow) -> Result<Self, StoreError> {
        let answered = |text: String| from_json::<Answered>(&text, "answer to a proposal");
        Ok(Self {
            id: parsed(&row.id, "proposal id")?,
            needs: from_json(&row.needs, "list of what takes two")?,
            command: row.command,
            content: row.content,
            effect: from_json(&row.effect, "effect of a proposal")?,
            digest: row.digest,
            proposer: from_json::<Person>(&row.proposer, "proposer")?,
            created_at: instant(row.created_at)?,
            expires_at: instant(row.expires_at)?,
            state: parsed::<ProposalState>(&row.state, "state of a proposal")?,
            decision_id: parsed(&row.decision_id, "decision id")?,
            answered: row.answered.map(answered).transpose()?,
        })
    }
}

fn read(rows: Vec<ProposalRow>) -> Result<Vec<Proposal>, StoreError> {
    rows.into_iter().map(Proposal::try_from).collect()
}

impl Conn<'_> {
    /// The proposal of this id.
    pub(super) async fn proposal(self, id: ProposalId) -> Result<Option<Proposal>, StoreError> {
        let row: Option<ProposalRow> = match self {
            Self::Sqlite(conn) => sqlx::query_as(PROPOSAL).bind(id.to_string()).fetch_optional(conn).await?,
            Self::Postgres(conn) => {
                sqlx::query_as(PROPOSAL).bind(id.to_string()).fetch_optional(conn).await?
            }
        };
        row.map(Proposal::try_from).transpose()
    }

    /// Writes a proposal, a new one or a changed one.
    pub(super) async fn put_proposal(self, proposal: &Proposal) -> Result<(), StoreError> {
        let row = ProposalRow::from(proposal);
        match self {
            Self::Sqlite(conn) => bound!(row).execute(conn).await.map(drop)?,
            Self::Postgres(conn) => bound!(row).execute(conn).await.map(drop)?,
        }
        Ok(())
    }
}

impl Store {
    /// The proposal of this id.
    pub async fn proposal(&self, id: ProposalId) -> Result<Option<Proposal>, StoreError> {
        let row: Option<ProposalRow> = on_db!(self.db(), pools =>
            sqlx::query_as(PROPOSAL).bind(id.to_string()).fetch_optional(&pools.read).await?);
        row.map(Proposal::try_from).transpose()
    }

    /// What nobody has answered, whether or not its time is over; what ends first first, at most `most`. Without content and effect.
    pub async fn proposals_pending(&self, most: u32) -> Result<Vec<Proposal>, StoreError> {
        read(on_db!(self.db(), pools =>
            sqlx::query_as(PROPOSALS_PENDING).bind(i64::from(most)).fetch_all(&pools.read).await?))
    }

    /// All proposals that are kept, the newest first, at most `most`. Without content and effect.
    pub async fn proposals(&self, most: u32) -> Result<Vec<Proposal>, StoreError> {
        read(on_db!(self.db(), pools =>
            sqlx::query_as(PROPOSALS_LATEST).bind(i64::from(most)).fetch_all(&pools.read).await?))
    }

    /// Whether nothing that a proposer's word hangs on is revoked. What the commit checks, read without the lock.
    pub async fn is_proposer_alive(&self, proposal: &Proposal) -> Result<bool, StoreError> {
        Ok(!self.is_any_revoked(&proposal.proposer.killed_by).await?)
    }
}
