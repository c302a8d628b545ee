//! The server's own keys: one that signs, and all that verify.
//!
//! The folder holds files `0001-es256.pem`, `0002-eddsa.pem` and so on. Of the wanted algorithm the highest number
//! signs; the public half of every file is published, so that tokens signed before a change stay good. A key is
//! retired by removing its file once the last token it signed has expired.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use serde::Serialize;
use serde_json::{Value, json};

use super::algorithm::Algorithm;
use super::fault::JwsFault;
use super::file::{KeyFileFault, PrivateDocument};
use super::jws::{Jws, VerifiedJws};
use super::public::PublicKey;
use super::signing::{KeySpec, SigningFault, SigningKey};
use crate::domain::claims::TokenClaims;

/// The `typ` of our access tokens (RFC 9068 §2.1) [AT-01]; its header is encoded once.
pub const ACCESS_TOKEN: &str = "at+jwt";

/// One active private key, and all public ones. Cheap to share behind an `Arc`; nothing in it changes.
///
/// Private halves of keys that do not sign any more are not kept in memory.
pub struct KeyRing {
    active: SigningKey,
    published: Vec<PublicKey>,
    jwks: Value,
    access_token_header: String,
    rng: SystemRandom,
}

/// Why the keys cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum KeyRingFault {
    /// A file cannot be read or written, or is open to others.
    #[error(transparent)]
    File(#[from] KeyFileFault),
    /// A file is a private key, but not one to sign with.
    #[error("private key file `{}`: {fault}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        fault: SigningFault,
    },
    /// No key could be made.
    #[error("cannot make a signing key: {0}")]
    Generate(SigningFault),
}

