//! Why a session token, an actor token or an assertion is not accepted: closed lists of facts. No message holds any of the token
//! but excerpts of its `iss` and `typ`, nor the name of an object, which may be another tenant's (L10).

use thiserror::Error;

use super::keysets::KeysUnavailable;
use crate::domain::chain::BadChain;
use crate::domain::excerpt::Excerpt;
use crate::domain::ids::Name;
use crate::domain::objects::SessionTokenKind;
use crate::domain::refusal::{Retry, TokenFault};
use crate::keys::algorithm::Algorithm;
use crate::keys::dates::BadDate;
use crate::keys::fault::JwsFault;

/// Why a session token is not accepted.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SessionFault {
    /// `iss` is missing or names no trusted issuer.
    #[error("`iss` {0} is not a trusted issuer; register it as TrustedIssuer")]
    UnknownIssuer(Excerpt),
    /// The issuer may not use this algorithm [JW-01].
    #[error("algorithm {0} is not among the `algorithms` of the token's issuer")]
    Algorithm(Algorithm),
    /// A JWT of another kind: event, logout token, proof, assertion [JW-04].
    #[error("header `typ` {0} is of a token that is never a session token")]
    OtherTyp(Excerpt),
    /// A JWT of another kind, by a claim that only such have [JW-04].
    #[error("claim `{0}` is of a token that is never a session token")]
    OtherKind(&'static str),
    /// No accepted kind has this `typ`.
    #[error("header `typ` {0} is not among the accepted ones of its issuer: see `accept.typ`")]
    Typ(Excerpt),
    /// Issued for somebody else (T04).
    #[error("`aud` does not hold an `accept.audience` of its issuer: the token is for another party")]
    Audience,
    /// Declared as something that it is not (T18).
    #[error("the token is not of the type declared by `subject_token_type`, `{}`", .0.as_str())]
    Kind(SessionTokenKind),
    /// The issuer's settings make it both an access token and an ID token.
    #[error(
        "the token could be an access token or an ID token; give the two kinds of `accept` different audiences or `typ`s"
    )]
    AmbiguousKind,
    /// The issuer's keys are not at hand.
    #[error(transparent)]
    Keys(#[from] KeysUnavailable),
    /// The signature does not verify (T33).
    #[error("{0}")]
    Signature(#[from] JwsFault),
    /// A claim that is needed is absent.
    #[error("claim `{0}` is missing")]
    Missing(&'static str),
    /// A claim is of another kind or size than its standard says.
    #[error("claim `{claim}` is not {wanted}")]
    Malformed {
        /// Which.
        claim: &'static str,
        /// What it should be.
        wanted: &'static str,
    },
    /// A claim is not a date [JW-05].
    #[error(transparent)]
    Date(#[from] BadDate),
    /// `exp` has passed; there is no leeway.
    #[error("`exp` has passed; get a fresh session token")]
    Expired,
    /// A date is further ahead than clocks may differ.
    #[error("`{0}` is in the future; compare the clocks of issuer and server")]
    NotYet(&'static str),
    /// The login is older than `max_session_age`.
    #[error(
        "the login (`auth_time`, else `iat`) is older than {0} s, the issuer's `max_session_age`; log in again"
    )]
    TooOld(u32),
    /// The issuer's `session_end` names a claim that the token has not, or that is no date.
    #[error(
        "the claim that the issuer's `session_end` names is missing, or not a number of seconds since 1970"
    )]
    NoEnd,
    /// The session has ended, though its token has not expired.
    #[error("the session has ended, by the issuer's `session_end`; log in again")]
    Ended,
    /// `cnf`: bound to a key of the client, of which there is no proof here.
    #[error(
        "`cnf` binds the token to a key, and its proof cannot be checked here; use a token without `cnf`"
    )]
    Bound,
    /// An ID token for several parties must say for whom it was issued (OpenID Connect Core §2) (T04).
    #[error("`azp` is missing, and `aud` has several values")]
    NoAuthorizedParty,
    /// Two claims name two clients.
    #[error("`azp` and `client_id` differ: which client the token was issued to is unclear")]
    TwoClients,
    /// The tenant claim is absent or not a tenant's name.
    #[error("the issuer's `tenant_claim` holds no tenant's name")]
    NoTenant,
    /// The tenant does not exist or the issuer does not serve it (T42).
    #[error("tenant `{0}` does not exist or is not served by the issuer")]
    Tenant(Name),
    /// A subject that looks like another issuer's (T34).
    #[error("`sub` begins with the `subject_prefix` of another issuer of the tenant")]
    ForeignPrefix,
    /// A subject that is the client id of an agent or a resource [AT-05, T17].
    #[error("`sub` is the client id of an agent or a resource; give the issuer a `subject_prefix`")]
    SubjectIsClient,
    /// `act` cannot be read [TX-12].
    #[error(transparent)]
    Act(#[from] BadChain),
    /// `may_act` has a member that this server cannot match against an agent [TX-15].
    #[error("`may_act` has members other than `sub` and `iss`, which cannot be matched")]
    MayActMembers,
    /// The claims to keep with the task are too large.
    #[error("the claims that the issuer's rules name are longer than {0} bytes together")]
    FactsTooLarge(usize),
}

