//! The issuer's keys by way of its metadata.

use std::time::{Duration, Instant};

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, TokenData, Validation, decode, decode_header};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::{Fault, get};

/// How long the set may be kept, and after how long an unknown key is worth another look.
const KEEP: Duration = Duration::from_secs(300);
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// The published keys, fetched again when they are old or do not have the one that a token names.
pub(crate) struct Keys {
    uri: String,
    set: JwkSet,
    fetched: Instant,
}

#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: String,
}

impl Keys {
    pub(crate) fn of(issuer: &str) -> Result<Self, Fault> {
        let url = format!("{issuer}/.well-known/oauth-authorization-server");
        let metadata: Metadata = serde_json::from_str(&get(&url, "application/json")?)?;
        if metadata.issuer != issuer {
            return Err("the metadata is of another issuer".into());
        }
        let set = serde_json::from_str(&get(&metadata.jwks_uri, "application/json")?)?;
        Ok(Self { uri: metadata.jwks_uri, set, fetched: Instant::now() })
    }

    /// The claims of a token of this `typ` that one of the keys has signed, with dates that hold.
    pub(crate) fn claims<T: DeserializeOwned>(
        &mut self,
        token: &str,
        typ: &str,
        leeway: u64,
    ) -> Result<T, Fault> {
        let header = decode_header(token)?;
        let told = header.typ.as_deref().unwrap_or_default().to_ascii_lowercase();
        if told.trim_start_matches("application/") != typ {
            return Err(format!("not {typ}").into());
        }
        let mut rules = Validation::new(Algorithm::ES256);
        rules.leeway = leeway;
        rules.validate_nbf = true;
        // `aud` is no claim of a status list; whoever has one compares it.
        rules.validate_aud = false;
        let key = self.key(header.kid.as_deref().ok_or("no kid")?)?;
        let TokenData { claims, .. } = decode::<T>(token, &key, &rules)?;
        Ok(claims)
    }

    fn key(&mut self, kid: &str) -> Result<DecodingKey, Fault> {
        let age = self.fetched.elapsed();
        if age >= KEEP || age >= LOOK_AGAIN && self.set.find(kid).is_none() {
            self.set = serde_json::from_str(&get(&self.uri, "application/json")?)?;
            self.fetched = Instant::now();
        }
        Ok(DecodingKey::from_jwk(self.set.find(kid).ok_or("an unknown key")?)?)
    }
}
