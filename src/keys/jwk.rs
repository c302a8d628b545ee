//! One JWK from the network, read strictly into a [`PublicKey`] (RFC 7517, RFC 7518 §6, RFC 8037 §2).
//!
//! `jsonwebtoken`'s reader is not used here: it drops private members without a word and turns what it does not
//! know into a key of kind "other", while a refusal has to say which member is wrong.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use super::algorithm::Algorithm;
use super::public::{Material, PublicKey, rsa_bits, without_zeros};
use crate::domain::excerpt::Excerpt;
use crate::domain::json::JsonFault;

/// Smallest and largest RSA modulus, in bits (RFC 7518 §3.3; the upper bound is ring's).
pub const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Members that only a private key has (RFC 7518 §6.2.2, §6.3.2).
const PRIVATE: [&str; 7] = ["d", "p", "q", "dp", "dq", "qi", "oth"];

/// Why a JWK or a set of them is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwkFault {
    /// The text is not a plain JSON object.
    #[error("key set: {0}")]
    Json(JsonFault),
    /// Longer than the cap, in bytes.
    #[error("key set has {len} bytes, more than the {max} allowed")]
    TooLong {
        /// Bytes received.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// `keys` is missing or not an array (RFC 7517 §5.1).
    #[error("key set has no array `keys`")]
    NoKeys,
    /// More keys than the cap.
    #[error("key set has {len} keys, more than the {max} allowed")]
    TooMany {
        /// Keys received.
        len: usize,
        /// Keys allowed.
        max: usize,
    },
    /// A private key where a public one belongs: it must be considered leaked.
    #[error("key has the private member `{0}`: treat it as leaked, and publish only public keys")]
    Private(&'static str),
    /// A key type, curve, `use`, `key_ops` or `alg` that verifies no signature here.
    #[error("key member `{0}` says that it verifies no signature here: {1}")]
    Unsuitable(&'static str, Excerpt),
    /// A member is missing, of another kind, not canonical base64url, or of the wrong length.
    #[error("key member `{0}` is missing or malformed")]
    Malformed(&'static str),
    /// An RSA modulus outside [`RSA_BITS`].
    #[error("RSA key has {0} bits; 2048 to 8192 are accepted")]
    RsaSize(usize),
}

impl PublicKey {
    /// Reads one JWK, such as the `jwk` of a DPoP proof or an element of a key set.
    ///
    /// A private member refuses the key whatever its type [DP-01]. `use` other than `sig`, `key_ops` without `verify`,
    /// and an `alg` that does not fit the key make it [`JwkFault::Unsuitable`]. Unknown members are ignored. `x5c` is kept
    /// for clients that authenticate by that certificate, and vouches for nothing else.
    pub fn from_jwk(members: &Map<String, Value>) -> Result<Self, JwkFault> {
        Self::from_jwk_for(members, &["sig"])
    }

    /// The same for keys whose `use` may be any of `uses`: SPIFFE has names of its own (Trust Domain and Bundle §4.2.2).
    pub fn from_jwk_for(members: &Map<String, Value>, uses: &[&str]) -> Result<Self, JwkFault> {
        refuse_private(members)?;
        check_purpose(members, uses)?;
        let material = material(members)?;
        let declared = declared(members, &material)?;
        let certificate = members.get("x5c").map(|x5c| first_certificate(x5c).unwrap_or_default().into());
        Ok(Self::new(material, declared, optional(members, "kid")?).certified(certificate))
    }
}

/// A private member refuses a key whatever its type.
pub(super) fn refuse_private(members: &Map<String, Value>) -> Result<(), JwkFault> {
    let found = PRIVATE.into_iter().find(|name| members.contains_key(*name));
    found.map_or(Ok(()), |private| Err(JwkFault::Private(private)))
}

fn check_purpose(members: &Map<String, Value>, uses: &[&str]) -> Result<(), JwkFault> {
    match optional(members, "use")? {
        None => {}
        Some(one) if uses.contains(&one) => {}
        Some(other) => return Err(JwkFault::Unsuitable("use", Excerpt::of(other))),
    }
    match members.get("key_ops") {
        None => Ok(()),
        Some(Value::Array(operations)) if operations.iter().any(|one| one == "verify") => Ok(()),
        Some(other) => Err(JwkFault::Unsuitable("key_ops", Excerpt::of(&other.to_string()))),
    }
}

fn declared(members: &Map<String, Value>, material: &Material) -> Result<Option<Algorithm>, JwkFault> {
    let Some(name) = optional(members, "alg")? else { return Ok(None) };
    match name.parse() {
        Ok(algorithm) if material.fits(algorithm) => Ok(Some(algorithm)),
        Ok(_) | Err(_) => Err(JwkFault::Unsuitable("alg", Excerpt::of(name))),
    }
}

fn material(members: &Map<String, Value>) -> Result<Material, JwkFault> {
    match required(members, "kty")? {
        "EC" => match required(members, "crv")? {
            "P-256" => Material::p256(&point(members, 32)?).ok_or(JwkFault::Malformed("x")),
            "P-384" => Material::p384(&point(members, 48)?).ok_or(JwkFault::Malformed("x")),
            other => Err(JwkFault::Unsuitable("crv", Excerpt::of(other))),
        },
        "OKP" => match required(members, "crv")? {
            "Ed25519" => Material::ed25519(&bytes(members, "x")?).ok_or(JwkFault::Malformed("x")),
            other => Err(JwkFault::Unsuitable("crv", Excerpt::of(other))),
        },
        "RSA" => rsa(members),
        other => Err(JwkFault::Unsuitable("kty", Excerpt::of(other))),
    }
}

/// `0x04 ‖ x ‖ y`; both coordinates have the full `len` bytes (RFC 7518 §6.2.1.2).
fn point(members: &Map<String, Value>, len: usize) -> Result<Vec<u8>, JwkFault> {
    let mut point = vec![4];
    for name in ["x", "y"] {
        let coordinate = bytes(members, name)?;
        if coordinate.len() != len {
            return Err(JwkFault::Malformed(name));
        }
        point.extend(coordinate);
    }
    Ok(point)
}

fn rsa(members: &Map<String, Value>) -> Result<Material, JwkFault> {
    let (n, e) = (bytes(members, "n")?, bytes(members, "e")?);
    let bits = rsa_bits(without_zeros(&n));
    if !RSA_BITS.contains(&bits) {
        return Err(JwkFault::RsaSize(bits));
    }
    // With exponent 1 every message is its own signature; ring refuses that, and even ones, only when verifying.
    let exponent = without_zeros(&e);
    let odd = exponent.last().is_some_and(|low| low % 2 == 1);
    if !odd || exponent == [1] || exponent.len() > 4 {
        return Err(JwkFault::Malformed("e"));
    }
    Ok(Material::rsa(&n, &e))
}

/// The first certificate of an `x5c`, in DER: plain Base64, unlike the rest of a JWK (RFC 7517 §4.7).
pub(super) fn first_certificate(x5c: &Value) -> Option<Vec<u8>> {
    STANDARD.decode(x5c.as_array()?.first()?.as_str()?).ok()
}

fn optional<'m>(members: &'m Map<String, Value>, name: &'static str) -> Result<Option<&'m str>, JwkFault> {
    match members.get(name) {
        None => Ok(None),
        Some(value) => value.as_str().map(Some).ok_or(JwkFault::Malformed(name)),
    }
}

fn required<'m>(members: &'m Map<String, Value>, name: &'static str) -> Result<&'m str, JwkFault> {
    optional(members, name)?.ok_or(JwkFault::Malformed(name))
}

fn bytes(members: &Map<String, Value>, name: &'static str) -> Result<Vec<u8>, JwkFault> {
    URL_SAFE_NO_PAD.decode(required(members, name)?).map_err(|_| JwkFault::Malformed(name))
}

#[cfg(test)]
#[path = "jwk_tests.rs"]
mod tests;
