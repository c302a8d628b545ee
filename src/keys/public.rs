//! A public key: read once from a JWK (RFC 7517), checked once, and bound to its algorithms [JW-01].

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use rsa::pkcs1;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::oid::db::rfc5912::{ID_EC_PUBLIC_KEY, RSA_ENCRYPTION, SECP_256_R_1, SECP_384_R_1};
use x509_cert::der::oid::db::rfc8410::ID_ED_25519;
use x509_cert::spki::SubjectPublicKeyInfoOwned;

use super::algorithm::Algorithm;
use super::fault::JwsFault;
use crate::hash::sha256;

/// A key that can verify, together with the algorithms it may be used for.
///
/// The bytes are checked and laid out at construction; ring itself keeps no parsed form for verification, and its
/// remaining share (a point on the curve, an RSA modulus) is within the figures of the ADR.
#[derive(Clone)]
pub struct PublicKey {
    material: Material,
    declared: Option<Algorithm>,
    kid: Option<Box<str>>,
    thumbprint: Box<str>,
    certificate: Option<Box<[u8]>>,
}

/// What a key is made of. INVARIANT: lengths are those of the type, and RSA numbers have no leading zeros.
#[derive(Clone)]
pub(super) enum Material {
    /// `0x04 ‖ x ‖ y`, 65 bytes. A point off the curve is kept, and verifies nothing.
    P256(UnparsedPublicKey<Box<[u8]>>),
    /// `0x04 ‖ x ‖ y`, 97 bytes.
    P384(UnparsedPublicKey<Box<[u8]>>),
    /// 32 bytes (RFC 8032 §5.1.5).
    Ed25519(UnparsedPublicKey<Box<[u8]>>),
    /// Modulus of 2048 to 8192 bits, and exponent, big-endian.
    Rsa(RsaPublicKeyComponents<Box<[u8]>>),
}

impl PublicKey {
    /// `declared` is the `alg` of the JWK; it must be one that the material permits, else the key verifies nothing.
    pub(super) fn new(material: Material, declared: Option<Algorithm>, kid: Option<&str>) -> Self {
        let thumbprint = thumbprint(&material).into();
        Self { material, declared, kid: kid.map(Box::from), thumbprint, certificate: None }
    }

    /// The same with the certificate of its JWK, in DER.
    pub(super) fn certified(self, certificate: Option<Box<[u8]>>) -> Self {
        Self { certificate, ..self }
    }

    /// The first certificate of the JWK's `x5c` (RFC 7517 §4.7), in DER; empty where `x5c` cannot be read.
    pub fn certificate(&self) -> Option<&[u8]> {
        self.certificate.as_deref()
    }

