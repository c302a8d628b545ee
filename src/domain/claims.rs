//! The claims of our tokens (RFC 9068 §2.2 and DESIGN §4), from a grant and back.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

use super::capability::{Capability, Grant};
use super::ceiling::Authority;
use super::chain::{BadChain, Chain};
use super::details::{BadDetails, DetailRules, Details};
use super::ids::{ApprovalId, ClientId, Jti, Name, TaskId};
use super::principal::Principal;
use super::resource::ResourceUri;
use super::scope::ScopeSet;
use super::status::StatusClaim;

/// The subject identifier of RFC 9493 §3.2.3, format `iss_sub`: the principal as its own issuer names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubjectId {
    /// Always `iss_sub`.
    pub format: IssSub,
    /// The trusted issuer.
    pub iss: String,
    /// The upstream subject.
    pub sub: String,
}

/// The one format of [`SubjectId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum IssSub {
    /// RFC 9493 §3.2.3.
    #[serde(rename = "iss_sub")]
    IssSub,
}

/// The only party that may spend a hand-over token (RFC 8693 §4.4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MayAct {
    /// The agent's client id.
    pub sub: ClientId,
    /// Our issuer, which knows it.
    pub iss: String,
}

/// The approval a token was granted under; inherited down the tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalClaim {
    /// Which approval.
    pub id: ApprovalId,
    /// Reason codes that were approved.
    pub reasons: Vec<String>,
}

/// The key a token is bound to (RFC 7800, RFC 9449 §6.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confirmation {
    /// RFC 7638 thumbprint of the sender's key.
    pub jkt: String,
}

/// All claims of a token of ours. An unknown one makes the token unreadable here: a newer server may have put a
/// limit into it that this one would not honour.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenClaims {
    /// Our issuer.
    pub iss: String,
    /// The principal, prefixed as its trusted issuer says (TX-11).
    pub sub: String,
    /// The principal as its own issuer names it.
    pub sub_id: SubjectId,
    /// The one resource's registered URI, or our issuer for an exchange-only token (AT-03).
    pub aud: String,
    /// Expiry, seconds since the epoch.
    pub exp: i64,
    /// Issued at.
    pub iat: i64,
    /// Not before, the same as `iat`.
    pub nbf: i64,
    /// The token's id.
    pub jti: Jti,
    /// The agent it was issued to.
    pub client_id: ClientId,
    /// Scopes (TX-18).
    pub scope: ScopeSet,
    /// Authorization details (RA-03).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization_details: Option<Value>,
    /// The actors (TX-12, TX-13).
    pub act: Value,
    /// The tenant, in a claim of its own (TX-11).
    pub tenant: Name,
    /// The task.
    pub task_id: TaskId,
    /// `name@version` of the task type.
    pub task_type: String,
    /// When the task ends.
    pub task_exp: i64,
    /// Hand-overs left.
    pub depth_left: u32,
    /// Resources that an exchange-only token may be narrowed to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Vec<ResourceUri>>,
    /// Who alone may spend it, once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub may_act: Option<MayAct>,
    /// The approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalClaim>,
    /// Sender constraint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cnf: Option<Confirmation>,
    /// Its place in a status list (SL-01); none where lists are switched off, and in tokens of older servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<StatusClaim>,
    /// The token it was narrowed from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_jti: Option<Jti>,
    /// When the person logged in, unchanged from the session (AT-02).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_time: Option<i64>,
    /// How strongly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acr: Option<String>,
    /// By which methods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amr: Option<Vec<String>>,
}

/// How the person logged in: carried unchanged from the session through the whole tree (AT-02).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Login {
    /// `auth_time`.
    pub auth_time: Option<i64>,
    /// `acr`.
    pub acr: Option<String>,
    /// `amr`.
    pub amr: Option<Vec<String>>,
}

/// What a token says besides its grant.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope {
    /// Our issuer.
    pub issuer: String,
    /// The token's id.
    pub jti: Jti,
    /// The token it was narrowed from.
    pub parent: Option<Jti>,
    /// When it is issued.
    pub iat: DateTime<Utc>,
    /// The principal as our tokens name it.
    pub subject: String,
    /// `name@version` of the task type.
    pub task_type: String,
    /// The login.
    pub login: Login,
    /// The approval.
    pub approval: Option<ApprovalClaim>,
    /// Its place in a status list.
    pub status: Option<StatusClaim>,
}

