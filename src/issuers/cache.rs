//! Tokens whose signature has been verified lately (DESIGN §7). Only that is remembered: time, audience, tenant,
//! entitlements and revocation are judged again each time.

use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::snapshot::Issuer;
use crate::keys::jwks::JwkSet;
use crate::keys::jws::VerifiedJws;
use crate::recent::{Recent, bytes_of};

/// Most bytes of all claims remembered; a token whose claims take more than half a MiB is verified each time.
const BYTES: usize = 32 << 20;

/// A bounded memory of verified signatures, by SHA-256 of the token. A capacity below 2 remembers nothing.
pub struct SignatureCache(Mutex<Recent<[u8; 32], Remembered>>);

/// Good for one version of the issuer and one key set. Holding the set keeps its address from being used again.
#[derive(Clone)]
pub(super) struct Remembered {
    token: Arc<VerifiedJws>,
    version: i64,
    keys: Arc<JwkSet>,
}

impl Remembered {
    /// `token`, verified with `keys` of this version of the issuer.
    pub(super) fn new(token: Arc<VerifiedJws>, issuer: &Issuer, keys: Arc<JwkSet>) -> Self {
        Self { token, version: issuer.version, keys }
    }
}

impl SignatureCache {
    /// A cache of at most `capacity` tokens.
    pub fn new(capacity: usize) -> Self {
        Self(Mutex::new(Recent::new(capacity, BYTES)))
    }

    /// The token with this hash, if its signature was verified with this very key set of this version of the issuer.
    pub(super) fn get(
        &self,
        hash: &[u8; 32],
        issuer: &Issuer,
        keys: &Arc<JwkSet>,
    ) -> Option<Arc<VerifiedJws>> {
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(hash)?;
        (found.version == issuer.version && Arc::ptr_eq(&found.keys, keys)).then_some(found.token)
    }

    /// Remembers a token that has become a session: one that is refused is nobody's to keep here, since whoever holds
    /// an issuer's key can sign any number of those.
    pub(super) fn put(&self, hash: [u8; 32], verified: Remembered) {
        let bytes = bytes_of(verified.token.claims());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).put(hash, verified, bytes);
    }

    /// Bytes that the remembered claims take.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).bytes()
    }
}
