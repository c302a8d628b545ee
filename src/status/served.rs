//! A list as it is served: packed, signed, and no older than it says (SL-01, SL-03).

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use miniz_oxide::deflate::compress_to_vec_zlib;
use serde_json::{Value, json};

use super::StatusLists;
use super::publisher::List;
use crate::domain::ids::StatusListId;
use crate::hash::sha256;

/// The `typ` of a list: no other token of ours has it (JW-04).
const STATUS_LIST: &str = "statuslist+jwt";
/// How many times `ttl` a list may be used while no fresh one can be fetched.
const LIVES: i64 = 4;
/// How hard it is packed, of 10: more gains nothing on bits set at random.
const LEVEL: u8 = 6;

/// A signed list and what it was signed of.
pub(super) struct Signed {
    compact: Arc<str>,
    etag: Arc<str>,
    kid: String,
    iat: DateTime<Utc>,
}

/// A list to answer with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// The compact JWT.
    pub compact: Arc<str>,
    /// Names it among all that were ever served.
    pub etag: Arc<str>,
    /// Whole seconds for which it may be kept.
    pub max_age: i64,
}

/// Why there is no list to answer with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotServed {
    /// There is none of this id of which a token could live.
    Unknown,
    /// What is known of it is too old, or nothing is yet: whoever asks must not take it for alive.
    NotNow,
}

impl StatusLists {
    /// The list `id` as it is now. Signed when a bit of it has changed, when the key has, and else once in a `ttl`.
    pub async fn list(&self, id: StatusListId) -> Result<Served, NotServed> {
        let now = self.0.parts.clock.now();
        let as_of = self.published().as_of().ok_or(NotServed::NotNow)?;
        if self.published().list(id).is_none() {
            let row = self.0.parts.store.status_list(id, now).await.map_err(|_| NotServed::NotNow)?;
            self.published().add(&row.ok_or(NotServed::Unknown)?);
        }
        let mut published = self.published();
        let list = published.list(id).ok_or(NotServed::Unknown)?;
        let ttl = TimeDelta::seconds(self.0.parts.config.ttl.into());
        let kid = self.0.parts.keys.ring().kid().to_owned();
        let good = |signed: &Signed| {
            signed.kid == kid && (now < signed.iat + ttl || signed.iat.timestamp() == as_of.timestamp())
        };
        let kept = list.signed.take().filter(good);
        let signed = kept.or_else(|| self.sign(id, list, as_of)).ok_or(NotServed::NotNow)?;
        let signed = list.signed.insert(signed);
        if now >= signed.iat + ttl * i32::try_from(LIVES).unwrap_or(i32::MAX) {
            return Err(NotServed::NotNow);
        }
        let max_age = (signed.iat + ttl - now).num_seconds().max(0);
        Ok(Served { compact: signed.compact.clone(), etag: signed.etag.clone(), max_age })
    }

    /// Dated at the moment that the bits tell of, and not at that of the signature: a publisher that falls behind makes
    /// lists that run out, and never old news that looks fresh.
    fn sign(&self, id: StatusListId, list: &List, as_of: DateTime<Utc>) -> Option<Signed> {
        let claims = self.claims(id, list, as_of);
        let signed = self.0.parts.keys.sign(STATUS_LIST, &claims).ok()?;
        let etag = format!("\"{}\"", hex::encode(sha256(&[signed.compact.as_bytes()])));
        Some(Signed {
            compact: signed.compact.into(),
            etag: etag.into(),
            kid: signed.kid,
            iat: DateTime::from_timestamp(as_of.timestamp(), 0)?,
        })
    }

    fn claims(&self, id: StatusListId, list: &List, as_of: DateTime<Utc>) -> Value {
        let (iat, ttl) = (as_of.timestamp(), i64::from(self.0.parts.config.ttl));
        let packed = compress_to_vec_zlib(list.bits.as_bytes(), LEVEL);
        json!({
            "sub": self.uri(id),
            "iat": iat,
            "exp": iat + LIVES * ttl,
            "ttl": ttl,
            "status_list": {"bits": 1, "lst": URL_SAFE_NO_PAD.encode(packed)},
        })
    }
}
