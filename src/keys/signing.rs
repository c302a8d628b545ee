//! A private key that signs: parsed once, kept parsed, and never printed.

use std::str::FromStr;

use ring::rand::SecureRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
    RsaPublicKeyComponents,
};
use rsa::pkcs8::{EncodePrivateKey, ObjectIdentifier, PrivateKeyInfo, SecretDocument};

use super::algorithm::{Algorithm, UnknownAlgorithm};
use super::file::PrivateDocument;
use super::public::{Material, PublicKey, rsa_bits};

const OID_EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const OID_P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const OID_ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const OID_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

/// What kind of key to make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeySpec {
    /// P-256: the fastest to sign with ring.
    #[default]
    Es256,
    /// Ed25519.
    EdDsa,
    /// RSA of 2048 bits, for verifiers that know only RS256 [AT-01]; signs 20 to 35 times slower than ES256.
    Rsa2048,
    /// RSA of 3072 bits.
    Rsa3072,
}

impl KeySpec {
    /// The algorithm that such a key signs with.
    pub const fn algorithm(self) -> Algorithm {
        match self {
            Self::Es256 => Algorithm::Es256,
            Self::EdDsa => Algorithm::EdDsa,
            Self::Rsa2048 | Self::Rsa3072 => Algorithm::Rs256,
        }
    }
}

impl FromStr for KeySpec {
    type Err = UnknownAlgorithm;

    /// `ES256`, `EdDSA`, `RS256` (2048 bits) or `RS256-3072`.
    fn from_str(name: &str) -> Result<Self, UnknownAlgorithm> {
        match name {
            "ES256" => Ok(Self::Es256),
            "EdDSA" => Ok(Self::EdDsa),
            "RS256" => Ok(Self::Rsa2048),
            "RS256-3072" => Ok(Self::Rsa3072),
            _ => Err(UnknownAlgorithm),
        }
    }
}

/// Why a private key cannot be made or used. No variant carries any of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SigningFault {
    /// The PKCS#8 is of another kind: P-256, Ed25519 and RSA are known.
    #[error("key is none of P-256, Ed25519 and RSA")]
    Unsupported,
    /// The numbers of the key are malformed, contradict each other, or RSA is not of 2048 to 4096 bits.
    #[error("key is damaged or of a size that is not accepted")]
    Rejected,
    /// The system's randomness, or the signature itself, failed.
    #[error("the cryptographic operation failed")]
    Failed,
}

/// A private key, parsed for ring, with its public half. `kid` is its RFC 7638 thumbprint.
pub struct SigningKey {
    pair: Pair,
    algorithm: Algorithm,
    public: PublicKey,
}

enum Pair {
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
    Rsa(Box<RsaKeyPair>),
}

impl SigningKey {
    /// Makes a new key, and the document to [save](PrivateDocument::save).
    ///
    /// `rng` serves the curves. RSA primes come from the `rsa` crate, which takes the operating system's randomness
    /// itself, and take seconds at worst.
    pub fn generate(spec: KeySpec, rng: &dyn SecureRandom) -> Result<(Self, PrivateDocument), SigningFault> {
        let document = match spec {
            KeySpec::Es256 => document(EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, rng))?,
            KeySpec::EdDsa => document(Ed25519KeyPair::generate_pkcs8(rng))?,
            KeySpec::Rsa2048 => rsa_document(2048)?,
            KeySpec::Rsa3072 => rsa_document(3072)?,
        };
        Ok((Self::from_pkcs8(&document, rng)?, document))
    }

    /// Parses a PKCS#8 key; its type is read from the document. `rng` blinds the nonces of ECDSA.
    pub fn from_pkcs8(document: &PrivateDocument, rng: &dyn SecureRandom) -> Result<Self, SigningFault> {
        Self::from_der(document.as_bytes(), rng)
    }

    pub(super) fn from_der(der: &[u8], rng: &dyn SecureRandom) -> Result<Self, SigningFault> {
        let info = PrivateKeyInfo::try_from(der).map_err(|_| SigningFault::Rejected)?;
        let pair = match info.algorithm.oid {
            OID_EC if info.algorithm.parameters_oid() == Ok(OID_P256) => {
                EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, rng).map(Pair::Ec)
            }
            OID_ED25519 => Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map(Pair::Ed),
            OID_RSA => RsaKeyPair::from_pkcs8(der).map(|pair| Pair::Rsa(Box::new(pair))),
            _ => return Err(SigningFault::Unsupported),
        };
        Self::from_pair(pair.map_err(|_| SigningFault::Rejected)?)
    }

    /// A bare PKCS#1 RSA key, the form that `jsonwebtoken` hands to its provider.
    pub(super) fn from_pkcs1(der: &[u8]) -> Result<Self, SigningFault> {
        let pair = RsaKeyPair::from_der(der).map_err(|_| SigningFault::Rejected)?;
        Self::from_pair(Pair::Rsa(Box::new(pair)))
    }

    fn from_pair(pair: Pair) -> Result<Self, SigningFault> {
        let (algorithm, material) = match &pair {
            Pair::Ec(key) => (Algorithm::Es256, Material::p256(key.public_key().as_ref())),
            Pair::Ed(key) => (Algorithm::EdDsa, Material::ed25519(key.public_key().as_ref())),
            Pair::Rsa(key) => {
                let public = RsaPublicKeyComponents::<Vec<u8>>::from(key.public());
                // ring would also sign with 2047 bits, which no verifier of RFC 7518 §3.3 accepts.
                let strong = rsa_bits(&public.n) >= 2048;
                (Algorithm::Rs256, strong.then(|| Material::rsa(&public.n, &public.e)))
            }
        };
        let material = material.ok_or(SigningFault::Rejected)?;
        let unnamed = PublicKey::new(material.clone(), Some(algorithm), None);
        let public = PublicKey::new(material, Some(algorithm), Some(unnamed.thumbprint()));
        Ok(Self { pair, algorithm, public })
    }

    /// The algorithm it signs with; one key, one algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// RFC 7638 thumbprint, used as `kid`: the same on every replica that has the key.
    pub fn kid(&self) -> &str {
        self.public.thumbprint()
    }

    /// The public half, with `kid` and `alg`.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs `message`; ECDSA gives `r ‖ s` of 64 bytes (RFC 7518 §3.4).
    pub fn sign(&self, message: &[u8], rng: &dyn SecureRandom) -> Result<Vec<u8>, SigningFault> {
        match &self.pair {
            Pair::Ec(key) => key.sign(rng, message).map(|signature| signature.as_ref().to_vec()),
            Pair::Ed(key) => Ok(key.sign(message).as_ref().to_vec()),
            Pair::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, rng, message, &mut signature).map(|()| signature)
            }
        }
        .map_err(|_| SigningFault::Failed)
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "SigningKey({}, {}, private part redacted)", self.algorithm, self.kid())
    }
}

fn document<E>(generated: Result<ring::pkcs8::Document, E>) -> Result<PrivateDocument, SigningFault> {
    let generated = generated.map_err(|_| SigningFault::Failed)?;
    let document = SecretDocument::try_from(generated.as_ref()).map_err(|_| SigningFault::Failed)?;
    Ok(PrivateDocument::new(document))
}

fn rsa_document(bits: usize) -> Result<PrivateDocument, SigningFault> {
    let key = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, bits).map_err(|_| SigningFault::Failed)?;
    key.to_pkcs8_der().map(PrivateDocument::new).map_err(|_| SigningFault::Failed)
}

#[cfg(test)]
#[path = "signing_tests.rs"]
mod tests;
