//! Which migrations a database has, and bringing it up to date: forward only.

use sqlx::migrate::{MigrateError, Migrator};

use super::error::StoreError;
use super::folder::Location;
use super::{Store, on_db};

static MIGRATIONS: Migrator = sqlx::migrate!();

pub(super) const APPLIED: &str =
    "SELECT version, checksum FROM _sqlx_migrations WHERE success ORDER BY version";

/// PostgreSQL's code for a table that does not exist.
const UNDEFINED_TABLE: &str = "42P01";

/// One migration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its number.
    pub version: i64,
    /// What it is for.
    pub name: String,
}

/// The greatest migration that this program knows.
pub fn known_schema() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0)
}

impl Store {
    /// Opens the data at `location` and applies the migrations that it lacks. Two that do so at once wait for one
    /// another: PostgreSQL by an advisory lock, a data folder by its own.
    pub async fn migrate(location: &Location) -> Result<Self, StoreError> {
        let store = Self::connect(location).await?;
        store.apply_migrations().await?;
        Ok(store)
    }

    /// The same, and which migrations it lacked before.
    pub async fn migrate_and_tell(location: &Location) -> Result<(Self, Vec<Step>), StoreError> {
        let store = Self::connect(location).await?;
        let lacking = store.lacking().await?;
        store.apply_migrations().await?;
        Ok((store, lacking))
    }

    /// Connects to the data at `location` whatever its schema is, only to look at that.
    pub async fn connect_only(location: &Location) -> Result<Self, StoreError> {
        Self::connect(location).await
    }

    /// The migrations that the database lacks. One that it has and this program does not know, or knows otherwise, is a
    /// fault.
    pub async fn lacking(&self) -> Result<Vec<Step>, StoreError> {
        let applied = self.applied().await?;
        for (version, checksum) in &applied {
            let known = MIGRATIONS.iter().find(|migration| migration.version == *version);
            let known = known.ok_or(StoreError::SchemaNewer(*version))?;
            if known.checksum.as_ref() != checksum.as_slice() {
                return Err(StoreError::Migration(MigrateError::VersionMismatch(*version)));
            }
        }
        let lacking = MIGRATIONS.iter().filter(|known| !applied.iter().any(|(has, _)| *has == known.version));
        let step = |known: &sqlx::migrate::Migration| Step {
            version: known.version,
            name: known.description.to_string(),
        };
        Ok(lacking.map(step).collect())
    }

    pub(super) async fn check_schema(&self) -> Result<(), StoreError> {
        match self.lacking().await?.last() {
            Some(step) => Err(StoreError::SchemaOlder(step.version)),
            None => Ok(()),
        }
    }

    async fn apply_migrations(&self) -> Result<(), StoreError> {
        on_db!(self.db(), pools => MIGRATIONS.run(&pools.write).await)?;
        Ok(())
    }

    async fn applied(&self) -> Result<Vec<(i64, Vec<u8>)>, StoreError> {
        let applied = on_db!(self.db(), pools => sqlx::query_as(APPLIED).fetch_all(&pools.read).await);
        match applied {
            Err(error) if is_untouched(&error) => Ok(Vec::new()),
            applied => Ok(applied?),
        }
    }
}

/// Whether the table of migrations is not there yet.
fn is_untouched(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(error) = error else { return false };
    error.code().is_some_and(|code| code == UNDEFINED_TABLE) || error.message().starts_with("no such table")
}
