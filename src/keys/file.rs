//! A private key at rest: PKCS#8 in PEM (RFC 5958, RFC 7468), in a file that only its owner can read.
//!
//! The key type stands in the PKCS#8 itself, so no second file can disagree with it, and `openssl pkey` reads and
//! makes such files.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rsa::pkcs8::der::zeroize::Zeroizing;
use rsa::pkcs8::{LineEnding, SecretDocument};

/// The PEM label of an unencrypted PKCS#8 key (RFC 7468 §10).
const LABEL: &str = "PRIVATE KEY";

/// Longest file looked at, in bytes; an RSA key of 4096 bits needs 3,300.
const MAX_FILE: u64 = 64 * 1024;

/// A private key as PKCS#8: wiped from memory when dropped, redacted in `Debug`, never serialised.
pub struct PrivateDocument(SecretDocument);

/// Why a private key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileFault {
    /// The file system refused; `action` is `read`, `create` or the like.
    #[error("cannot {action} private key file `{}`: {source}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Group or others may touch the file: the key may already be known (DESIGN §10).
    #[error(
        "private key file `{path}` is open to group or others (mode {mode:04o}); run `chmod 600 {path}`, and replace the key if others may have read it",
        path = path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not an unencrypted PKCS#8 key in PEM, or longer than 64 KiB.
    #[error("private key file `{}` is not an unencrypted PKCS#8 key in PEM (`-----BEGIN PRIVATE KEY-----`)", path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
    },
}

/// Reads a file that holds a private key of whatever form, and refuses one that group or others can touch.
///
/// The mode is that of the opened file, so that it cannot be exchanged between the look and the reading. Symbolic
/// links are followed: mounted secrets are links.
pub fn read_private(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyFileFault> {
    let fault = |source| KeyFileFault::Io { action: "read", path: path.to_owned(), source };
    let file = File::open(path).map_err(fault)?;
    let about = file.metadata().map_err(fault)?;
    if !about.is_file() || about.len() > MAX_FILE {
        return Err(KeyFileFault::NotAKey { path: path.to_owned() });
    }
    let mode = about.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyFileFault::Exposed { path: path.to_owned(), mode });
    }
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(MAX_FILE).read_to_end(&mut bytes).map_err(fault)?;
    Ok(bytes)
}

impl PrivateDocument {
    pub(super) fn new(document: SecretDocument) -> Self {
        Self(document)
    }

    /// The PKCS#8 in DER.
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Writes a new file with mode 0600; an existing one is never touched. On return file and folder entry are on disk.
    ///
    /// The file appears whole under its name or not at all: it is written beside it and then linked, which, other than
    /// a renaming, fails where the name is taken. What a crash leaves has a name that nobody reads.
    pub fn save(&self, path: &Path) -> Result<(), KeyFileFault> {
        let fault = |action| move |source| KeyFileFault::Io { action, path: path.to_owned(), source };
        let pem = self
            .0
            .to_pem(LABEL, LineEnding::LF)
            .map_err(|_| KeyFileFault::NotAKey { path: path.to_owned() })?;
        let beside = path.with_extension("new");
        // A left-over of a crash: its key was never used.
        fs::remove_file(&beside).ok();
        let mut options = OpenOptions::new();
        let mut file =
            options.write(true).create_new(true).mode(0o600).open(&beside).map_err(fault("create"))?;
        let written = file.write_all(pem.as_bytes()).and_then(|()| file.sync_all());
        let written = written.map_err(fault("write"));
        let linked = written.and_then(|()| fs::hard_link(&beside, path).map_err(fault("create")));
        // Best effort: the first fault is the one to report.
        fs::remove_file(&beside).ok();
        linked?;
        sync_folder(path).map_err(fault("sync the folder of"))
    }

    /// Removes a key file for ever; one that is gone already counts as removed.
    pub fn remove(path: &Path) -> Result<(), KeyFileFault> {
        let fault = |source| KeyFileFault::Io { action: "remove", path: path.to_owned(), source };
        match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.and_then(|()| sync_folder(path)).map_err(fault),
        }
    }

    /// Reads a key file, and refuses one that group or others can touch.
    pub fn load(path: &Path) -> Result<Self, KeyFileFault> {
        let not_a_key = || KeyFileFault::NotAKey { path: path.to_owned() };
        let pem = read_private(path)?;
        let text = std::str::from_utf8(&pem).map_err(|_| not_a_key())?;
        match SecretDocument::from_pem(text) {
            Ok((LABEL, document)) => Ok(Self(document)),
            Ok(_) | Err(_) => Err(not_a_key()),
        }
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all())
}

impl std::fmt::Debug for PrivateDocument {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("PrivateDocument(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, metadata, set_permissions, write};

    use ring::rand::SystemRandom;

    use super::super::signing::{KeySpec, SigningKey};
    use super::*;

    fn saved(folder: &tempfile::TempDir) -> PathBuf {
        let path = folder.path().join("key.pem");
        SigningKey::generate(KeySpec::Es256, &SystemRandom::new()).unwrap().1.save(&path).unwrap();
        path
    }

    #[test]
    fn a_saved_key_is_readable_by_its_owner_only_and_loads_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = saved(&folder);
        assert_eq!(metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert!(PrivateDocument::load(&path).is_ok());
    }

    #[test]
    fn a_file_open_to_group_or_others_is_refused_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let path = saved(&folder);
        for mode in [0o644, 0o640, 0o604, 0o660, 0o602, 0o601] {
            set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let fault = PrivateDocument::load(&path).unwrap_err();
            let text = fault.to_string();
            assert!(matches!(fault, KeyFileFault::Exposed { mode: seen, .. } if seen == mode), "{text}");
            assert!(text.contains(&format!("run `chmod 600 {}`", path.display())), "{text}");
        }
        set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
        assert!(PrivateDocument::load(&path).is_ok());
    }

    #[test]
    fn an_existing_file_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = saved(&folder);
        let before = std::fs::read(&path).unwrap();
        let (_, other) = SigningKey::generate(KeySpec::Es256, &SystemRandom::new()).unwrap();
        assert!(matches!(other.save(&path), Err(KeyFileFault::Io { action: "create", .. })));
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }

    #[test]
    fn what_a_crash_left_is_in_nobodys_way_and_nothing_is_left_beside_the_file() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path().join("key.new"), "half").unwrap();
        let path = saved(&folder);
        assert!(PrivateDocument::load(&path).is_ok());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        PrivateDocument::remove(&path).unwrap();
        PrivateDocument::remove(&path).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_is_no_private_key_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        let public = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n".to_owned();
        for content in [String::new(), "nonsense".to_owned(), public, "x".repeat(100_000)] {
            write(&path, content).unwrap();
            set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
            let fault = PrivateDocument::load(&path).unwrap_err();
            assert!(matches!(fault, KeyFileFault::NotAKey { .. }), "{fault}");
            assert!(fault.to_string().contains("key.pem"));
        }
        assert!(matches!(PrivateDocument::load(folder.path()), Err(KeyFileFault::NotAKey { .. })));
    }

    #[test]
    fn a_private_document_does_not_print_itself() {
        let (_, document) = SigningKey::generate(KeySpec::EdDsa, &SystemRandom::new()).unwrap();
        assert_eq!(format!("{document:?}"), "PrivateDocument(redacted)");
    }
}
