//! The use case: token introspection (RFC 7662), for the token's own resource and its agent only (IN-02).

pub mod operator;

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::clock::Clock;
use crate::configuration::active::InForce;
use crate::domain::claims::TokenClaims;
use crate::domain::record::TokenRecord;
use crate::domain::snapshot::{Agent, Resource};
use crate::hash::sha256;
use crate::keys::live::LiveKeys;
use crate::store::Store;
use crate::store::change::SpendKind;
use crate::store::error::StoreError;

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub enum Caller<'a> {
    /// An agent: sees the tokens issued to it, and the hand-over tokens meant for it.
    Agent(&'a Agent),
    /// A resource: sees the tokens whose `aud` it is.
    Resource(&'a Resource),
}

impl Caller<'_> {
    fn may_see(self, claims: &TokenClaims) -> bool {
        match self {
            Self::Agent(agent) => {
                let own = &agent.spec.client_id;
                let meant = claims.may_act.as_ref().is_some_and(|m| m.sub == *own);
                agent.reach.serves(&claims.tenant) && (claims.client_id == *own || meant)
            }
            Self::Resource(resource) => {
                resource.reach.serves(&claims.tenant) && claims.aud == resource.spec.uri.as_str()
            }
        }
    }
}

/// The use case with what it needs. Cheap to clone.
#[derive(Clone)]
pub struct Introspection {
    issuer: Arc<str>,
    keys: LiveKeys,
    store: Store,
    clock: Arc<dyn Clock>,
}

impl Introspection {
    /// Wires the use case; `issuer` is our own `iss`.
    pub fn new(issuer: Arc<str>, keys: LiveKeys, store: Store, clock: Arc<dyn Clock>) -> Self {
        Self { issuer, keys, store, clock }
    }

    /// The claims of a live token that the caller may see; `None` for anything else, without saying why.
    pub async fn run(
        &self,
        world: &InForce,
        caller: Caller<'_>,
        token: &str,
    ) -> Result<Option<Map<String, Value>>, StoreError> {
        Ok(self.live(world, caller, token).await?.map(|(claims, _)| active(&claims)))
    }

    /// The same, with the token's record.
    ///
    /// Live: signed by us under our `iss`, within its dates, on record with these very claims, not spent, nothing that it hangs on revoked,
    /// and everything that it hangs on still in force: exactly what an exchange of it would ask for. All layers must
    /// agree (T28).
    async fn live(
        &self,
        world: &InForce,
        caller: Caller<'_>,
        token: &str,
    ) -> Result<Option<(TokenClaims, TokenRecord)>, StoreError> {
        let Some(claims) = self.keys.own_claims(token).filter(|claims| caller.may_see(claims)) else {
            return Ok(None);
        };
        if claims.iss != *self.issuer || claims.exp <= self.clock.now().timestamp() {
            return Ok(None);
        }
        let issued = |record: &TokenRecord| record.capability_digest == sha256(&[&claims.canonical()]);
        let mut reader = self.store.reader().await?;
        let Some(record) = reader.token(claims.jti).await?.filter(issued) else { return Ok(None) };
        if !world.snapshot.stands(&record, &self.issuer) || !reader.is_alive(&record).await? {
            return Ok(None);
        }
        let once = claims.may_act.is_some();
        if once && reader.is_spent(SpendKind::HandOver, &claims.jti.to_string()).await? {
            return Ok(None);
        }
        Ok(Some((claims, record)))
    }
}

/// RFC 7662 §2.2: the token's own claims, `active` and `token_type`.
fn active(claims: &TokenClaims) -> Map<String, Value> {
    let mut answer = Map::new();
    answer.insert("active".to_owned(), true.into());
    answer.insert("token_type".to_owned(), "Bearer".into());
    if let Ok(Value::Object(members)) = serde_json::to_value(claims) {
        answer.extend(members);
    }
    answer
}
