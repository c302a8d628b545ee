//! Where the data lies, and the lock that keeps a second process out of a data folder (DESIGN §7).

use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use sqlx::postgres::{PgConnectOptions, PgSslMode};

use super::error::StoreError;

/// Where the data lies.
#[derive(Clone)]
pub enum Location {
    /// In memory, gone with the store: the test double.
    Memory,
    /// SQLite in a data folder, which is made if it is missing.
    Folder(PathBuf),
    /// A PostgreSQL server.
    Postgres(Box<PgConnectOptions>),
}

impl FromStr for Location {
    type Err = StoreError;

    /// `postgres://…` or `postgresql://…` is a server, `sqlite::memory:` is memory, anything without `://` is a
    /// data folder.
    fn from_str(text: &str) -> Result<Self, StoreError> {
        let bad = |why: &str| StoreError::Location(why.to_owned());
        match text.split_once("://") {
            Some(("postgres" | "postgresql", _)) => {
                // The parser's own error could repeat the password.
                let options: PgConnectOptions = text.parse().map_err(|_| bad("the URL is malformed"))?;
                // For whoever looks at the server's sessions.
                let is_named = options.get_application_name().is_some();
                let options = if is_named { options } else { options.application_name("taskgrant") };
                Ok(Self::Postgres(Box::new(options)))
            }
            Some(_) => Err(bad("unknown kind of URL")),
            None if text.is_empty() => Err(bad("it is empty")),
            None if text == "sqlite::memory:" => Ok(Self::Memory),
            None => Ok(Self::Folder(text.into())),
        }
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("Memory"),
            Self::Folder(folder) => f.debug_tuple("Folder").field(folder).finish(),
            Self::Postgres(options) => f.debug_tuple("Postgres").field(&options.get_host()).finish(),
        }
    }
}

impl Location {
    /// The host of a server that is reached over a network without proof of who answers (`sslmode=verify-full`): whoever
    /// stands in between has the password, and all that is written.
    pub fn unverified_host(&self) -> Option<&str> {
        let Self::Postgres(options) = self else { return None };
        let host = options.get_host();
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        let is_here = options.get_socket().is_some()
            || host.starts_with('/')
            || host == "localhost"
            || address.is_ok_and(|address| address.is_loopback());
        let is_verified = matches!(options.get_ssl_mode(), PgSslMode::VerifyFull);
        (!is_here && !is_verified).then_some(host)
    }

    /// The data in `folder`; memory where none has been written yet: for those who look and shall leave no trace.
    pub fn to_look_at(folder: &Path) -> Self {
        if database(folder).exists() { Self::Folder(folder.to_owned()) } else { Self::Memory }
    }
}

/// The database file of a data folder.
pub(super) fn database(folder: &Path) -> PathBuf {
    folder.join(DATABASE_FILE)
}

const LOCK_FILE: &str = "taskgrant.lock";
const DATABASE_FILE: &str = "taskgrant.db";

/// The lock of a data folder, held until the value is dropped.
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
}

fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> StoreError {
    let path = path.to_owned();
    move |why| StoreError::Folder { path, why }
}

impl FolderLock {
    /// Makes the folder if need be (mode 0700) and takes its lock, or tells who holds it.
    pub fn take(folder: &Path) -> Result<Self, StoreError> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed(folder))?;
        let lock_file = folder.join(LOCK_FILE);
        let mut lock = private(&lock_file).map_err(failed(&lock_file))?;
        match lock.try_lock() {
            Ok(()) => sign(&mut lock).map_err(failed(&lock_file))?,
            Err(TryLockError::WouldBlock) => {
                let holder = holder(&mut lock).map_err(failed(&lock_file))?;
                return Err(StoreError::Held { folder: folder.to_owned(), holder });
            }
            Err(TryLockError::Error(why)) => return Err(failed(&lock_file)(why)),
        }
        Ok(Self { _file: lock })
    }
}

/// A data folder with its database, which this process owns until the value is dropped.
#[derive(Debug)]
pub(super) struct OwnedFolder {
    database: PathBuf,
    _lock: FolderLock,
}

impl OwnedFolder {
    /// Takes the folder's lock, and makes the file of its database if need be.
    pub(super) fn take(folder: &Path) -> Result<Self, StoreError> {
        let lock = FolderLock::take(folder)?;
        // SQLite would make the file readable by all; its WAL takes the mode of the database.
        let database = database(folder);
        private(&database).map_err(failed(&database))?;
        Ok(Self { database, _lock: lock })
    }

    /// Path of the database file, which exists.
    pub(super) fn database(&self) -> &Path {
        &self.database
    }
}

/// Opens a file that only its owner may read or write, making it if need be.
fn private(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Writes our process id into the lock file.
fn sign(lock: &mut File) -> std::io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    writeln!(lock, "{}", std::process::id())
}

/// The process id in the lock file.
fn holder(lock: &mut File) -> std::io::Result<String> {
    let mut text = String::new();
    lock.take(32).read_to_string(&mut text)?;
    Ok(if text.trim().is_empty() { "unknown".to_owned() } else { text.trim().to_owned() })
}
