//! Tokens whose signature has been verified lately (DESIGN §7). Only that is remembered: time, audience, tenant,
//! entitlements and revocation are judged again each time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::snapshot::Issuer;
use crate::keys::jwks::JwkSet;
use crate::keys::jws::VerifiedJws;

/// A bounded memory of verified signatures, by SHA-256 of the token. A capacity below 2 remembers nothing.
///
/// Two halves: what is used moves to the young half; when that is full it becomes the old one, and the old is gone.
pub struct SignatureCache {
    halves: Mutex<Halves>,
    half: usize,
}

#[derive(Default)]
struct Halves {
    young: HashMap<[u8; 32], Remembered>,
    old: HashMap<[u8; 32], Remembered>,
}

/// Good for one version of the issuer and one key set. Holding the set keeps its address from being used again.
struct Remembered {
    token: Arc<VerifiedJws>,
    version: i64,
    keys: Arc<JwkSet>,
}

impl SignatureCache {
    /// A cache of at most `capacity` tokens.
    pub fn new(capacity: usize) -> Self {
        Self { halves: Mutex::default(), half: capacity / 2 }
    }

    /// The token with this hash, if its signature was verified with this very key set of this version of the issuer.
    pub(super) fn get(
        &self,
        hash: &[u8; 32],
        issuer: &Issuer,
        keys: &Arc<JwkSet>,
    ) -> Option<Arc<VerifiedJws>> {
        if self.half == 0 {
            return None;
        }
        let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        let found = halves.young.remove(hash).or_else(|| halves.old.remove(hash))?;
        if found.version != issuer.version || !Arc::ptr_eq(&found.keys, keys) {
            return None;
        }
        let token = found.token.clone();
        halves.insert(*hash, found, self.half);
        Some(token)
    }

    /// Remembers that `keys`, of this version of the issuer, verified `token`.
    pub(super) fn put(&self, hash: [u8; 32], issuer: &Issuer, keys: Arc<JwkSet>, token: Arc<VerifiedJws>) {
        if self.half == 0 {
            return;
        }
        let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        halves.insert(hash, Remembered { token, version: issuer.version, keys }, self.half);
    }
}

impl Halves {
    fn insert(&mut self, hash: [u8; 32], entry: Remembered, half: usize) {
        if self.young.len() >= half {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(hash, entry);
    }
}
