//! Signing keys and JWS (RFC 7515): read strictly, verify with the issuer's key, sign with our own.
//!
//! [`jws::Jws`] is a token that nobody has vouched for yet; [`public::PublicKey`] turns it into a
//! [`jws::VerifiedJws`], the only type that shows claims. [`keyring::KeyRing`] is the server's own side: one
//! active private key, all public ones; [`live::LiveKeys`] is the ring that serves at this moment. `docs/adr/0004-crypto-library.md` says why ring does the arithmetic.

pub mod algorithm;
pub mod certificate;
pub mod dates;
pub mod distinguished;
pub mod fault;
pub mod file;
pub mod jwk;
pub mod jwks;
pub mod jws;
pub mod keyring;
pub mod live;
pub mod provider;
pub mod public;
pub mod signing;
