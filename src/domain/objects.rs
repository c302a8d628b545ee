//! The declarative objects (DESIGN §5) as they are written: one spec type each, unknown members refused (L7).

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

use super::details::FieldRule;
use super::ids::{AgentClass, ClientId, Name, shown};
use super::principal::Principal;
use super::resource::ResourceUri;
use super::scope::Scope;

mod administrator;
mod auth;
mod certificate;
mod logout;
mod task_type;
mod trusted_issuer;
mod workload;

pub use administrator::{AdministratorSpec, Role};
pub use auth::{AuthSpec, SecretHash};
pub use certificate::{CertificateAuthoritySpec, CertificateName, TlsAuthSpec};
pub use logout::{BackchannelSpec, CaepSpec, LogoutSpec, OpaqueSubject};
pub use task_type::{
    ApprovalSpec, ApprovalWhen, DelegationSpec, EdgeSpec, LifetimeSpec, TaskTypeSpec, TokenLifetimeSpec,
};
pub use trusted_issuer::{
    AcceptSpec, ConditionSpec, EntitlementSpec, PrincipalClass, SessionEnd, SessionTokenKind,
    TrustedIssuerSpec, claim, listed,
};
pub use workload::{WorkloadIssuerSpec, WorkloadKind, WorkloadSpec};

/// Labels: free names with free values, readable by policy.
pub type Labels = BTreeMap<String, String>;

/// Kinds of declarative objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ObjectKind {
    /// [`TenantSpec`].
    Tenant,
    /// [`TrustedIssuerSpec`].
    TrustedIssuer,
    /// [`WorkloadIssuerSpec`].
    WorkloadIssuer,
    /// [`CertificateAuthoritySpec`].
    CertificateAuthority,
    /// [`AuthorizationDetailTypeSpec`].
    AuthorizationDetailType,
    /// [`ResourceSpec`].
    Resource,
    /// [`AgentSpec`].
    Agent,
    /// [`TaskTypeSpec`].
    TaskType,
    /// [`ExceptionSpec`].
    Exception,
    /// [`AdministratorSpec`].
    Administrator,
}

impl ObjectKind {
    /// All kinds, in the order in which they may refer to one another.
    pub const ALL: [Self; 10] = [
        Self::Tenant,
        Self::TrustedIssuer,
        Self::WorkloadIssuer,
        Self::CertificateAuthority,
        Self::AuthorizationDetailType,
        Self::Resource,
        Self::Agent,
        Self::TaskType,
        Self::Exception,
        Self::Administrator,
    ];

    /// The word after `kind:`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tenant => "Tenant",
            Self::TrustedIssuer => "TrustedIssuer",
            Self::WorkloadIssuer => "WorkloadIssuer",
            Self::CertificateAuthority => "CertificateAuthority",
            Self::AuthorizationDetailType => "AuthorizationDetailType",
            Self::Resource => "Resource",
            Self::Agent => "Agent",
            Self::TaskType => "TaskType",
            Self::Exception => "Exception",
            Self::Administrator => "Administrator",
        }
    }
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which object: kind, owning tenant, name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct ObjectRef {
    /// Its kind.
    pub kind: ObjectKind,
    /// The owning tenant, `system` for the platform. A tenant object belongs to the tenant that it names.
    pub tenant: Name,
    /// Its name.
    pub name: Name,
}

impl ObjectRef {
    /// Whether it is part of the product, as the platform's objects under the name `taskgrant` are: no file of an
    /// admin declares such an object, so that none is missing where it is not declared.
    pub fn is_built_in(&self) -> bool {
        self.name.is_built_in(&self.tenant)
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.tenant, self.name)
    }
}

/// One object, whatever its kind.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Spec {
    /// A tenant.
    Tenant(TenantSpec),
    /// A trusted issuer.
    TrustedIssuer(Box<TrustedIssuerSpec>),
    /// A workload issuer.
    WorkloadIssuer(Box<WorkloadIssuerSpec>),
    /// Certificate authorities.
    CertificateAuthority(CertificateAuthoritySpec),
    /// An authorization-detail type.
    AuthorizationDetailType(AuthorizationDetailTypeSpec),
    /// A resource.
    Resource(ResourceSpec),
    /// An agent.
    Agent(Box<AgentSpec>),
    /// A task type.
    TaskType(Box<TaskTypeSpec>),
    /// An exception.
    Exception(ExceptionSpec),
    /// Somebody who administers.
    Administrator(AdministratorSpec),
}

impl Spec {
    /// The kind of this spec.
    pub fn kind(&self) -> ObjectKind {
        match self {
            Self::Tenant(_) => ObjectKind::Tenant,
            Self::TrustedIssuer(_) => ObjectKind::TrustedIssuer,
            Self::WorkloadIssuer(_) => ObjectKind::WorkloadIssuer,
            Self::CertificateAuthority(_) => ObjectKind::CertificateAuthority,
            Self::AuthorizationDetailType(_) => ObjectKind::AuthorizationDetailType,
            Self::Resource(_) => ObjectKind::Resource,
            Self::Agent(_) => ObjectKind::Agent,
            Self::TaskType(_) => ObjectKind::TaskType,
            Self::Exception(_) => ObjectKind::Exception,
            Self::Administrator(_) => ObjectKind::Administrator,
        }
    }

