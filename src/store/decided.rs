//! Decisions of exchanges in the order of their time, page by page, to be decided once more.

use chrono::{DateTime, Utc};
use sqlx::FromRow;

use super::error::StoreError;
use super::{Store, on_db};
use crate::domain::ids::{DecisionId, Name};

/// Ids lead with the instant, so that they are a clock and a place to go on from. No parameter is compared with nothing: an
/// empty tenant is all of them.
pub(super) const DECIDED: &str = "SELECT d.id, d.at, d.outcome, d.leaf, r.record, i.input FROM decisions d \
     LEFT JOIN decision_records r ON r.idx = d.idx LEFT JOIN decision_inputs i ON i.idx = d.idx \
     WHERE d.id > $1 AND d.id < $2 AND d.kind = 'exchange' AND ($3 = '' OR d.tenant = $3) ORDER BY d.id LIMIT $4";

/// A decision of an exchange. What was erased is none.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct Decided {
    /// Its id.
    pub id: String,
    /// When, in Unix microseconds.
    pub at: i64,
    /// How, as the leaf has it.
    pub outcome: String,
    /// The leaf.
    pub leaf: Vec<u8>,
    /// The record.
    pub record: Option<Vec<u8>>,
    /// The policy's input, packed: see [`Decided::unpacked`].
    pub input: Option<Vec<u8>>,
}

impl Decided {
    /// The policy's input as JSON; none if it is not kept, or policy was not asked.
    pub fn unpacked(&self) -> Option<Result<Vec<u8>, String>> {
        let packed = self.input.as_deref()?;
        Some(lz4_flex::decompress_size_prepended(packed).map_err(|why| why.to_string()))
    }
}

/// Which decisions.
#[derive(Clone, Debug)]
pub struct Span {
    after: String,
    before: String,
    tenant: String,
}

impl Span {
    /// Those of exchanges that came at `since` or later, and before `until`, to the millisecond; of one tenant if one is named.
    pub fn new(since: Option<DateTime<Utc>>, until: DateTime<Utc>, tenant: Option<&Name>) -> Self {
        let id = |at| DecisionId::new(at, [0; 10]).to_string();
        Self {
            after: since.map(id).unwrap_or_default(),
            before: id(until),
            tenant: tenant.map(ToString::to_string).unwrap_or_default(),
        }
    }

    /// The rest of it, behind the decision of this id.
    #[must_use]
    pub fn behind(self, id: &str) -> Self {
        Self { after: id.to_owned(), ..self }
    }
}

impl Store {
    /// The first decisions of `span`, at most `most`.
    pub async fn decided(&self, span: &Span, most: u32) -> Result<Vec<Decided>, StoreError> {
        Ok(on_db!(self.db(), pools => sqlx::query_as(DECIDED)
            .bind(&span.after)
            .bind(&span.before)
            .bind(&span.tenant)
            .bind(i64::from(most))
            .fetch_all(&pools.read)
            .await?))
    }
}
