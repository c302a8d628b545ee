//! The declared administrator: who administers the platform, and in which roles (DESIGN §9).

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Owner;
use crate::domain::ids::Name;

/// People who may use the admin API over HTTPS: one principal, or a group as an issuer states it. Of the platform only, and for
/// all of it: there are no administrators of single tenants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdministratorSpec {
    /// For people.
    #[serde(default)]
    pub description: String,
    /// Who answers for it.
    pub owner: Owner,
    /// How to reach them.
    pub contact: String,
    /// The `iss` of a trusted issuer of the platform whose subjects are people.
    pub issuer: String,
    /// The upstream `sub` of one principal. Exactly one of this and `group` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// A group, as the issuer's `groups_claim` lists it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The tenant that their session must be of; any when left out. Needed with `group` where the issuer tells of several
    /// tenants (`tenant_claim`): each of them could name a group so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_tenant: Option<Name>,
    /// What they may do.
    pub roles: Vec<Role>,
}

/// What somebody may do who administers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// See and change everything, but answer for approvers.
    Admin,
    /// See and answer what waits for approval, and confirm what takes two persons.
    Approve,
    /// See everything, and change nothing.
    Audit,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 3] = [Self::Admin, Self::Approve, Self::Audit];

    /// The word in objects and options.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Approve => "approve",
            Self::Audit => "audit",
        }
    }

    /// The name of its built-in task type, and of the one scope that this has.
    pub fn task_type(self) -> &'static str {
        match self {
            Self::Admin => "taskgrant.admin",
            Self::Approve => "taskgrant.approve",
            Self::Audit => "taskgrant.audit",
        }
    }

    /// The role whose built-in task type is called so.
    pub fn of_task_type(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.task_type() == name)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