impl SessionFault {
    /// A stable code, the tail of a reason code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownIssuer(_) => "unknown_issuer",
            Self::Algorithm(_) => "algorithm",
            Self::OtherTyp(_) | Self::OtherKind(_) => "not_a_session_token",
            Self::Typ(_) => "typ",
            Self::Audience => "audience",
            Self::Kind(_) | Self::AmbiguousKind => "wrong_type",
            Self::Keys(_) => "issuer_unavailable",
            Self::Signature(_) => "signature",
            Self::Missing(_) | Self::Malformed { .. } | Self::Date(_) | Self::NoEnd => "malformed",
            Self::Expired => "expired",
            Self::NotYet(_) => "not_yet_valid",
            Self::TooOld(_) => "session_too_old",
            Self::Ended => "session_ended",
            Self::Bound => "sender_constrained",
            Self::NoAuthorizedParty | Self::TwoClients => "client",
            Self::NoTenant | Self::Tenant(_) => "tenant",
            Self::ForeignPrefix | Self::SubjectIsClient => "subject",
            Self::Act(_) => "act",
            Self::MayActMembers => "may_act",
            Self::FactsTooLarge(_) => "facts_too_large",
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::Expired | Self::TooOld(_) | Self::Ended | Self::Signature(JwsFault::UnknownKey) => {
                Retry::NewSession
            }
            Self::Keys(_) | Self::NotYet(_) => Retry::Later,
            Self::UnknownIssuer(_)
            | Self::Algorithm(_)
            | Self::OtherTyp(_)
            | Self::OtherKind(_)
            | Self::Typ(_)
            | Self::Audience
            | Self::Kind(_)
            | Self::AmbiguousKind
            | Self::Signature(_)
            | Self::Missing(_)
            | Self::Malformed { .. }
            | Self::Date(_)
            | Self::NoEnd
            | Self::Bound
            | Self::NoAuthorizedParty
            | Self::TwoClients
            | Self::NoTenant
            | Self::Tenant(_)
            | Self::ForeignPrefix
            | Self::SubjectIsClient
            | Self::Act(_)
            | Self::MayActMembers
            | Self::FactsTooLarge(_) => Retry::Never,
        }
    }
}

impl From<SessionFault> for TokenFault {
    fn from(fault: SessionFault) -> Self {
        Self { code: fault.code(), why: fault.to_string(), retry: fault.retry() }
    }
}

