//! The server's own keys: one that signs, and all that verify.
//!
//! The folder holds files `0001-es256.pem`, `0002-eddsa.pem` and so on. Of the wanted algorithm the highest number is
//! to sign; the public half of every file is published, so that tokens signed before a change stay good. A key that is
//! to take over waits until everybody can know it: [`TAKEOVER`] from the moment this process first published it.

use std::collections::BTreeSet;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use ring::rand::SystemRandom;
use serde::Serialize;
use serde_json::{Value, json};

use super::algorithm::Algorithm;
use super::fault::JwsFault;
use super::file::{KeyFileFault, PrivateDocument};
use super::jws::{Jws, VerifiedJws};
use super::public::PublicKey;
use super::signing::{KeySpec, SigningFault, SigningKey};
use crate::clock::{Clock, SystemClock};
use crate::domain::claims::TokenClaims;

/// The `typ` of our access tokens (RFC 9068 §2.1) [AT-01]; its header is encoded once.
pub const ACCESS_TOKEN: &str = "at+jwt";

/// How long others may keep our key set: the `max-age` that it is served with (RFC 9111 §5.2.2.1).
pub const MAX_AGE: Duration = Duration::from_mins(5);

/// How long a key is published before it signs: [`MAX_AGE`], and a minute for caches that round up.
pub const TAKEOVER: TimeDelta = TimeDelta::minutes(6);

/// One private key that signs, at most one that waits to take over, and all public ones. Nothing in it changes: what
/// replaces it is a new value.
///
/// Private halves of keys that will not sign any more are not kept in memory.
#[derive(Clone)]
pub struct KeyRing {
    signer: Arc<SigningKey>,
    /// When the signer took over in this process; none if it signed from the start.
    since: Option<DateTime<Utc>>,
    next: Option<Next>,
    /// The key that signed before, from when the signer took over in this process until the store says so too.
    before: Option<String>,
    /// In the order in which they are published: the signer, the next, the others from the newest on.
    published: Vec<Published>,
    stopped: BTreeSet<String>,
    jwks: Value,
    access_token_header: String,
    rng: SystemRandom,
}

/// The key that is to take over.
#[derive(Clone)]
struct Next {
    key: Arc<SigningKey>,
    wait: Wait,
}

/// Until when a key waits: by the steady clock, which nobody sets, and as far as can be told by the time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    not_before: DateTime<Utc>,
    until: Duration,
}

impl Wait {
    /// [`TAKEOVER`] from now.
    fn begin(clock: &dyn Clock) -> Self {
        let until = clock.steady() + TAKEOVER.to_std().unwrap_or(Duration::MAX);
        Self { not_before: clock.now() + TAKEOVER, until }
    }
}

/// A public key, and the file of its private half; none for a key that is stored nowhere.
#[derive(Clone, Debug)]
pub struct Published {
    /// The public half.
    pub key: PublicKey,
    /// Its file.
    pub path: Option<PathBuf>,
}

/// What is known of the keys when the folder is read.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// `kid` of the key that has signed so far: another one waits. None: the key that is to sign signs at once.
    pub signer: Option<String>,
    /// When that key took over.
    pub since: Option<DateTime<Utc>>,
    /// The key that signed before it, as long as the store is not known to say so.
    pub before: Option<String>,
    /// The key that waits already, and until when.
    pub next: Option<(String, Wait)>,
    /// Keys that were stopped for ever: their files count for nothing.
    pub stopped: BTreeSet<String>,
    /// Whether other replicas sign by the same store. The signer that is known must then be in the folder, only a newer
    /// key waits to take over, and none is made unless no signer is known: it could be in this folder alone.
    pub shared: bool,
}

