//! An issuer's key set (RFC 7517 §5): tolerant of keys meant for others, strict about what it keeps.

use serde_json::Value;

use super::algorithm::Algorithm;
use super::jwk::JwkFault;
use super::public::PublicKey;
use crate::domain::json;

/// Most keys in one set, used or not.
pub const MAX_KEYS: usize = 100;

/// Longest key set that is read, in bytes: 100 RSA keys of 4096 bits with their certificates fit.
pub const MAX_BYTES: usize = 1024 * 1024;

/// The usable keys of one issuer, and why the others are not.
#[derive(Clone, Debug, Default)]
pub struct JwkSet {
    keys: Vec<PublicKey>,
    skipped: Vec<JwkFault>,
}

impl JwkSet {
    /// Reads a key set.
    ///
    /// Keys of other types, curves, uses or sizes, and malformed ones, are [skipped](Self::skipped): an issuer may
    /// publish what we do not understand (RFC 7517 §5). The whole set is refused when it is too large, is not a key
    /// set, or holds one private key: an issuer that leaks a key cannot be believed about the others. The same key
    /// twice counts once; two keys under one `kid` are both kept, and the signature decides.
    pub fn parse(bytes: &[u8]) -> Result<Self, JwkFault> {
        Self::parse_for(bytes, &["sig"])
    }

    /// Reads the bundle of a platform that vouches for workloads: the same, and keys that a SPIFFE bundle marks for
    /// JWT-SVIDs count too. Those that it marks for X.509 are skipped.
    pub fn parse_bundle(bytes: &[u8]) -> Result<Self, JwkFault> {
        Self::parse_for(bytes, &["sig", "jwt-svid"])
    }

    fn parse_for(bytes: &[u8], uses: &[&str]) -> Result<Self, JwkFault> {
        if bytes.len() > MAX_BYTES {
            return Err(JwkFault::TooLong { len: bytes.len(), max: MAX_BYTES });
        }
        let members = json::object(bytes).map_err(JwkFault::Json)?;
        let keys = members.get("keys").and_then(Value::as_array).ok_or(JwkFault::NoKeys)?;
        if keys.len() > MAX_KEYS {
            return Err(JwkFault::TooMany { len: keys.len(), max: MAX_KEYS });
        }
        let mut set = Self::default();
        for key in keys {
            set.admit(key, uses)?;
        }
        Ok(set)
    }

    fn admit(&mut self, key: &Value, uses: &[&str]) -> Result<(), JwkFault> {
        let members = key.as_object().ok_or(JwkFault::Malformed("kty"));
        match members.and_then(|members| PublicKey::from_jwk_for(members, uses)) {
            Ok(key) if self.keys.contains(&key) => {}
            Ok(key) => self.keys.push(key),
            Err(leaked @ JwkFault::Private(_)) => return Err(leaked),
            Err(fault) => self.skipped.push(fault),
        }
        Ok(())
    }

    /// The keys that may have signed a token with this `kid` and `alg`, in the order of the set.
    ///
    /// A token's `kid` must equal a key's, character by character; a token without `kid` may be by any key that permits
    /// the algorithm. Empty means: fetch the set again, if the last fetch is not too recent.
    pub fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Vec<&PublicKey> {
        let named = |key: &&PublicKey| kid.is_none() || key.kid() == kid;
        self.keys.iter().filter(|key| key.permits(algorithm)).filter(named).collect()
    }

    /// All usable keys.
    pub fn keys(&self) -> &[PublicKey] {
        &self.keys
    }

    /// Why keys of the set are not used: for the log, and for `doctor`.
    pub fn skipped(&self) -> &[JwkFault] {
        &self.skipped
    }
}

#[cfg(test)]
#[path = "jwks_tests.rs"]
mod tests;
