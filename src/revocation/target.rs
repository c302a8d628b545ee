//! What can be revoked by order, as the admin API and the commands name it.

use serde::{Deserialize, Serialize};

use crate::domain::ids::{ClientId, Jti, Name, TaskId};
use crate::domain::record::RevocationKey;
use crate::store::trees::Hanging;

/// What to revoke.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Target {
    /// A token and everything below it.
    Token {
        /// Its id.
        jti: Jti,
    },
    /// A task with all its tokens.
    Task {
        /// Its id.
        id: TaskId,
    },
    /// A session of a principal.
    Session {
        /// The trusted issuer.
        iss: String,
        /// The session id that the issuer's tokens tell.
        sid: String,
    },
    /// A session whose tokens tell no session id.
    SessionToken {
        /// The trusted issuer.
        iss: String,
        /// SHA-256 of the session token without its signature, in lower-case hex.
        token_sha256: String,
    },
    /// A principal.
    Principal {
        /// The trusted issuer.
        iss: String,
        /// The upstream `sub`.
        sub: String,
    },
    /// An agent, wherever it stands in a chain.
    Agent {
        /// Its client id.
        client_id: ClientId,
    },
    /// A task type, all its versions.
    TaskType {
        /// Its own tenant, `system` for a platform object.
        tenant: Name,
        /// Its name.
        name: Name,
    },
    /// A trusted issuer: all that its principals started.
    Issuer {
        /// The trusted issuer.
        iss: String,
    },
    /// A tenant.
    Tenant {
        /// Its name.
        name: Name,
    },
}

impl Target {
    /// The key of its row.
    pub fn key(&self) -> RevocationKey {
        match self {
            Self::Token { jti } => RevocationKey::token(*jti),
            Self::Task { id } => RevocationKey::task(*id),
            Self::Session { iss, sid } => RevocationKey::session(iss, sid),
            Self::SessionToken { iss, token_sha256 } => RevocationKey::session_token(iss, token_sha256),
            Self::Principal { iss, sub } => RevocationKey::principal(iss, sub),
            Self::Agent { client_id } => RevocationKey::agent(client_id),
            Self::TaskType { tenant, name } => RevocationKey::task_type(tenant, name),
            Self::Issuer { iss } => RevocationKey::issuer(iss),
            Self::Tenant { name } => RevocationKey::tenant(name),
        }
    }

    /// The texts of it that are not of a closed form, by name.
    pub(super) fn texts(&self) -> Vec<(&'static str, &str)> {
        match self {
            Self::Session { iss, sid } => vec![("iss", iss), ("sid", sid)],
            Self::SessionToken { iss, token_sha256 } => vec![("iss", iss), ("token_sha256", token_sha256)],
            Self::Principal { iss, sub } => vec![("iss", iss), ("sub", sub)],
            Self::Issuer { iss } => vec![("iss", iss)],
            Self::Token { .. }
            | Self::Task { .. }
            | Self::Agent { .. }
            | Self::TaskType { .. }
            | Self::Tenant { .. } => Vec::new(),
        }
    }

    /// The tenant that it lies in; none for what several may share.
    pub(super) fn tenant(&self) -> Option<&Name> {
        match self {
            Self::TaskType { tenant, .. } => Some(tenant),
            Self::Tenant { name } => Some(name),
            Self::Token { .. }
            | Self::Task { .. }
            | Self::Session { .. }
            | Self::SessionToken { .. }
            | Self::Principal { .. }
            | Self::Agent { .. }
            | Self::Issuer { .. } => None,
        }
    }

    /// The tokens that may hang on it: all of them, and perhaps some more. Those of a task are found by the task.
    pub(super) fn hanging(&self) -> Hanging {
        let all = Hanging::default();
        match self {
            Self::Token { .. } | Self::Task { .. } => all,
            Self::Session { iss, sid } => Hanging { iss: Some(iss.clone()), sid: Some(sid.clone()), ..all },
            Self::SessionToken { iss, token_sha256 } => {
                Hanging { iss: Some(iss.clone()), token_sha256: Some(token_sha256.clone()), ..all }
            }
            Self::Principal { iss, sub } => Hanging { iss: Some(iss.clone()), sub: Some(sub.clone()), ..all },
            Self::Agent { client_id } => Hanging { agent: Some(client_id.to_string()), ..all },
            Self::TaskType { name, .. } => Hanging { task_type: Some(name.clone()), ..all },
            Self::Issuer { iss } => Hanging { iss: Some(iss.clone()), ..all },
            Self::Tenant { name } => Hanging { tenant: Some(name.to_string()), ..all },
        }
    }
}
