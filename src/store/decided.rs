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

/// No input is larger: a request is far smaller. Without a bound, a damaged row could claim 4 GiB, and get them.
const MOST_UNPACKED: usize = 16 << 20;

impl Decided {
    /// The policy's input as JSON; none if it is not kept, or policy was not asked.
    pub fn unpacked(&self) -> Option<Result<Vec<u8>, String>> {
        self.input.as_deref().map(unpack)
    }
}

/// Unpacks an input. What claims to be larger than any is not.
pub(super) fn unpack(packed: &[u8]) -> Result<Vec<u8>, String> {
    let (claimed, rest) = lz4_flex::block::uncompressed_size(packed).map_err(|why| why.to_string())?;
    if claimed > MOST_UNPACKED {
        return Err(format!(
            "it claims {claimed} bytes, more than the {MOST_UNPACKED} that an input may have"
        ));
    }
    lz4_flex::decompress(rest, claimed).map_err(|why| why.to_string())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_is_unpacked_unless_it_claims_too_much() {
        let input = vec![b'x'; 100_000];
        let packed = lz4_flex::compress_prepend_size(&input);
        assert_eq!(unpack(&packed), Ok(input));
        let claiming = |size: u32| [&size.to_le_bytes()[..], &packed[4..]].concat();
        let why = unpack(&claiming(u32::MAX)).unwrap_err();
        assert!(why.contains("4294967295") && why.contains("16777216"), "{why}");
        assert!(unpack(&claiming((16 << 20) + 1)).unwrap_err().contains("claims"));
        assert!(!unpack(&claiming(3)).is_ok_and(|input| input.len() > 3));
        assert!(unpack(&[1, 2]).is_err() && unpack(&[]).is_err());
    }
}
