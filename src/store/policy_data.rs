//! The data documents of the policy: immutable, named by their content, and never taken out.

use chrono::{DateTime, Utc};
use sqlx::FromRow;

use super::error::StoreError;
use super::rows::instant;
use super::{Store, on_db};

/// Of one that is there already nothing changes: it is the same.
pub(super) const PUT_DATA: &str = "INSERT INTO policy_data (version, path, content, created_at) \
     VALUES ($1, $2, $3, $4) ON CONFLICT (version) DO NOTHING";
pub(super) const DATA: &str = "SELECT path, content FROM policy_data WHERE version = $1";
pub(super) const DATA_AT: &str =
    "SELECT version, created_at FROM policy_data WHERE path = $1 ORDER BY created_at DESC, version";

/// A document, or with an empty path the names of all that are in force at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataRow {
    /// Hash of its content.
    pub version: String,
    /// Where it lies below `data`.
    pub path: String,
    /// Its content.
    pub content: Vec<u8>,
    /// When it came here.
    pub created_at: DateTime<Utc>,
}

/// A document that is kept.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct KeptData {
    /// Where it lies below `data`; empty for all at once.
    pub path: String,
    /// Its content.
    pub content: Vec<u8>,
}

impl Store {
    /// The document of this version.
    pub async fn policy_data(&self, version: &str) -> Result<Option<KeptData>, StoreError> {
        Ok(on_db!(self.db(), pools => sqlx::query_as(DATA).bind(version).fetch_optional(&pools.read).await?))
    }

    /// Every version that was ever in force at `path`, and when it came here; the newest first.
    pub async fn policy_data_at(&self, path: &str) -> Result<Vec<(String, DateTime<Utc>)>, StoreError> {
        let rows: Vec<(String, i64)> =
            on_db!(self.db(), pools => sqlx::query_as(DATA_AT).bind(path).fetch_all(&pools.read).await?);
        rows.into_iter().map(|(version, at)| Ok((version, instant(at)?))).collect()
    }
}
