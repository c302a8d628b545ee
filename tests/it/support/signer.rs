//! An ES256 key that signs any header and any bytes: valid signatures under what no honest library writes.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

/// The key with its id.
pub(crate) struct Signer {
    /// Its `kid`.
    pub(crate) kid: String,
    pair: EcdsaKeyPair,
    rng: SystemRandom,
}

impl Signer {
    /// A fresh key.
    pub(crate) fn new(kid: &str) -> Self {
        let rng = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &rng).unwrap();
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &rng).unwrap();
        Self { kid: kid.to_owned(), pair, rng }
    }

    /// Its public half as a JWK.
    pub(crate) fn jwk(&self) -> Value {
        let point = self.point();
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({
            "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": self.kid,
            "x": encode(&point[1..33]), "y": encode(&point[33..]),
        })
    }

    /// Its public half as an uncompressed point.
    pub(crate) fn point(&self) -> Vec<u8> {
        self.pair.public_key().as_ref().to_vec()
    }

    /// The header of an honest token of `typ`.
    pub(crate) fn header(&self, typ: &str) -> Value {
        json!({"alg": "ES256", "kid": self.kid, "typ": typ})
    }

    /// Signs a header and a payload, byte for byte.
    #[expect(clippy::needless_pass_by_value, reason = "values and texts alike, often made on the spot")]
    pub(crate) fn sign(&self, header: impl ToString, payload: impl ToString) -> String {
        let encode = |text: String| URL_SAFE_NO_PAD.encode(text);
        self.seal(&format!("{}.{}", encode(header.to_string()), encode(payload.to_string())))
    }

    /// Signs two parts that are encoded already, however badly.
    pub(crate) fn seal(&self, input: &str) -> String {
        let signature = self.pair.sign(&self.rng, input.as_bytes()).unwrap();
        format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}
