//! ring as the back end of `jsonwebtoken`, which brings none of its own.
//!
//! The crate's factories are called for every operation and parse the key each time, so the server's own paths do not
//! go through here: [`super::public::PublicKey`] and [`super::signing::SigningKey`] hold parsed keys. This serves code
//! that speaks `jsonwebtoken`'s own types, and lets tests check our tokens with an independent reader.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind, Result, new_error};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, ThumbprintHash};
use jsonwebtoken::signature::{self, Signer, Verifier};
use jsonwebtoken::{AlgorithmFamily, DecodingKey, DecodingKeyKind, EncodingKey};
use ring::digest::{SHA256, SHA384, SHA512, digest};
use ring::rand::SystemRandom;
use rsa::pkcs1::DecodeRsaPublicKey;
use rsa::traits::PublicKeyParts;

use super::algorithm::Algorithm;
use super::public::{Material, PublicKey};
use super::signing::SigningKey;

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory,
    verifier_factory,
    key_utils: KeyUtils {
        rsa_pub_components_from_private_key: rsa_from_private,
        rsa_pub_components_from_public_key: rsa_from_public,
        ec_pub_components_from_private_key: ec_from_private,
        ed_pub_components_from_private_key: ed_from_private,
        compute_digest,
    },
};

/// Makes ring the process-wide back end of `jsonwebtoken`; first thing in `main`. Further calls change nothing, and
/// neither does a call after another provider has been installed.
pub fn install() {
    PROVIDER.install_default().ok();
}

struct RingSigner(SigningKey);

struct RingVerifier(PublicKey, Algorithm);

impl Signer<Vec<u8>> for RingSigner {
    fn try_sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, signature::Error> {
        self.0.sign(message, &SystemRandom::new()).map_err(signature::Error::from_source)
    }
}

impl JwtSigner for RingSigner {
    fn algorithm(&self) -> jsonwebtoken::Algorithm {
        self.0.algorithm().into()
    }
}

impl Verifier<Vec<u8>> for RingVerifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), signature::Error> {
        self.0.verify(self.1, message, signature).map_err(signature::Error::from_source)
    }
}

impl JwtVerifier for RingVerifier {
    fn algorithm(&self) -> jsonwebtoken::Algorithm {
        self.1.into()
    }
}

/// Signs ES256, EdDSA and RS256, the algorithms of [`SigningKey`].
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is that of `CryptoProvider`")]
fn signer_factory(wanted: &jsonwebtoken::Algorithm, key: &EncodingKey) -> Result<Box<dyn JwtSigner>> {
    let signer = private_key(key.family(), key.as_bytes())?;
    if jsonwebtoken::Algorithm::from(signer.algorithm()) != *wanted {
        return Err(new_error(ErrorKind::InvalidAlgorithm));
    }
    Ok(Box::new(RingSigner(signer)))
}

/// Verifies every [`Algorithm`]; there is no HMAC here either [JW-01].
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is that of `CryptoProvider`")]
fn verifier_factory(wanted: &jsonwebtoken::Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    let algorithm = Algorithm::try_from(*wanted).map_err(|_| new_error(ErrorKind::UnsupportedAlgorithm))?;
    let material = match (key.family(), key.kind()) {
        (AlgorithmFamily::Rsa, DecodingKeyKind::RsaModulusExponent { n, e }) => Some(Material::rsa(n, e)),
        (AlgorithmFamily::Rsa, DecodingKeyKind::SecretOrDer(der)) => {
            let (n, e) = rsa_from_public(der)?;
            Some(Material::rsa(&n, &e))
        }
        (AlgorithmFamily::Ec, DecodingKeyKind::SecretOrDer(point)) => {
            Material::p256(point).or_else(|| Material::p384(point))
        }
        (AlgorithmFamily::Ed, DecodingKeyKind::SecretOrDer(bytes)) => Material::ed25519(bytes),
        (AlgorithmFamily::Hmac, _) | (_, DecodingKeyKind::RsaModulusExponent { .. }) => None,
    };
    let key = PublicKey::new(material.ok_or_else(bad_key)?, Some(algorithm), None);
    Ok(Box::new(RingVerifier(key, algorithm)))
}

fn bad_key() -> Error {
    new_error(ErrorKind::InvalidKeyFormat)
}

/// EC and Ed keys come as PKCS#8, RSA keys as PKCS#1 or PKCS#8.
fn private_key(family: AlgorithmFamily, der: &[u8]) -> Result<SigningKey> {
    let pkcs8 = || SigningKey::from_der(der, &SystemRandom::new());
    match family {
        AlgorithmFamily::Rsa => SigningKey::from_pkcs1(der).or_else(|_| pkcs8()),
        AlgorithmFamily::Ec | AlgorithmFamily::Ed => pkcs8(),
        AlgorithmFamily::Hmac => return Err(bad_key()),
    }
    .map_err(|_| bad_key())
}

/// The public numbers of a private key, from its JWK.
fn public_parameters(family: AlgorithmFamily, der: &[u8]) -> Result<AlgorithmParameters> {
    Ok(private_key(family, der)?.public().jwk().algorithm)
}

fn rsa_from_private(der: &[u8]) -> Result<(Vec<u8>, Vec<u8>)> {
    let AlgorithmParameters::RSA(key) = public_parameters(AlgorithmFamily::Rsa, der)? else {
        return Err(bad_key());
    };
    Ok((decode(&key.n)?, decode(&key.e)?))
}

fn rsa_from_public(der: &[u8]) -> Result<(Vec<u8>, Vec<u8>)> {
    let key = rsa::RsaPublicKey::from_pkcs1_der(der).map_err(|_| bad_key())?;
    Ok((key.n().to_bytes_be(), key.e().to_bytes_be()))
}

fn ec_from_private(
    der: &[u8],
    _algorithm: jsonwebtoken::Algorithm,
) -> Result<(EllipticCurve, Vec<u8>, Vec<u8>)> {
    let AlgorithmParameters::EllipticCurve(key) = public_parameters(AlgorithmFamily::Ec, der)? else {
        return Err(bad_key());
    };
    Ok((key.curve, decode(&key.x)?, decode(&key.y)?))
}

fn ed_from_private(der: &[u8], _curve: &EllipticCurve) -> Result<Vec<u8>> {
    let AlgorithmParameters::OctetKeyPair(key) = public_parameters(AlgorithmFamily::Ed, der)? else {
        return Err(bad_key());
    };
    decode(&key.x)
}

fn decode(number: &str) -> Result<Vec<u8>> {
    Ok(URL_SAFE_NO_PAD.decode(number)?)
}

#[expect(clippy::needless_pass_by_value, reason = "the signature is that of `KeyUtils`")]
fn compute_digest(data: &[u8], hash: ThumbprintHash) -> Result<Vec<u8>> {
    let algorithm = match hash {
        ThumbprintHash::SHA256 => &SHA256,
        ThumbprintHash::SHA384 => &SHA384,
        ThumbprintHash::SHA512 => &SHA512,
        _ => return Err(new_error(ErrorKind::UnsupportedAlgorithm)),
    };
    Ok(digest(algorithm, data).as_ref().to_vec())
}

#[cfg(test)]
#[path = "provider_tests.rs"]
mod tests;
