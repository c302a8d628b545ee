//! Why a logout token or a security event token is refused: a closed list of facts.

use thiserror::Error;

use super::keysets::KeysUnavailable;
use crate::domain::excerpt::Excerpt;
use crate::keys::algorithm::Algorithm;
use crate::keys::dates::BadDate;
use crate::keys::fault::JwsFault;

/// Why an event is refused, and never acted on [SE-04].
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum EventFault {
    /// No compact JWS at all.
    #[error("{0}")]
    NotAJws(JwsFault),
    /// Nobody is to be heard under this `iss` here: untrusted, or without this part of `logout`.
    #[error("no events are heard from `iss` {0}; declare `logout` of its TrustedIssuer")]
    UnknownIssuer(Excerpt),
    /// The sender does not show the secret that its transmitter was given.
    #[error("the Authorization header does not hold a secret of this transmitter")]
    Unauthorized,
    /// Another kind of JWT by its header [JW-04].
    #[error("header `typ` is not one that such an event has")]
    Typ,
    /// Not among the issuer's `algorithms` [JW-01].
    #[error("algorithm {0} is not among the `algorithms` of the issuer")]
    Algorithm(Algorithm),
    /// The keys are not at hand.
    #[error(transparent)]
    Keys(#[from] KeysUnavailable),
    /// No key of the issuer verifies it.
    #[error("{0}")]
    Signature(#[from] JwsFault),
    /// For somebody else.
    #[error("`aud` is another party's")]
    Audience,
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
    /// A claim that such a token never has: it is of another kind [JW-04].
    #[error("claim `{0}` must not be there")]
    Forbidden(&'static str),
    /// `exp` has passed; there is no leeway.
    #[error("`exp` has passed")]
    Expired,
    /// A date is further ahead than clocks may differ.
    #[error("`{0}` is in the future; compare the clocks of sender and server")]
    NotYet(&'static str),
    /// `events` does not hold what makes it a logout token.
    #[error("`events` does not hold `http://schemas.openid.net/event/backchannel-logout` with an object")]
    NoLogout,
    /// Neither a session nor a principal is named.
    #[error("neither `sub` nor `sid` says whose session it was")]
    Nobody,
    /// The subject is of a format that cannot be told apart from others here, or of another issuer.
    #[error("`sub_id`: {0}")]
    Subject(&'static str),
}

impl EventFault {
    /// A stable code, for records and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotAJws(_) => "not_a_jwt",
            Self::UnknownIssuer(_) => "unknown_issuer",
            Self::Unauthorized => "unauthorized",
            Self::Typ => "typ",
            Self::Algorithm(_) | Self::Signature(_) => "signature",
            Self::Keys(_) => "issuer_unavailable",
            Self::Audience => "audience",
            Self::Missing(_) | Self::Malformed { .. } | Self::Date(_) => "malformed",
            Self::Forbidden(_) | Self::NoLogout => "other_kind",
            Self::Expired => "expired",
            Self::NotYet(_) => "not_yet_valid",
            Self::Nobody | Self::Subject(_) => "subject",
        }
    }

    /// Whether the issuer itself is known to have told this to this server: then what is wrong is recorded under its name.
    /// Anybody at all may have sent anything else (L12).
    pub fn is_proved(&self) -> bool {
        match self {
            Self::NotAJws(_)
            | Self::UnknownIssuer(_)
            | Self::Unauthorized
            | Self::Typ
            | Self::Algorithm(_)
            | Self::Keys(_)
            | Self::Signature(_)
            | Self::Audience => false,
            Self::Missing(_)
            | Self::Malformed { .. }
            | Self::Date(_)
            | Self::Forbidden(_)
            | Self::Expired
            | Self::NotYet(_)
            | Self::NoLogout
            | Self::Nobody
            | Self::Subject(_) => true,
        }
    }
}
