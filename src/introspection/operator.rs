//! Who calls the admin API over HTTPS: it introspects the tokens that it is shown, as every resource does, and then looks who
//! administers now (DESIGN §9).

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use thiserror::Error;

use super::{Caller, Introspection};
use crate::configuration::active::InForce;
use crate::domain::ids::{ClientId, Name};
use crate::domain::objects::Role;
use crate::domain::principal::Principal;
use crate::domain::record::{Bears, RevocationKey};
use crate::store::error::StoreError;

/// Somebody who shows a live token for the admin API.
#[derive(Clone, Debug)]
pub struct Operator {
    /// Who.
    pub principal: Principal,
    /// The tenant of their session. What they administer is the platform.
    pub tenant: Name,
    /// The console that they work through.
    pub client: ClientId,
    /// What the token is for.
    pub role: Role,
    /// When they signed in.
    pub auth_time: Option<DateTime<Utc>>,
    /// What their session said.
    pub facts: Map<String, Value>,
    /// What, if it is revoked, kills the token.
    pub killed_by: Vec<(RevocationKey, Bears)>,
}

impl Operator {
    /// As the log names them.
    pub fn account(&self) -> String {
        let Principal { iss, sub } = &self.principal;
        format!("principal:{iss} {sub} through {}", self.client)
    }
}

/// Why somebody is not let in.
#[derive(Debug, Error)]
pub enum NotAdmitted {
    /// No live token of ours for the admin API.
    #[error("the token is not one for the admin API, or is not live")]
    Token,
    /// They do not administer in this role any more.
    #[error("no Administrator object gives you the role `{}` any more", .0.role)]
    Role(Box<Operator>),
    /// Whether it lives cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Introspection {
    /// Who shows `token`, if it lives, is for the admin API in a role, was issued to a console, and they still have that role.
    /// Everything is looked at again on each call: nobody stays in who was taken out.
    pub async fn operator(&self, world: &InForce, token: &str) -> Result<Operator, NotAdmitted> {
        let snapshot = &world.snapshot;
        let api = snapshot.admin_api().ok_or(NotAdmitted::Token)?;
        let live = self.live(world, Caller::Resource(api), token).await?;
        let (claims, record) = live.ok_or(NotAdmitted::Token)?;
        let console = snapshot.agent(&claims.client_id).filter(|agent| agent.spec.class.is_console());
        let task_type = snapshot.task_type(&record.tenant, &record.task_type);
        let role = task_type.and_then(|task_type| task_type.role()).filter(|_| console.is_some());
        // Proof of a bound token is not read yet; and each of these tokens has the one scope of its role.
        let role = role.filter(|role| claims.cnf.is_none() && claims.scope.to_string() == role.task_type());
        let role = role.ok_or(NotAdmitted::Token)?;
        let task = self.store.task(record.task_id).await?.ok_or(NotAdmitted::Token)?;
        let operator = Operator {
            principal: record.principal.clone(),
            tenant: record.tenant.clone(),
            client: claims.client_id,
            role,
            auth_time: claims.auth_time.and_then(|at| DateTime::from_timestamp(at, 0)),
            facts: task.facts,
            killed_by: record.killed_by(),
        };
        let roles = snapshot.issuer(&operator.principal.iss).map(|issuer| {
            let Operator { tenant, principal, facts, .. } = &operator;
            issuer.roles(tenant, principal, facts)
        });
        match roles {
            Some(roles) if roles.contains(&role) => Ok(operator),
            Some(_) | None => Err(NotAdmitted::Role(Box::new(operator))),
        }
    }
}
