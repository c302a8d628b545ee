//! Identifiers: one type each, so that a client id never fits where a token id belongs.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::{Builder, Uuid};

/// Why a text is not an identifier of the wanted kind.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("`{shown}` is not {wanted}")]
pub struct BadId {
    shown: String,
    wanted: &'static str,
}

impl BadId {
    fn new(text: &str, wanted: &'static str) -> Self {
        Self { shown: shown(text), wanted }
    }
}

/// `text` cut to 80 characters with everything but printable ASCII masked: safe in an error or a log line.
pub fn shown(text: &str) -> String {
    shown_up_to(text, 80)
}

/// The same, cut to `most` characters: for what another server says, whose end may tell what to do.
pub fn shown_up_to(text: &str, most: usize) -> String {
    let safe = |c: char| if c.is_ascii_graphic() && c != '"' && c != '\\' || c == ' ' { c } else { '?' };
    let mut short: String = text.chars().take(most).map(safe).collect();
    if text.chars().nth(most).is_some() {
        short.push_str("...");
    }
    short
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $wanted:literal, $legal:expr, $pattern:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schemars(inline, extend("pattern" = $pattern))]
        pub struct $name(Box<str>);

        impl $name {
            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = BadId;
            fn from_str(text: &str) -> Result<Self, BadId> {
                let legal: fn(&str) -> bool = $legal;
                if legal(text) { Ok(Self(text.into())) } else { Err(BadId::new(text, $wanted)) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadId;
            fn try_from(text: String) -> Result<Self, BadId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &self.0)
            }
        }
    };
}

fn is_name(text: &str) -> bool {
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let rest =
        text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-' | b'.'));
    first && rest && text.len() <= 64
}

fn is_client_id(text: &str) -> bool {
    let legal = |b: u8| matches!(b, 0x21 | 0x23..=0x5B | 0x5D..=0x7E);
    !text.is_empty() && text.len() <= 255 && text.bytes().all(legal)
}

text_id!(
    /// Name of a declarative object or tenant: 1 to 64 of `a-z 0-9 _ - .`, beginning with a letter or digit.
    Name,
    "a name (1 to 64 of `a-z 0-9 _ - .`, beginning with a letter or digit)",
    is_name,
    "^[a-z0-9][a-z0-9_.-]{0,63}$"
);

text_id!(
    /// Class of agents: a [`Name`], or the reserved one of the clients that admins work through.
    AgentClass,
    "the class of an agent (a name of 1 to 64 of `a-z 0-9 _ - .`, or `taskgrant:console`)",
    |text| is_name(text) || text == AgentClass::CONSOLE,
    "^([a-z0-9][a-z0-9_.-]{0,63}|taskgrant:console)$"
);

text_id!(
    /// OAuth client identifier (RFC 6749 §2.2): 1 to 255 printable ASCII characters without space, quote or backslash.
    ClientId,
    "a client id (1 to 255 printable ASCII characters without space, quote or backslash)",
    is_client_id,
    r"^[!#-\[\]-~]{1,255}$"
);

impl Name {
    /// The reserved tenant whose objects belong to the platform.
    pub const SYSTEM: &'static str = "system";

    /// The platform's own tenant, `system`.
    pub fn system() -> Self {
        Self(Self::SYSTEM.into())
    }

    /// Whether this names the platform's own tenant.
    pub fn is_system(&self) -> bool {
        &*self.0 == Self::SYSTEM
    }

    /// Whether the product keeps this name for what it comes with: `taskgrant`, and all that begin with `taskgrant.`.
    pub fn is_reserved(&self) -> bool {
        &*self.0 == "taskgrant" || self.0.starts_with("taskgrant.")
    }

    /// Whether an object of this name in `tenant` comes with the product: no admin declares it.
    pub fn is_built_in(&self, tenant: &Self) -> bool {
        tenant.is_system() && self.is_reserved()
    }
}

impl AgentClass {
    /// The reserved class: what admins work through, and no agent (DESIGN §9).
    pub const CONSOLE: &'static str = "taskgrant:console";

    /// The reserved class.
    pub fn console() -> Self {
        Self(Self::CONSOLE.into())
    }

    /// Whether this is the reserved class.
    pub fn is_console(&self) -> bool {
        &*self.0 == Self::CONSOLE
    }
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Uuid);

        impl $name {
            /// A fresh, time-ordered id (UUID version 7, RFC 9562) from the instant and 80 random bits.
            pub fn new(now: DateTime<Utc>, random: [u8; 10]) -> Self {
                let millis = u64::try_from(now.timestamp_millis()).unwrap_or(0);
                Self(Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadId;
            fn try_from(text: String) -> Result<Self, BadId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.to_string()
            }
        }

        impl FromStr for $name {
            type Err = BadId;
            /// Only the canonical form, lower case with hyphens: one id has one spelling.
            fn from_str(text: &str) -> Result<Self, BadId> {
                let bad = || BadId::new(text, "an id (a UUID in lower case)");
                let id = Uuid::try_parse(text).map_err(|_| bad())?;
                if id.hyphenated().to_string() == text { Ok(Self(id)) } else { Err(bad()) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }
    };
}

uuid_id!(
    /// Id of one token of ours, its `jti` (RFC 7519 §4.1.7).
    Jti
);
uuid_id!(
    /// Id of a task: everything that grows from one root exchange.
    TaskId
);
uuid_id!(
    /// Id of a decision in the decision log.
    DecisionId
);
uuid_id!(
    /// Id of an approval.
    ApprovalId
);
uuid_id!(
    /// Id of a proposal: a change that waits for a second person.
    ProposalId
);
uuid_id!(
    /// Id of a status list, the last segment of its URI.
    StatusListId
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_lower_case_and_bounded() {
        assert!("refund_order".parse::<Name>().is_ok());
        for bad in ["", "Refund", "-x", "a b", "a/b", &"a".repeat(65), "ä"] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_id_has_one_spelling() {
        let id = Jti::new(DateTime::from_timestamp(1_700_000_000, 0).unwrap(), [7; 10]);
        assert_eq!(id.to_string().parse::<Jti>().unwrap(), id);
        assert!(id.to_string().to_uppercase().parse::<Jti>().is_err());
        assert!(id.to_string().replace('-', "").parse::<Jti>().is_err());
        let json = |text: String| serde_json::from_value::<Jti>(text.into());
        assert_eq!(json(id.to_string()).unwrap(), id);
        assert!(json(id.to_string().to_uppercase()).is_err());
        assert!(json(format!("urn:uuid:{id}")).is_err());
    }

    #[test]
    fn an_error_shows_no_control_characters() {
        let error = "a\n\u{1b}[31m".parse::<Name>().unwrap_err().to_string();
        assert!(error.starts_with("`a??[31m`"), "{error}");
    }
}
