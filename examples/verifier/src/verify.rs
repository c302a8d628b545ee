//! What a service checks of an access token.

use serde::Deserialize;

use crate::status::Status;
use crate::{Fault, Keys, now};

/// What the service is, and whom it lets in.
pub(crate) struct Expected<'a> {
    pub(crate) issuer: &'a str,
    pub(crate) audience: &'a str,
    pub(crate) tenant: &'a str,
    pub(crate) scope: &'a str,
    pub(crate) actors: &'a [&'a str],
}

/// The claims that are looked at; there are more.
#[derive(Deserialize)]
pub(crate) struct Claims {
    iss: String,
    aud: String,
    iat: i64,
    tenant: String,
    scope: String,
    act: Actor,
    pub(crate) status: Status,
}

/// Only the outermost actor is the caller: nested ones are history, not authority.
#[derive(Deserialize)]
struct Actor {
    sub: String,
}

impl Expected<'_> {
    pub(crate) fn check(&self, token: &str, keys: &mut Keys) -> Result<Claims, Fault> {
        let claims: Claims = keys.claims(token, "at+jwt", 2)?;
        if claims.iss != self.issuer || claims.aud != self.audience || claims.tenant != self.tenant {
            return Err("not this issuer, service or tenant".into());
        }
        if claims.iat as f64 > now() + 2.0 {
            return Err("issued in the future".into());
        }
        if !claims.scope.split(' ').any(|scope| scope == self.scope) {
            return Err("too little scope".into());
        }
        if !self.actors.contains(&claims.act.sub.as_str()) {
            return Err("not this actor".into());
        }
        Ok(claims)
    }
}