    /// Whether `info`, of a certificate, holds this very key (RFC 5280 §4.1.2.7).
    pub fn is_in(&self, info: &SubjectPublicKeyInfoOwned) -> bool {
        let parameters = info.algorithm.parameters.as_ref().and_then(|any| any.decode_as().ok());
        let curve =
            |wanted: ObjectIdentifier| info.algorithm.oid == ID_EC_PUBLIC_KEY && parameters == Some(wanted);
        let bytes = info.subject_public_key.raw_bytes();
        match &self.material {
            Material::P256(key) => curve(SECP_256_R_1) && key.as_ref() == bytes,
            Material::P384(key) => curve(SECP_384_R_1) && key.as_ref() == bytes,
            Material::Ed25519(key) => info.algorithm.oid == ID_ED_25519 && key.as_ref() == bytes,
            Material::Rsa(key) => {
                let same = |own: pkcs1::RsaPublicKey<'_>| {
                    own.modulus.as_bytes() == &*key.n && own.public_exponent.as_bytes() == &*key.e
                };
                info.algorithm.oid == RSA_ENCRYPTION && bytes.try_into().is_ok_and(same)
            }
        }
    }

    /// `kid` of the JWK (RFC 7517 §4.5), if it has one.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The one algorithm it is for, by its `alg` (RFC 7517 §4.4), if it has one.
    pub fn declared(&self) -> Option<Algorithm> {
        self.declared
    }

    /// The JWK thumbprint with SHA-256, in base64url (RFC 7638); equal for equal keys, whatever their `kid`.
    pub fn thumbprint(&self) -> &str {
        &self.thumbprint
    }

    /// Whether the key may verify `algorithm`: by key type and curve, and by its own `alg` if it has one [JW-01].
    pub fn permits(&self, algorithm: Algorithm) -> bool {
        self.declared.is_none_or(|only| only == algorithm) && self.material.fits(algorithm)
    }

    /// Checks a raw signature over `message`.
    ///
    /// [`JwsFault::KeyMismatch`] when the key does not [permit](Self::permits) `algorithm`, else
    /// [`JwsFault::BadSignature`]. ECDSA signatures are `r ‖ s` of fixed length (RFC 7518 §3.4).
    pub fn verify(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> Result<(), JwsFault> {
        if !self.permits(algorithm) {
            return Err(JwsFault::KeyMismatch);
        }
        match &self.material {
            Material::P256(key) | Material::P384(key) | Material::Ed25519(key) => {
                key.verify(message, signature)
            }
            Material::Rsa(key) => {
                let parameters = rsa_parameters(algorithm).ok_or(JwsFault::KeyMismatch)?;
                key.verify(parameters, message, signature)
            }
        }
        .map_err(|_| JwsFault::BadSignature)
    }

    /// The key as a JWK for signatures: `kty`, its numbers, `use`, and `alg` and `kid` where known.
    pub fn jwk(&self) -> jwk::Jwk {
        let common = jwk::CommonParameters {
            public_key_use: Some(jwk::PublicKeyUse::Signature),
            key_algorithm: self.declared.map(|algorithm| jsonwebtoken::Algorithm::from(algorithm).into()),
            key_id: self.kid.as_deref().map(str::to_owned),
            ..jwk::CommonParameters::default()
        };
        jwk::Jwk { common, algorithm: self.material.parameters() }
    }
}

/// Equal means: the same key under the same `kid` for the same algorithm, with the same certificate.
impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        (&self.thumbprint, self.declared, &self.kid, &self.certificate)
            == (&other.thumbprint, other.declared, &other.kid, &other.certificate)
    }
}

impl Eq for PublicKey {}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("PublicKey")
            .field("thumbprint", &self.thumbprint)
            .field("kid", &self.kid)
            .field("declared", &self.declared)
            .finish_non_exhaustive()
    }
}

impl Material {
    /// An uncompressed P-256 point; none unless it is 65 bytes and starts with 4.
    pub(super) fn p256(point: &[u8]) -> Option<Self> {
        is_point(point, 65)
            .then(|| Self::P256(UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point.into())))
    }

    /// An uncompressed P-384 point; none unless it is 97 bytes and starts with 4.
    pub(super) fn p384(point: &[u8]) -> Option<Self> {
        is_point(point, 97)
            .then(|| Self::P384(UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point.into())))
    }

    /// An Ed25519 key; none unless it is 32 bytes.
    pub(super) fn ed25519(bytes: &[u8]) -> Option<Self> {
        (bytes.len() == 32).then(|| Self::Ed25519(UnparsedPublicKey::new(&ED25519, bytes.into())))
    }

    /// RSA numbers; leading zeros are dropped. Size and exponent are [`rsa_bits`]'s and the caller's to judge.
    pub(super) fn rsa(modulus: &[u8], exponent: &[u8]) -> Self {
        let (n, e) = (without_zeros(modulus).into(), without_zeros(exponent).into());
        Self::Rsa(RsaPublicKeyComponents { n, e })
    }

    /// Whether an algorithm is of this key type and curve.
    pub(super) fn fits(&self, algorithm: Algorithm) -> bool {
        match self {
            Self::P256(_) => algorithm == Algorithm::Es256,
            Self::P384(_) => algorithm == Algorithm::Es384,
            Self::Ed25519(_) => algorithm == Algorithm::EdDsa,
            Self::Rsa(_) => rsa_parameters(algorithm).is_some(),
        }
    }

    fn parameters(&self) -> jwk::AlgorithmParameters {
        match self {
            Self::P256(key) => ec_parameters(jwk::EllipticCurve::P256, key.as_ref()),
            Self::P384(key) => ec_parameters(jwk::EllipticCurve::P384, key.as_ref()),
            Self::Ed25519(key) => jwk::AlgorithmParameters::OctetKeyPair(jwk::OctetKeyPairParameters {
                key_type: jwk::OctetKeyPairType::OctetKeyPair,
                curve: jwk::EllipticCurve::Ed25519,
                x: encode(key.as_ref()),
            }),
            Self::Rsa(key) => jwk::AlgorithmParameters::RSA(jwk::RSAKeyParameters {
                key_type: jwk::RSAKeyType::RSA,
                n: encode(&key.n),
                e: encode(&key.e),
            }),
        }
    }
}

