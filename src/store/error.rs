//! What can go wrong with the store, and whether trying again may help.

use std::path::PathBuf;
use std::time::Duration;

use sqlx::error::DatabaseError;
use sqlx::migrate::MigrateError;
use thiserror::Error;

use crate::log::tree::BadFrontier;

/// A failure of the store. No text of it holds a URL, a password or a stored value.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The database failed or refused a statement.
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
    /// The connection broke while committing: whether the batch is in the database is unknown.
    #[error("the outcome of a commit is unknown: {0}")]
    CommitUnknown(#[source] sqlx::Error),
    /// A commit took longer than the writer waits: whether the batch is in the database is unknown.
    #[error("a commit took longer than {0} s")]
    CommitSlow(u64),
    /// Something that nobody waits for took longer than the writer has for it.
    #[error("it took longer than {} ms", .0.as_millis())]
    Slow(Duration),
    /// A stored row does not parse.
    #[error("a stored {what} is unreadable: {why}")]
    Corrupt {
        /// What the row should be.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The head of the log does not parse.
    #[error("the head of the decision log is unreadable: {0}")]
    Head(#[from] BadFrontier),
    /// By this clock, what was pruned could matter again.
    #[error(
        "the clock is so far behind the last token that revocations may be forgotten which would matter by it"
    )]
    Forgotten,
    /// The location is neither a folder nor a URL that is understood.
    #[error("a store is a data folder or a `postgres://` URL: {0}")]
    Location(String),
    /// Another process owns the data folder.
    #[error("the data folder `{}` is in use by process {holder}", folder.display())]
    Held {
        /// The data folder.
        folder: PathBuf,
        /// Its process id, as it wrote it into the lock file.
        holder: String,
    },
    /// The data folder cannot be used.
    #[error("the data folder cannot be used: `{}`: {why}", path.display())]
    Folder {
        /// The folder, or the file in it at fault.
        path: PathBuf,
        /// The system's answer.
        why: std::io::Error,
    },
    /// The database was migrated by a newer program.
    #[error("the database has migration {0}, which this program does not know: run a newer one")]
    SchemaNewer(i64),
    /// The database lacks migrations of this program.
    #[error("the database lacks migration {0}: run `taskgrant migrate` first")]
    SchemaOlder(i64),
    /// A migration failed, or differs from what was applied.
    #[error("the migration failed: {0}")]
    Migration(#[source] MigrateError),
}

impl From<MigrateError> for StoreError {
    fn from(error: MigrateError) -> Self {
        if let MigrateError::VersionMissing(version) = error {
            return Self::SchemaNewer(version);
        }
        Self::Migration(error)
    }
}

impl StoreError {
    /// Whether the data of the statement was refused: the same data will be refused again, other data may pass.
    pub fn is_data(&self) -> bool {
        match self {
            Self::Database(sqlx::Error::Database(error)) => is_data(error.as_ref()),
            Self::Database(sqlx::Error::Encode(_)) | Self::Corrupt { .. } => true,
            Self::Database(_)
            | Self::CommitUnknown(_)
            | Self::CommitSlow(_)
            | Self::Slow(_)
            | Self::Head(_)
            | Self::Forgotten
            | Self::Location(_)
            | Self::Held { .. }
            | Self::Folder { .. }
            | Self::SchemaNewer(_)
            | Self::SchemaOlder(_)
            | Self::Migration(_) => false,
        }
    }

    /// Whether the database answered, and refused the statement; one that ends the connection, as at its shutdown, is none. A statement
    /// that stands alone leaves its connection as good as it was.
    pub(super) fn is_refusal(&self) -> bool {
        let Self::Database(sqlx::Error::Database(error)) = self else { return self.is_data() };
        // PostgreSQL: SQLSTATE class 42, a right or a table that is missing. A server that only reads (25006) may be one that leads no
        // more, and a new connection finds the one that does.
        error.code().is_some_and(|code| code.starts_with("42"))
            && error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>().is_some()
            || is_data(error.as_ref())
    }

    /// Whether the store could not answer, and may later.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Database(_) | Self::CommitUnknown(_) | Self::CommitSlow(_)) && !self.is_data()
    }
}

/// PostgreSQL: SQLSTATE classes 22 (data), 23 (constraint), 54 (too large). SQLite: the primary codes
/// `TOOBIG` (18), `CONSTRAINT` (19), `MISMATCH` (20), which stand in the low byte.
fn is_data(error: &dyn DatabaseError) -> bool {
    let Some(code) = error.code() else { return false };
    if error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>().is_some() {
        return ["22", "23", "54"].iter().any(|class| code.starts_with(class));
    }
    code.parse::<u32>().is_ok_and(|code| matches!(code & 0xFF, 18..=20))
}