impl Known {
    /// The signer, if nothing that was loaded is it and it was not stopped; with no key at all, also one that was.
    fn missing(&self, loaded: &[Loaded]) -> Option<&str> {
        let signer = self.signer.as_deref()?;
        let is_here = loaded.iter().any(|found| found.key.kid() == signer);
        let is_needed = loaded.is_empty() || !self.stopped.contains(signer);
        (!is_here && is_needed).then_some(signer)
    }
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
    /// The key that signs for all replicas is not here.
    #[error(
        "the key `{kid}` signs for all replicas, and no file in `{}` holds it: replicas share their key files",
        folder.display()
    )]
    Missing {
        /// The key's `kid`.
        kid: String,
        /// Where it should be.
        folder: PathBuf,
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
    /// Nothing may be signed now.
    #[error("nothing is signed as long as it is not known which key signs")]
    Withheld,
}

/// A key file of the folder.
struct Entry {
    number: u32,
    path: PathBuf,
}

/// A key of the folder, private half and all.
struct Loaded {
    key: Arc<SigningKey>,
    path: Option<PathBuf>,
}

impl Loaded {
    fn published(&self) -> Published {
        Published { key: self.key.public().clone(), path: self.path.clone() }
    }
}

impl KeyRing {
    /// Opens the folder, knowing nothing: the key that is to sign signs at once. See [`Self::load`].
    pub fn open(folder: &Path, spec: KeySpec, rng: SystemRandom) -> Result<Self, KeyRingFault> {
        Self::load(folder, spec, rng, &Known::default(), &SystemClock)
    }

    /// Loads every key file of the folder, and makes a key when none is of `spec`'s algorithm. A key that is to sign
    /// and is not the signer that is known waits until [`TAKEOVER`] from now, or goes on waiting.
    ///
    /// The folder is made with mode 0700 if missing. Files of other names are left alone. Two processes that make a key
    /// at once cannot overwrite each other: the second fails with "file exists", and may open again.
    pub fn load(
        folder: &Path,
        spec: KeySpec,
        rng: SystemRandom,
        known: &Known,
        clock: &dyn Clock,
    ) -> Result<Self, KeyRingFault> {
        let mut loaded = read(folder, &rng)?;
        loaded.retain(|found| !known.stopped.contains(found.key.kid()));
        let is_wanted = |found: &Loaded| found.key.algorithm() == spec.algorithm();
        if known.shared
            && let Some(kid) = known.missing(&loaded)
        {
            return Err(KeyRingFault::Missing { kid: kid.to_owned(), folder: folder.to_owned() });
        }
        let may_make = !known.shared || known.signer.is_none();
        if may_make && !loaded.iter().any(is_wanted) {
            let (key, path) = create(folder, spec, &rng)?;
            loaded.push(Loaded { key: Arc::new(key), path: Some(path) });
        }
        // One is of the algorithm by now; without it the newest of all would do.
        let wanted = loaded.iter().rfind(|found| is_wanted(found)).or(loaded.last());
        let Some(wanted) = wanted.map(|found| found.key.clone()) else {
            return Err(KeyRingFault::Generate(SigningFault::Failed));
        };
        let has_signed = |found: &&Loaded| known.signer.as_deref() == Some(found.key.kid());
        let signer = loaded.iter().find(has_signed).map_or_else(|| wanted.clone(), |found| found.key.clone());
        let at = |key: &SigningKey| loaded.iter().position(|found| found.key.kid() == key.kid());
        let may_wait = wanted.kid() != signer.kid() && (!known.shared || at(&wanted) > at(&signer));
        let waiting = known.next.as_ref().filter(|(kid, _)| kid == wanted.kid()).map(|(_, at)| *at);
        let wait = waiting.unwrap_or_else(|| Wait::begin(clock));
        let next = may_wait.then_some(Next { key: wanted, wait });
        let others = loaded.iter().rev().map(Loaded::published).collect();
        let since = known.since.filter(|_| known.signer.as_deref() == Some(signer.kid()));
        let bare = Self::of(signer, others, rng);
        Ok(Self { since, next, before: known.before.clone(), stopped: known.stopped.clone(), ..bare }
            .settled())
    }

