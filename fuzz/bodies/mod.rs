//! What each fuzz target does with its bytes. `fuzz_targets/` hands them what libFuzzer finds, `tests/properties/fuzzed.rs`
//! what proptest makes of `seeds/`: each body is written once, asserts laws and not only that nothing panics, and knows
//! the public API alone.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use taskgrant::configuration::documents::{self, Source};
use taskgrant::domain::objects::Object;

pub(crate) mod form;
pub(crate) mod jwt;
pub(crate) mod objects;
pub(crate) mod policy_input;
pub(crate) mod scope;

/// This server's `iss`.
const OWN: &str = "https://taskgrant.example";

/// A key that signs, made of a fixed seed: no secret, and the same on every machine.
static KEY: LazyLock<Ed25519KeyPair> =
    LazyLock::new(|| Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap());

/// The public half, as a JWK writes it.
fn public_x() -> String {
    URL_SAFE_NO_PAD.encode(KEY.public_key().as_ref())
}

/// The objects of `world.yaml`, each in its first version.
fn world() -> Vec<Object> {
    let text = include_str!("world.yaml").replace("{{x}}", &public_x());
    let documents = documents::read(&[Source { file: "world.yaml".to_owned(), text }]).unwrap();
    documents.into_iter().map(|d| Object { id: d.id, version: 1, spec: d.spec }).collect()
}