/// Bits of an RSA modulus given without leading zeros.
pub(super) fn rsa_bits(modulus: &[u8]) -> usize {
    let spare = modulus.first().map_or(0, |top| top.leading_zeros() as usize);
    (modulus.len() * 8).saturating_sub(spare)
}

/// The bytes after any leading zeros.
pub(super) fn without_zeros(mut number: &[u8]) -> &[u8] {
    while let Some((0, rest)) = number.split_first() {
        number = rest;
    }
    number
}

fn is_point(bytes: &[u8], len: usize) -> bool {
    bytes.len() == len && bytes.first() == Some(&4)
}

/// The two halves of an uncompressed point.
fn coordinates(point: &[u8]) -> (&[u8], &[u8]) {
    let both = point.get(1..).unwrap_or_default();
    both.split_at_checked(both.len() / 2).unwrap_or_default()
}

fn ec_parameters(curve: jwk::EllipticCurve, point: &[u8]) -> jwk::AlgorithmParameters {
    let (x, y) = coordinates(point);
    jwk::AlgorithmParameters::EllipticCurve(jwk::EllipticCurveKeyParameters {
        key_type: jwk::EllipticCurveKeyType::EC,
        curve,
        x: encode(x),
        y: encode(y),
    })
}

fn rsa_parameters(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    match algorithm {
        Algorithm::Rs256 => Some(&RSA_PKCS1_2048_8192_SHA256),
        Algorithm::Rs384 => Some(&RSA_PKCS1_2048_8192_SHA384),
        Algorithm::Rs512 => Some(&RSA_PKCS1_2048_8192_SHA512),
        Algorithm::Ps256 => Some(&RSA_PSS_2048_8192_SHA256),
        Algorithm::Ps384 => Some(&RSA_PSS_2048_8192_SHA384),
        Algorithm::Ps512 => Some(&RSA_PSS_2048_8192_SHA512),
        Algorithm::Es256 | Algorithm::Es384 | Algorithm::EdDsa => None,
    }
}

/// RFC 7638 §3: the required members only, in the order of their names, without whitespace. Written out here since
/// `jsonwebtoken`'s own goes through the process-wide provider, and panics while none is installed.
fn thumbprint(material: &Material) -> String {
    let ec = |curve, point| {
        let (x, y) = coordinates(point);
        format!(r#"{{"crv":"{curve}","kty":"EC","x":"{}","y":"{}"}}"#, encode(x), encode(y))
    };
    let canonical = match material {
        Material::P256(key) => ec("P-256", key.as_ref()),
        Material::P384(key) => ec("P-384", key.as_ref()),
        Material::Ed25519(key) => {
            format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, encode(key.as_ref()))
        }
        Material::Rsa(key) => format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, encode(&key.e), encode(&key.n)),
    };
    encode(&sha256(&[canonical.as_bytes()]))
}

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
#[path = "public_tests.rs"]
mod tests;