    /// A ring with one new key that is stored nowhere: for tests and benchmarks.
    pub fn ephemeral(spec: KeySpec, rng: SystemRandom) -> Result<Self, KeyRingFault> {
        let (key, _) = SigningKey::generate(spec, &rng).map_err(KeyRingFault::Generate)?;
        Ok(Self::of(Arc::new(key), Vec::new(), rng).settled())
    }

    fn of(signer: Arc<SigningKey>, published: Vec<Published>, rng: SystemRandom) -> Self {
        let (jwks, access_token_header, stopped) = (Value::Null, String::new(), BTreeSet::new());
        Self {
            signer,
            since: None,
            next: None,
            before: None,
            published,
            stopped,
            jwks,
            access_token_header,
            rng,
        }
    }

    /// Puts what is published into its order, each key once (`kid` is unique in a set, RFC 7517 §4.5), and writes what
    /// is served of it.
    fn settled(mut self) -> Self {
        let first = [Some(&self.signer), self.next.as_ref().map(|next| &next.key)];
        let mut published: Vec<Published> = Vec::with_capacity(self.published.len() + 1);
        for key in
            first.into_iter().flatten().map(|key| key.public()).chain(self.published.iter().map(|p| &p.key))
        {
            if !self.stopped.contains(key.thumbprint()) && !published.iter().any(|p| p.key == *key) {
                let path = self.published.iter().find(|p| p.key == *key).and_then(|p| p.path.clone());
                published.push(Published { key: key.clone(), path });
            }
        }
        let keys: Vec<Value> = published.iter().map(|p| json!(p.key.jwk())).collect();
        self.jwks = json!({ "keys": keys });
        self.access_token_header = header(&self.signer, ACCESS_TOKEN);
        self.published = published;
        self
    }

    /// The ring after the waiting key has taken over, if its time has come.
    pub fn promoted(&self, clock: &dyn Clock) -> Option<Self> {
        let next = self.next.as_ref().filter(|next| next.wait.until <= clock.steady())?;
        let (signer, since, before) = (next.key.clone(), Some(clock.now()), Some(self.kid().to_owned()));
        Some(Self { signer, since, next: None, before, ..self.clone() }.settled())
    }

    /// The ring without the keys `kids`, which are stopped for ever if `stop` says so. `fresh` signs from now on;
    /// without it the signer stays, whatever `kids` say.
    pub fn without(
        &self,
        kids: &BTreeSet<String>,
        stop: bool,
        fresh: Option<(Fresh, DateTime<Utc>)>,
    ) -> Self {
        let mut ring = self.clone();
        ring.published.retain(|p| !kids.contains(p.key.thumbprint()));
        ring.next = ring.next.filter(|next| !kids.contains(next.key.kid()) && fresh.is_none());
        if stop {
            ring.stopped.extend(kids.iter().cloned());
        }
        if let Some((Fresh { key, path }, now)) = fresh {
            ring.published.push(Published { key: key.public().clone(), path: Some(path) });
            ring.before = Some(ring.kid().to_owned());
            (ring.signer, ring.since) = (Arc::new(key), Some(now));
        }
        ring.settled()
    }

    /// What must be known of this ring to load the folder again.
    pub fn known(&self) -> Known {
        Known {
            signer: Some(self.kid().to_owned()),
            since: self.since,
            before: self.before.clone(),
            next: self.next.as_ref().map(|next| (next.key.kid().to_owned(), next.wait)),
            stopped: self.stopped.clone(),
            shared: false,
        }
    }

    /// Whether `kid` was stopped for ever.
    pub fn has_stopped(&self, kid: &str) -> bool {
        self.stopped.contains(kid)
    }

    /// Whether the signer took over from `kid` in this process.
    pub fn took_over_from(&self, kid: &str) -> bool {
        self.before.as_deref() == Some(kid)
    }