/// Why a token could not be signed.
#[derive(Debug, thiserror::Error)]
pub enum SignFault {
    /// The claims cannot be written as JSON.
    #[error("claims cannot be written as JSON: {0}")]
    Claims(#[from] serde_json::Error),
    /// The signature failed.
    #[error(transparent)]
    Key(#[from] SigningFault),
}

/// A key file of the folder.
struct Entry {
    number: u32,
    path: PathBuf,
}

impl KeyRing {
    /// Opens the folder: loads every key file, and makes a key when none is of `spec`'s algorithm.
    ///
    /// The folder is made with mode 0700 if missing. Files of other names are left alone. Two processes that make a key
    /// at once cannot overwrite each other: the second fails with "file exists", and may open again.
    pub fn open(folder: &Path, spec: KeySpec, rng: SystemRandom) -> Result<Self, KeyRingFault> {
        let fault = |action| move |source| KeyFileFault::Io { action, path: folder.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(fault("make the folder"))?;
        let entries = entries(folder).map_err(fault("list the folder"))?;
        let mut keys = Vec::with_capacity(entries.len());
        for Entry { path, .. } in &entries {
            let document = PrivateDocument::load(path)?;
            let key = SigningKey::from_pkcs8(&document, &rng)
                .map_err(|fault| KeyRingFault::Key { path: path.clone(), fault })?;
            keys.push(key);
        }
        let active = keys.iter().rposition(|key| key.algorithm() == spec.algorithm());
        let active = if let Some(at) = active {
            keys.remove(at)
        } else {
            let (key, document) = SigningKey::generate(spec, &rng).map_err(KeyRingFault::Generate)?;
            let number = entries.last().map_or(1, |last| last.number.saturating_add(1));
            document.save(&folder.join(file_name(number, key.algorithm())))?;
            key
        };
        Ok(Self::new(active, &keys, rng))
    }

    /// A ring with one new key that is stored nowhere: for tests and benchmarks.
    pub fn ephemeral(spec: KeySpec, rng: SystemRandom) -> Result<Self, KeyRingFault> {
        let (key, _) = SigningKey::generate(spec, &rng).map_err(KeyRingFault::Generate)?;
        Ok(Self::new(key, &[], rng))
    }

    fn new(active: SigningKey, retired: &[SigningKey], rng: SystemRandom) -> Self {
        let mut published = vec![active.public().clone()];
        for key in retired.iter().rev() {
            // The same key in two files is one key: `kid` must be unique in a set (RFC 7517 §4.5).
            if !published.contains(key.public()) {
                published.push(key.public().clone());
            }
        }
        let keys: Vec<Value> = published.iter().map(|key| json!(key.jwk())).collect();
        let access_token_header = header(&active, ACCESS_TOKEN);
        Self { active, published, jwks: json!({ "keys": keys }), access_token_header, rng }
    }

    /// The algorithm of new signatures.
    pub fn algorithm(&self) -> Algorithm {
        self.active.algorithm()
    }

    /// The `kid` of new signatures.
    pub fn kid(&self) -> &str {
        self.active.kid()
    }

    /// The key set to publish (RFC 7517 §5): the active key first, each with `use`, `alg` and `kid`.
    pub fn jwks(&self) -> &Value {
        &self.jwks
    }

    /// Signs `claims` as a compact JWS whose header has `typ`, `alg` and `kid`. Synchronous.
    pub fn sign(&self, typ: &str, claims: &impl Serialize) -> Result<String, SignFault> {
        let payload = serde_json::to_vec(claims)?;
        let mut compact = String::with_capacity(self.access_token_header.len() + payload.len() * 4 / 3 + 700);
        if typ == ACCESS_TOKEN {
            compact.push_str(&self.access_token_header);
        } else {
            compact.push_str(&header(&self.active, typ));
        }
        compact.push('.');
        URL_SAFE_NO_PAD.encode_string(&payload, &mut compact);
        let signature = self.active.sign(compact.as_bytes(), &self.rng)?;
        compact.push('.');
        URL_SAFE_NO_PAD.encode_string(&signature, &mut compact);
        Ok(compact)
    }

    /// The claims of a token of ours, whatever its dates and whether or not it is revoked; `None` when it is none.
    pub fn own_claims(&self, compact: &str) -> Option<TokenClaims> {
        let jws = Jws::parse(compact).ok().filter(|jws| jws.typ_is(ACCESS_TOKEN))?;
        TokenClaims::read(self.verify_own(jws).ok()?.into_claims()).ok()
    }

    /// Verifies a token that says it is ours: its `kid` must name one of our keys, its `alg` be that key's.
    ///
    /// [`JwsFault::UnknownKey`] also when it names none: we always name it. `typ`, dates and audience are the caller's.
    pub fn verify_own(&self, jws: Jws<'_>) -> Result<VerifiedJws, JwsFault> {
        let kid = jws.unverified().kid.ok_or(JwsFault::UnknownKey)?;
        let key = self.published.iter().find(|key| key.kid() == Some(kid)).ok_or(JwsFault::UnknownKey)?;
        jws.verify(key)
    }
}

impl std::fmt::Debug for KeyRing {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("KeyRing")
            .field("active", &self.active)
            .field("published", &self.published)
            .finish_non_exhaustive()
    }
}

/// The encoded JOSE header. Written through `json!`, so that any `typ` is escaped as it must be.
fn header(key: &SigningKey, typ: &str) -> String {
    let header = json!({ "typ": typ, "alg": key.algorithm().name(), "kid": key.kid() });
    URL_SAFE_NO_PAD.encode(header.to_string())
}

fn file_name(number: u32, algorithm: Algorithm) -> String {
    format!("{number:04}-{}.pem", algorithm.name().to_ascii_lowercase())
}

/// The key files of a folder in the order of their numbers; the name after the number is for people.
fn entries(folder: &Path) -> io::Result<Vec<Entry>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".pem"));
        let number = name.and_then(|name| name.split_once('-')).and_then(|(number, _)| number.parse().ok());
        found.extend(number.map(|number| Entry { number, path }));
    }
    found.sort_by(|a, b| (a.number, &a.path).cmp(&(b.number, &b.path)));
    Ok(found)
}

#[cfg(test)]
#[path = "keyring_tests.rs"]
mod tests;
