//! An issuer's key set (RFC 7517 §5): tolerant of keys meant for others, strict about what it keeps.

use serde_json::{Map, Value};

use super::algorithm::Algorithm;
use super::certificate::Authorities;
use super::jwk::{JwkFault, first_certificate, refuse_private};
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
    authorities: Authorities,
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
        Self::parse_for(bytes, Self::admit)
    }

    /// Reads the bundle of a platform that vouches for workloads: the same, and keys that a SPIFFE bundle marks for
    /// JWT-SVIDs count too. Those that it marks for X.509-SVIDs are its [authorities](Self::authorities), by their
    /// certificate (SPIFFE Trust Domain and Bundle §4.2.2, X509-SVID §6).
    pub fn parse_bundle(bytes: &[u8]) -> Result<Self, JwkFault> {
        Self::parse_for(bytes, Self::admit_of_bundle)
    }

    fn parse_for(
        bytes: &[u8],
        admit: fn(&mut Self, &Map<String, Value>) -> Result<(), JwkFault>,
    ) -> Result<Self, JwkFault> {
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
            let members = key.as_object().ok_or(JwkFault::Malformed("kty"));
            match members.and_then(|members| admit(&mut set, members)) {
                Ok(()) => {}
                Err(leaked @ JwkFault::Private(_)) => return Err(leaked),
                Err(fault) => set.skipped.push(fault),
            }
        }
        Ok(set)
    }

    fn admit(&mut self, members: &Map<String, Value>) -> Result<(), JwkFault> {
        self.keep(PublicKey::from_jwk(members)?);
        Ok(())
    }

    fn admit_of_bundle(&mut self, members: &Map<String, Value>) -> Result<(), JwkFault> {
        if members.get("use").and_then(Value::as_str) != Some("x509-svid") {
            self.keep(PublicKey::from_jwk_for(members, &["sig", "jwt-svid"])?);
            return Ok(());
        }
        refuse_private(members)?;
        let certificate = members.get("x5c").and_then(first_certificate);
        let certificate = certificate.ok_or(JwkFault::Malformed("x5c"))?;
        self.authorities.add(&certificate, 1).map_err(|_| JwkFault::Malformed("x5c"))
    }

    fn keep(&mut self, key: PublicKey) {
        if !self.keys.contains(&key) {
            self.keys.push(key);
        }
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

    /// Those who vouch for X.509-SVIDs, in the bundle of a trust domain.
    pub fn authorities(&self) -> &Authorities {
        &self.authorities
    }

    /// How many keys and authorities of it are of use.
    pub fn usable(&self) -> usize {
        self.keys.len() + self.authorities.len()
    }

    /// Why keys of the set are not used: for the log, and for `doctor`.
    pub fn skipped(&self) -> &[JwkFault] {
        &self.skipped
    }
}

#[cfg(test)]
#[path = "jwks_tests.rs"]
mod tests;