    /// The algorithm of new signatures.
    pub fn algorithm(&self) -> Algorithm {
        self.signer.algorithm()
    }

    /// The `kid` of new signatures.
    pub fn kid(&self) -> &str {
        self.signer.kid()
    }

    /// When the signer took over in this process; none if it has signed from the start.
    pub fn since(&self) -> Option<DateTime<Utc>> {
        self.since
    }

    /// Whether a key that waits is to take over within `ahead`.
    pub fn is_due(&self, clock: &dyn Clock, ahead: Duration) -> bool {
        self.next.as_ref().is_some_and(|next| next.wait.until <= clock.steady() + ahead)
    }

    /// `kid` of the key that waits to take over, and when it will.
    pub fn next(&self) -> Option<(&str, DateTime<Utc>)> {
        self.next.as_ref().map(|next| (next.key.kid(), next.wait.not_before))
    }

    /// All that is published: the signer first, then the one that waits, then the others from the newest on.
    pub fn published(&self) -> &[Published] {
        &self.published
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
            compact.push_str(&header(&self.signer, typ));
        }
        compact.push('.');
        URL_SAFE_NO_PAD.encode_string(&payload, &mut compact);
        let signature = self.signer.sign(compact.as_bytes(), &self.rng)?;
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
        let published =
            self.published.iter().find(|p| p.key.kid() == Some(kid)).ok_or(JwsFault::UnknownKey)?;
        jws.verify(&published.key)
    }
}

/// A key that was just made, and its file.
pub struct Fresh {
    key: SigningKey,
    path: PathBuf,
}

impl Fresh {
    /// Makes a key and its file, with the number after the highest. RSA takes seconds: not for an async thread.
    pub fn make(folder: &Path, spec: KeySpec, rng: &SystemRandom) -> Result<Self, KeyRingFault> {
        create(folder, spec, rng).map(|(key, path)| Self { key, path })
    }

    /// Its `kid`.
    pub fn kid(&self) -> &str {
        self.key.kid()
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl std::fmt::Debug for KeyRing {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("KeyRing")
            .field("signer", &self.signer)
            .field("published", &self.published)
            .finish_non_exhaustive()
    }
}

/// The encoded JOSE header. Written through `json!`, so that any `typ` is escaped as it must be.
fn header(key: &SigningKey, typ: &str) -> String {
    let header = json!({ "typ": typ, "alg": key.algorithm().name(), "kid": key.kid() });
    URL_SAFE_NO_PAD.encode(header.to_string())
}

/// All keys of the folder in the order of their numbers; the folder is made if it is missing.
fn read(folder: &Path, rng: &SystemRandom) -> Result<Vec<Loaded>, KeyRingFault> {
    let fault = |action| move |source| KeyFileFault::Io { action, path: folder.to_owned(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(fault("make the folder"))?;
    let load = |Entry { path, .. }: Entry| {
        let document = PrivateDocument::load(&path)?;
        let key = SigningKey::from_pkcs8(&document, rng)
            .map_err(|fault| KeyRingFault::Key { path: path.clone(), fault })?;
        Ok(Loaded { key: Arc::new(key), path: Some(path) })
    };
    entries(folder).map_err(fault("list the folder"))?.into_iter().map(load).collect()
}

/// Makes a key and its file, with the number after the highest.
fn create(folder: &Path, spec: KeySpec, rng: &SystemRandom) -> Result<(SigningKey, PathBuf), KeyRingFault> {
    let fault = |source| KeyFileFault::Io { action: "list the folder", path: folder.to_owned(), source };
    let (key, document) = SigningKey::generate(spec, rng).map_err(KeyRingFault::Generate)?;
    let number = entries(folder).map_err(fault)?.last().map_or(1, |last| last.number.saturating_add(1));
    let path = folder.join(file_name(number, key.algorithm()));
    document.save(&path)?;
    Ok((key, path))
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