/// Why the claims of a token of ours are not readable here.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BadClaims {
    /// Not the members or kinds of [`TokenClaims`].
    #[error("the claims are not those of a token of this version: {0}")]
    Shape(String),
    /// `act` is malformed.
    #[error("{0}")]
    Chain(#[from] BadChain),
    /// `authorization_details` is not readable by the types registered today.
    #[error("{0}")]
    Details(#[from] BadDetails),
    /// `aud` and `resources` contradict each other, or `client_id` and `act`.
    #[error("the claims contradict each other")]
    Contradiction,
    /// A date out of range.
    #[error("a date is out of range")]
    Date,
}

impl TokenClaims {
    /// The claims of a token that says `grant`.
    pub fn new(grant: &Grant, envelope: Envelope) -> Self {
        let authority = &grant.capability.authority;
        let resources = || authority.resources.iter().cloned().collect();
        let service =
            authority.resources.iter().next().filter(|_| !grant.exchange_only).map(ToString::to_string);
        let may_act = |sub: &ClientId| MayAct { sub: sub.clone(), iss: envelope.issuer.clone() };
        Self {
            sub: envelope.subject,
            sub_id: SubjectId {
                format: IssSub::IssSub,
                iss: grant.principal.iss.clone(),
                sub: grant.principal.sub.clone(),
            },
            aud: service.unwrap_or_else(|| envelope.issuer.clone()),
            exp: grant.capability.expires_at.timestamp(),
            iat: envelope.iat.timestamp(),
            nbf: envelope.iat.timestamp(),
            jti: envelope.jti,
            client_id: grant.agent.clone(),
            scope: authority.scopes.clone(),
            authorization_details: (!authority.details.is_empty()).then(|| authority.details.to_json()),
            act: grant.chain.to_json(),
            tenant: grant.tenant.clone(),
            task_id: grant.task_id,
            task_type: envelope.task_type,
            task_exp: grant.task_deadline.timestamp(),
            depth_left: grant.capability.depth_left,
            resources: grant.exchange_only.then(resources),
            may_act: grant.may_act.as_ref().map(may_act),
            approval: envelope.approval,
            cnf: grant.capability.sender_key.clone().map(|jkt| Confirmation { jkt }),
            status: envelope.status,
            parent_jti: envelope.parent,
            auth_time: envelope.login.auth_time,
            acr: envelope.login.acr,
            amr: envelope.login.amr,
            iss: envelope.issuer,
        }
    }

    /// Reads the verified claims of a token of ours.
    pub fn read(claims: Map<String, Value>) -> Result<Self, BadClaims> {
        serde_json::from_value(Value::Object(claims)).map_err(|e| BadClaims::Shape(e.to_string()))
    }

    /// All claims as bytes that are the same for the same claims: what the token's record keeps the hash of.
    pub fn canonical(&self) -> Vec<u8> {
        // Names and values are texts, numbers and JSON: this cannot fail, and an empty answer matches no record.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The task type's name and version.
    pub fn task_type(&self) -> Result<(Name, i64), BadClaims> {
        let (name, version) = self.task_type.split_once('@').ok_or(BadClaims::Contradiction)?;
        let name = name.parse().map_err(|_| BadClaims::Contradiction)?;
        Ok((name, version.parse().map_err(|_| BadClaims::Contradiction)?))
    }

    /// The grant that these claims say, its details read by today's registered `rules`.
    pub fn grant(&self, rules: &DetailRules) -> Result<Grant, BadClaims> {
        let exchange_only = self.aud == self.iss;
        let resources = match (&self.resources, exchange_only) {
            (Some(list), true) => list.iter().cloned().collect(),
            (None, false) => [self.aud.parse().map_err(|_| BadClaims::Contradiction)?].into(),
            (Some(_), false) | (None, true) => return Err(BadClaims::Contradiction),
        };
        let chain = Chain::from_json(&self.act)?;
        if chain.current().sub != self.client_id.as_str() {
            return Err(BadClaims::Contradiction);
        }
        let details = self
            .authorization_details
            .as_ref()
            .map(|d| Details::read(d, rules))
            .transpose()?
            .unwrap_or_default();
        Ok(Grant {
            tenant: self.tenant.clone(),
            principal: Principal { iss: self.sub_id.iss.clone(), sub: self.sub_id.sub.clone() },
            task_id: self.task_id,
            task_deadline: date(self.task_exp)?,
            agent: self.client_id.clone(),
            chain,
            capability: Capability {
                authority: Authority { scopes: self.scope.clone(), resources, details },
                expires_at: date(self.exp)?,
                depth_left: self.depth_left,
                sender_key: self.cnf.as_ref().map(|cnf| cnf.jkt.clone()),
            },
            exchange_only,
            may_act: self.may_act.as_ref().map(|m| m.sub.clone()),
        })
    }

    /// The login that the session told of.
    pub fn login(&self) -> Login {
        Login { auth_time: self.auth_time, acr: self.acr.clone(), amr: self.amr.clone() }
    }
}

fn date(seconds: i64) -> Result<DateTime<Utc>, BadClaims> {
    DateTime::from_timestamp(seconds, 0).ok_or(BadClaims::Date)
}
