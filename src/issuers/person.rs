//! Whether a session proves that a person signed in just now: what it takes to approve something, and to administer (AP-03,
//! DESIGN §9).

use chrono::{DateTime, Utc};
use thiserror::Error;

use super::session::Session;
use crate::domain::ids::shown;
use crate::domain::objects::{PrincipalClass, TrustedIssuerSpec};
use crate::domain::refusal::{Retry, TokenFault};
use crate::domain::snapshot::{Agent, Snapshot};

/// How old such a login (`auth_time`) may be, in seconds: they have to sign in for it.
pub const FRESH: i64 = 15 * 60;

/// Why a session proves no person, or not just now.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NoPerson {
    /// When the person logged in is not told.
    #[error(
        "the session has no `auth_time`, so that nobody knows when you signed in (OpenID Connect Core section 2)"
    )]
    NoLogin,
    /// The login is old.
    #[error("the login is {age} s old and may be {FRESH} s old: sign in again")]
    Stale {
        /// Its age in seconds.
        age: i64,
    },
    /// No person.
    #[error("the session's issuer knows workloads, and this takes a person")]
    Workload,
    /// An agent may hold it.
    #[error(
        "agents may hold sessions of the client `{client}`, or this one: sign in through a client that is in no agent's \
         `upstream_clients`, without `may_act`"
    )]
    AgentsSession {
        /// The upstream client.
        client: String,
    },
    /// Any agent may spend the sessions of the issuer.
    #[error("any agent may hold sessions of the issuer (`any_agent`), so that they prove no person")]
    AnyAgent,
}

impl NoPerson {
    /// Stable code, the tail of the reason code: `login_old` in `subject_token_login_old`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoLogin => "login_unknown",
            Self::Stale { .. } => "login_old",
            Self::Workload => "no_person",
            Self::AgentsSession { .. } | Self::AnyAgent => "session_of_agent",
        }
    }
}

impl From<NoPerson> for TokenFault {
    fn from(why: NoPerson) -> Self {
        let retry = match why {
            NoPerson::NoLogin | NoPerson::Stale { .. } => Retry::NewSession,
            NoPerson::Workload | NoPerson::AgentsSession { .. } | NoPerson::AnyAgent => Retry::Never,
        };
        Self { code: why.code(), why: why.to_string(), retry }
    }
}

/// Whether `session` is of a person who signed in just now. One that an agent could hold is not; those that consoles sign people
/// in with, no agent holds.
pub fn is_a_person_just_now(
    snapshot: &Snapshot,
    session: &Session,
    now: DateTime<Utc>,
) -> Result<(), NoPerson> {
    let spec = &session.issuer.spec;
    are_people(spec)?;
    let holds = |agent: &Agent, client: &str| {
        let of = &agent.spec;
        !of.class.is_console()
            && of.upstream_clients.iter().any(|u| u.issuer == spec.issuer && u.client == client)
    };
    let client = session.client.as_deref();
    let held = client.is_none_or(|client| snapshot.agents().any(|agent| holds(agent, client)));
    if held || session.may_act.is_some() || !session.foreign_actors.is_empty() {
        return Err(NoPerson::AgentsSession { client: shown(client.unwrap_or("(none told)")) });
    }
    is_fresh(session.auth_time, now)
}

/// Whether sessions of this issuer are of people, and of nobody's agents by default.
pub fn are_people(issuer: &TrustedIssuerSpec) -> Result<(), NoPerson> {
    match issuer {
        TrustedIssuerSpec { principals: PrincipalClass::Workload, .. } => Err(NoPerson::Workload),
        TrustedIssuerSpec { any_agent: true, .. } => Err(NoPerson::AnyAgent),
        TrustedIssuerSpec { .. } => Ok(()),
    }
}

/// Whether somebody who logged in at `auth_time` did so just now.
pub fn is_fresh(auth_time: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Result<(), NoPerson> {
    let age = (now - auth_time.ok_or(NoPerson::NoLogin)?).num_seconds();
    if age > FRESH { Err(NoPerson::Stale { age }) } else { Ok(()) }
}
