//! What a demo data folder keeps for itself: its address, and the passwords and secrets that were made for it.
//!
//! `dev.json` repeats them for scripts, but comes and goes with the server; this file stays.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::fault::DevFault;
use super::{cast, private};
use crate::clock::Random;
use crate::hash::sha256;

const FILE: &str = "dev-secrets.json";

/// What is kept. No `Debug`: nearly all of it is secret.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Secrets {
    /// Version of this form.
    version: u32,
    /// Where the server listens; the issuer of all that was signed and stored depends on it.
    pub(super) listen: SocketAddr,
    /// Where the admin API listened last. Nothing that is signed or stored depends on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) admin: Option<SocketAddr>,
    /// By user name.
    passwords: BTreeMap<String, String>,
    /// By client id.
    clients: BTreeMap<String, String>,
    /// Names the demo objects that were applied last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) applied: Option<String>,
}

impl Secrets {
    /// For a data folder whose server listens at `listen`, with nothing made yet.
    pub(super) fn new(listen: SocketAddr) -> Self {
        let (passwords, clients) = (BTreeMap::new(), BTreeMap::new());
        Self { version: 1, listen, admin: None, passwords, clients, applied: None }
    }

    /// What the folder keeps; none if nothing yet.
    pub(super) fn load(data: &Path) -> Result<Option<Self>, DevFault> {
        let path = file(data);
        let text =
            private::read(&path).map_err(|why| DevFault::File { action: "read", path: path.clone(), why })?;
        let parsed = text.map(|text| serde_json::from_str(&text)).transpose();
        parsed.map_err(|why| DevFault::File { action: "read", path, why: why.into() })
    }

    /// Makes what the cast lacks: all of it in a new folder, what a newer version added in an old one.
    pub(super) fn complete(&mut self, random: &Random) {
        for person in cast::people() {
            let password = || URL_SAFE_NO_PAD.encode(random.bytes::<12>());
            self.passwords.entry(person.name.to_owned()).or_insert_with(password);
        }
        for client in cast::clients() {
            let secret = || format!("tgs_{}", URL_SAFE_NO_PAD.encode(random.bytes::<32>()));
            self.clients.entry(client.to_owned()).or_insert_with(secret);
        }
    }

    /// Writes the file.
    pub(super) fn save(&self, data: &Path) -> Result<(), DevFault> {
        let path = file(data);
        let text = serde_json::to_string_pretty(self).map_err(std::io::Error::from);
        let written = text.and_then(|text| private::write(&path, &(text + "\n")));
        written.map_err(|why| DevFault::File { action: "write", path, why })
    }

    /// A user's password; empty for nobody.
    pub(super) fn password(&self, user: &str) -> &str {
        self.passwords.get(user).map_or("", String::as_str)
    }

    /// A client's secret, if it is one of the cast.
    pub(super) fn client(&self, id: &str) -> Option<&str> {
        self.clients.get(id).map(String::as_str)
    }

    /// SHA-256 of a client's secret, in lower-case hexadecimal.
    pub(super) fn client_sha256(&self, id: &str) -> Option<String> {
        self.client(id).map(|secret| sha256_hex(secret.as_bytes()))
    }
}

/// SHA-256 in lower-case hexadecimal.
pub(super) fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(sha256(&[bytes]))
}

fn file(data: &Path) -> PathBuf {
    data.join(FILE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_once_stays_and_what_is_missing_is_made() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Secrets::load(folder.path()).unwrap().is_none());
        let mut made = Secrets::new("127.0.0.1:8080".parse().unwrap());
        made.complete(&Random::default());
        made.passwords.remove("carol");
        made.save(folder.path()).unwrap();

        let mut read = Secrets::load(folder.path()).unwrap().unwrap();
        read.complete(&Random::default());
        assert_eq!(read.password("alice"), made.password("alice"));
        assert_eq!(read.client("support-agent"), made.client("support-agent"));
        assert!(read.password("alice").len() >= 16 && read.password("carol").len() >= 16);
        assert_ne!(read.password("alice"), read.password("carol"));
        assert_eq!(read.client("support-agent").unwrap().len(), 4 + 43);
        assert_eq!(read.password("nobody"), "");
    }

    #[test]
    fn a_hash_is_64_lower_case_digits() {
        assert_eq!(sha256_hex(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