    /// The client and how it authenticates, of those that are one.
    pub fn client(&self) -> Option<(&ClientId, &AuthSpec)> {
        match self {
            Self::Agent(spec) => Some((&spec.client_id, &spec.auth)),
            Self::Resource(spec) => Some((spec.client_id.as_ref()?, &spec.auth)),
            Self::Tenant(_)
            | Self::TrustedIssuer(_)
            | Self::WorkloadIssuer(_)
            | Self::CertificateAuthority(_)
            | Self::AuthorizationDetailType(_)
            | Self::TaskType(_)
            | Self::Exception(_)
            | Self::Administrator(_) => None,
        }
    }

    /// How the client authenticates, of those that are one.
    pub fn auth_mut(&mut self) -> Option<&mut AuthSpec> {
        match self {
            Self::Agent(spec) => Some(&mut spec.auth),
            Self::Resource(spec) => Some(&mut spec.auth),
            Self::Tenant(_)
            | Self::TrustedIssuer(_)
            | Self::WorkloadIssuer(_)
            | Self::CertificateAuthority(_)
            | Self::AuthorizationDetailType(_)
            | Self::TaskType(_)
            | Self::Exception(_)
            | Self::Administrator(_) => None,
        }
    }

    /// Reads the stored JSON of a spec of `kind`.
    pub fn from_json(kind: ObjectKind, json: &[u8]) -> Result<Self, serde_json::Error> {
        Ok(match kind {
            ObjectKind::Tenant => Self::Tenant(serde_json::from_slice(json)?),
            ObjectKind::TrustedIssuer => Self::TrustedIssuer(serde_json::from_slice(json)?),
            ObjectKind::WorkloadIssuer => Self::WorkloadIssuer(serde_json::from_slice(json)?),
            ObjectKind::CertificateAuthority => Self::CertificateAuthority(serde_json::from_slice(json)?),
            ObjectKind::AuthorizationDetailType => {
                Self::AuthorizationDetailType(serde_json::from_slice(json)?)
            }
            ObjectKind::Resource => Self::Resource(serde_json::from_slice(json)?),
            ObjectKind::Agent => Self::Agent(serde_json::from_slice(json)?),
            ObjectKind::TaskType => Self::TaskType(serde_json::from_slice(json)?),
            ObjectKind::Exception => Self::Exception(serde_json::from_slice(json)?),
            ObjectKind::Administrator => Self::Administrator(serde_json::from_slice(json)?),
        })
    }
}

/// An object with its version: 1 when first published, one more at each change.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Which object.
    pub id: ObjectRef,
    /// Its version.
    pub version: i64,
    /// What it says.
    pub spec: Spec,
}

/// A tenant: the isolation boundary.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TenantSpec {
    /// For people.
    #[serde(default)]
    pub description: String,
    /// Readable by policy.
    #[serde(default)]
    pub labels: Labels,
}

/// A registered OAuth client that runs tasks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentSpec {
    /// OAuth client id, unique in the deployment.
    pub client_id: ClientId,
    /// Its class, for `class:` selectors and policy. `taskgrant:console` is reserved for platform agents that admins work
    /// through.
    pub class: AgentClass,
    /// Who answers for it.
    pub owner: Owner,
    /// How to reach them.
    pub contact: String,
    /// Readable by policy.
    #[serde(default)]
    pub labels: Labels,
    /// How it authenticates.
    #[serde(default)]
    pub auth: AuthSpec,
    /// Public keys (a JWK set) that sign `actor_token`s for its instances.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor_jwks: Option<Value>,
    /// Upstream clients whose session tokens it may spend.
    #[serde(default)]
    pub upstream_clients: Vec<UpstreamClientSpec>,
    /// Task type when a root request names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_task_type: Option<Name>,
    /// Whether it is refused everywhere.
    #[serde(default)]
    pub disabled: bool,
    /// Tenants that a platform agent serves; all when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenants: Option<Vec<Name>>,
}

/// An OAuth client of an upstream issuer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamClientSpec {
    /// The issuer's `iss`.
    pub issuer: String,
    /// The client's id there: the token's `azp`, or `client_id`.
    pub client: String,
}

/// A service that accepts our tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResourceSpec {
    /// Its canonical URI, the `aud` of tokens for it; unique in the deployment.
    pub uri: ResourceUri,
    /// Logical names for the `audience` parameter besides the object's own; unique in the deployment.
    #[serde(default)]
    pub names: Vec<Name>,
    /// The scopes it knows.
    pub scopes: Vec<Scope>,
    /// Client id for introspection; unique in the deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<ClientId>,
    /// How it authenticates.
    #[serde(default)]
    pub auth: AuthSpec,
    /// Tenants that a platform resource serves; all when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenants: Option<Vec<Name>>,
}