/// Why an actor token, or the token of a workload, is not accepted.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ActorFault {
    /// Not an actor token by its header [JW-04].
    #[error(
        "by header `typ` or its claims it is neither an `actor+jwt` nor the token of a workload of this agent"
    )]
    Typ,
    /// Not among the workload issuer's `algorithms` [JW-01].
    #[error("algorithm {0} is not among the `algorithms` of the workload issuer")]
    Algorithm(Algorithm),
    /// No registered key of the agent, or of its platform, verifies it (T33).
    #[error("{0}; it must be signed by a key in the agent's `actor_jwks`, or by its workload issuer")]
    Signature(#[from] JwsFault),
    /// The platform's keys are not at hand.
    #[error(transparent)]
    Keys(#[from] KeysUnavailable),
    /// It identifies another agent than the authenticated one [TX-19, T12].
    #[error(
        "it does not identify the authenticated agent: `iss` is its client id, or issuer and `sub` are in its `auth.workload`"
    )]
    OtherAgent,
    /// Not for this server alone (T14).
    #[error("`aud` is not this server's issuer as the only value")]
    Audience,
    /// A claim that is needed is absent.
    #[error("claim `{0}` is missing")]
    Missing(&'static str),
    /// A claim is of another kind or size than it should be.
    #[error("claim `{claim}` is not {wanted}")]
    Malformed {
        /// Which.
        claim: &'static str,
        /// What it should be.
        wanted: &'static str,
    },
    /// A claim is not a date [JW-05].
    #[error(transparent)]
    Date(#[from] BadDate),
    /// `exp` has passed (T25).
    #[error("`exp` has passed; sign a fresh actor token")]
    Expired,
    /// `exp` is too far ahead.
    #[error("`exp` is more than {0} s ahead; sign shorter-lived actor tokens")]
    TooLong(i64),
    /// A workload's token is older than its issuer's `max_age`.
    #[error(
        "it was issued more than {0} s ago, the workload issuer's `max_age`; read the file again for each request"
    )]
    TooOld(u32),
    /// A date is further ahead than clocks may differ.
    #[error("`{0}` is in the future; compare the clocks of agent and server")]
    NotYet(&'static str),
    /// A claim that would be dropped in silence, though it matters.
    #[error("claim `{0}` has no meaning in an actor token here; leave it out")]
    Unsupported(&'static str),
}

impl ActorFault {
    /// A stable code, the tail of a reason code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Typ => "typ",
            Self::Algorithm(_) | Self::Signature(_) => "signature",
            Self::Keys(_) => "issuer_unavailable",
            Self::OtherAgent => "other_agent",
            Self::Audience => "audience",
            Self::Missing(_) | Self::Malformed { .. } | Self::Date(_) => "malformed",
            Self::Expired => "expired",
            Self::TooLong(_) | Self::TooOld(_) => "too_long",
            Self::NotYet(_) => "not_yet_valid",
            Self::Unsupported(_) => "unsupported",
        }
    }
}

impl ActorFault {
    /// Whether nobody is known to have vouched for the token: then its sender is told nothing.
    pub fn is_unproved(&self) -> bool {
        matches!(self, Self::Algorithm(_) | Self::Signature(_))
    }
}

impl From<ActorFault> for TokenFault {
    /// A fresh actor token helps where time was wrong; the rest is the agent's own doing.
    fn from(fault: ActorFault) -> Self {
        let fresh = matches!(
            fault,
            ActorFault::Expired | ActorFault::NotYet(_) | ActorFault::TooOld(_) | ActorFault::Keys(_)
        );
        let retry = if fresh { Retry::Later } else { Retry::Never };
        Self { code: fault.code(), why: fault.to_string(), retry }
    }
}

/// Why a client assertion is not accepted. Told to its sender only once the signature has verified.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AssertionFault {
    /// Not among the client's `auth.algorithms` [JW-01].
    #[error("algorithm {0} is not among the client's `auth.algorithms`")]
    Algorithm(Algorithm),
    /// No registered key of the client verifies it (T33).
    #[error("{0}")]
    Signature(#[from] JwsFault),
    /// A JWT that says it is something else [JW-04].
    #[error("header `typ` is not `client-authentication+jwt`")]
    Typ,
    /// A JWT of another kind, by a claim that only such have, or bound to a key [JW-04].
    #[error("it has a claim of another kind of token")]
    OtherKind,
    /// It does not identify the client itself (RFC 7523 §3) [CA-03].
    #[error("`{0}` is not the client id: `iss` and `sub` both are")]
    OtherClient(&'static str),
    /// Not for this server alone [CA-04].
    #[error(
        "`aud` is not this server's issuer as the only value: the URL of the token endpoint is not accepted"
    )]
    Audience,
    /// A claim that is needed is absent.
    #[error("claim `{0}` is missing")]
    Missing(&'static str),
    /// `jti` cannot be kept.
    #[error("claim `jti` is not a text of 1 to 255 printable ASCII characters")]
    Jti,
    /// A claim is not a date [JW-05].
    #[error(transparent)]
    Date(#[from] BadDate),
    /// `exp` has passed; there is no leeway.
    #[error("`exp` has passed; sign a fresh assertion for each request")]
    Expired,
    /// `exp` is too far ahead, or `iat` too long ago.
    #[error("it is good for more than {0} s; sign a fresh assertion for each request")]
    TooLong(i64),
    /// A date is further ahead than clocks may differ.
    #[error("`{0}` is in the future; compare the clocks of client and server")]
    NotYet(&'static str),
}

impl AssertionFault {
    /// Whether the sender has not even shown that it has a key of the client: then nothing is told.
    pub fn is_unproved(&self) -> bool {
        matches!(self, Self::Algorithm(_) | Self::Signature(_))
    }
}
