//! Whether a token is revoked, by its status list (Token Status List).

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use miniz_oxide::inflate::decompress_to_vec_zlib_with_limit;
use serde::Deserialize;

use crate::{Fault, Keys, get, now};

const STATUS_LIST: &str = "application/statuslist+jwt";
/// The longest list that is looked at, unpacked.
const LONGEST: usize = 1 << 20;

/// The `status` claim of a token.
#[derive(Deserialize)]
pub(crate) struct Status {
    status_list: Place,
}

#[derive(Deserialize)]
struct Place {
    idx: usize,
    uri: String,
}

#[derive(Deserialize)]
struct List {
    sub: String,
    iat: f64,
    exp: f64,
    ttl: f64,
    status_list: Packed,
}

#[derive(Deserialize)]
struct Packed {
    bits: u8,
    lst: String,
}

struct Kept {
    bits: Vec<u8>,
    exp: f64,
    look_again: f64,
}

/// The lists of one issuer, each kept for its `ttl`.
pub(crate) struct StatusLists {
    base: String,
    kept: HashMap<String, Kept>,
}

impl StatusLists {
    pub(crate) fn of(issuer: &str) -> Self {
        Self { base: format!("{issuer}/oauth/status/"), kept: HashMap::new() }
    }

    /// A fault when the token is revoked, or when nobody can tell. Its claims must have been accepted before.
    pub(crate) fn check(&mut self, status: &Status, keys: &mut Keys) -> Result<(), Fault> {
        let Place { idx, uri } = &status.status_list;
        // From the least significant bit of each byte; beyond the end nothing is known.
        match self.bits(uri, keys)?.get(idx / 8) {
            Some(byte) if byte >> (idx % 8) & 1 == 0 => Ok(()),
            Some(_) => Err("revoked".into()),
            None => Err("beyond the end of its status list".into()),
        }
    }

    fn bits(&mut self, uri: &str, keys: &mut Keys) -> Result<&[u8], Fault> {
        if !uri.starts_with(&self.base) {
            return Err("the status list is somebody else's".into());
        }
        let now = now();
        if self.kept.get(uri).is_none_or(|kept| now >= kept.look_again) {
            match (fetch(uri, keys), self.kept.get_mut(uri)) {
                (Ok(fresh), _) => drop(self.kept.insert(uri.to_owned(), fresh)),
                (Err(_), Some(kept)) if now < kept.exp => kept.look_again = now + 1.0,
                (Err(fault), _) => return Err(format!("the status list cannot be had: {fault}").into()),
            }
        }
        Ok(self.kept.get(uri).map(|kept| kept.bits.as_slice()).unwrap_or_default())
    }
}

fn fetch(uri: &str, keys: &mut Keys) -> Result<Kept, Fault> {
    let told: List = keys.claims(&get(uri, STATUS_LIST)?, "statuslist+jwt", 0)?;
    if told.sub != uri || told.status_list.bits != 1 {
        return Err("another status list, or one of another kind".into());
    }
    let packed = URL_SAFE_NO_PAD.decode(told.status_list.lst)?;
    let bits = decompress_to_vec_zlib_with_limit(&packed, LONGEST).map_err(|fault| fault.to_string())?;
    // Counted from `iat`, so that a cache in between makes nothing last longer.
    Ok(Kept { bits, exp: told.exp, look_again: told.iat.min(now()) + told.ttl })
}