/// A type of authorization details (RFC 9396): its JSON Schema, and the rule by which each field narrows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuthorizationDetailTypeSpec {
    /// For people.
    #[serde(default)]
    pub description: String,
    /// JSON Schema of the object, `type` included.
    pub schema: Value,
    /// The rule of each field; a field without one is unknown.
    pub fields: BTreeMap<String, FieldRule>,
    /// Tenants that a platform type serves; all when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenants: Option<Vec<Name>>,
}

/// A time-boxed exception that policy may read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExceptionSpec {
    /// Why.
    pub reason: String,
    /// Who answers for it.
    pub owner: Owner,
    /// The two who approved it: distinct, and neither the owner.
    pub approvers: Vec<Owner>,
    /// From when it holds, RFC 3339.
    pub not_before: chrono::DateTime<chrono::Utc>,
    /// Until when it holds, RFC 3339.
    pub expires_at: chrono::DateTime<chrono::Utc>,
    /// What it is about, for the rule that reads it.
    #[serde(default)]
    pub about: Map<String, Value>,
}

/// Who answers for an object or may approve: `group:NAME` or `principal:ISS SUB`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(inline, extend("pattern" = r"^(group:.+|principal:[^ ]+ .+)$"))]
pub enum Owner {
    /// Members of a group.
    Group(String),
    /// One principal.
    Principal(Principal),
}

impl Owner {
    /// Whether this principal, a member of these groups, is meant.
    pub fn is(&self, principal: &Principal, groups: &[String]) -> bool {
        match self {
            Self::Group(name) => groups.contains(name),
            Self::Principal(named) => named == principal,
        }
    }
}

impl FromStr for Owner {
    type Err = BadField;
    fn from_str(text: &str) -> Result<Self, BadField> {
        let bad = || BadField::Owner(shown(text));
        match text.split_once(':') {
            Some(("group", name)) if !name.is_empty() => Ok(Self::Group(name.to_owned())),
            Some(("principal", rest)) => match rest.split_once(' ') {
                Some((iss, sub)) if !iss.is_empty() && !sub.is_empty() => {
                    Ok(Self::Principal(Principal { iss: iss.to_owned(), sub: sub.to_owned() }))
                }
                _ => Err(bad()),
            },
            _ => Err(bad()),
        }
    }
}

impl TryFrom<String> for Owner {
    type Error = BadField;
    fn try_from(text: String) -> Result<Self, BadField> {
        text.parse()
    }
}

impl From<Owner> for String {
    fn from(owner: Owner) -> String {
        match owner {
            Owner::Group(name) => format!("group:{name}"),
            Owner::Principal(p) => format!("principal:{} {}", p.iss, p.sub),
        }
    }
}

/// Which agents: `class:NAME` or `agent:CLIENT_ID`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(inline, extend("pattern" = r"^(class|agent):.+$"))]
pub enum Selector {
    /// All agents of a class.
    Class(AgentClass),
    /// One agent.
    Agent(ClientId),
}

impl Selector {
    /// Whether an agent of this id and class is selected.
    pub fn selects(&self, client_id: &ClientId, class: &AgentClass) -> bool {
        match self {
            Self::Class(wanted) => wanted == class,
            Self::Agent(wanted) => wanted == client_id,
        }
    }
}

impl FromStr for Selector {
    type Err = BadField;
    fn from_str(text: &str) -> Result<Self, BadField> {
        let bad = || BadField::Selector(shown(text));
        match text.split_once(':') {
            Some(("class", name)) => name.parse().map(Self::Class).map_err(|_| bad()),
            Some(("agent", id)) => id.parse().map(Self::Agent).map_err(|_| bad()),
            _ => Err(bad()),
        }
    }
}

impl TryFrom<String> for Selector {
    type Error = BadField;
    fn try_from(text: String) -> Result<Self, BadField> {
        text.parse()
    }
}

impl From<Selector> for String {
    fn from(selector: Selector) -> String {
        match selector {
            Selector::Class(name) => format!("class:{name}"),
            Selector::Agent(id) => format!("agent:{id}"),
        }
    }
}

/// A text that is not of the form its field wants.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BadField {
    /// Not an owner.
    #[error("`{0}` is neither `group:NAME` nor `principal:ISSUER SUBJECT`")]
    Owner(String),
    /// Not a selector.
    #[error("`{0}` is neither `class:NAME` nor `agent:CLIENT_ID`")]
    Selector(String),
    /// Not a hash; the text is not shown, since it might be a secret pasted by mistake.
    #[error("a secret hash is 64 lower-case hex digits; `taskgrant secret` makes a secret and its hash")]
    SecretHash,
}
