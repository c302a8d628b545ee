//! Who asks something of the admin API: an account of this machine over the Unix socket, or an administrator over HTTPS.

use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;

use super::api::{RefusalCode, Refused};
use super::socket::Peer;
use crate::configuration::apply::word::Word;
use crate::domain::ids::Name;
use crate::domain::objects::Role;
use crate::introspection::operator::Operator;

/// Who asks.
#[derive(Clone, Debug)]
pub enum Asker {
    /// Whoever may open the socket.
    Account(Peer),
    /// Whoever has shown a token that the route takes.
    Operator(Arc<Operator>),
}

impl Asker {
    /// As the log names them.
    pub fn account(&self) -> String {
        match self {
            Self::Account(peer) => peer.account(),
            Self::Operator(operator) => operator.account(),
        }
    }

    /// On their word the configuration is changed: only a person proposes what takes two.
    pub fn word(&self) -> Word {
        match self {
            Self::Account(_) => Word::from(&self.account()),
            Self::Operator(_) => Word::of_administrator(self.account()),
        }
    }

    /// The one tenant whose approvals they may see; none for all of them. Who approves is of a tenant, and sees no other's (L10).
    pub fn only_tenant(&self) -> Option<&Name> {
        match self {
            Self::Operator(operator) if operator.role == Role::Approve => Some(&operator.tenant),
            Self::Operator(_) | Self::Account(_) => None,
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Asker {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        if let Some(operator) = parts.extensions.get::<Arc<Operator>>() {
            return Ok(Self::Operator(operator.clone()));
        }
        let peer = parts.extensions.get::<ConnectInfo<Peer>>().map(|ConnectInfo(peer)| *peer);
        let nobody = || Refused::new(RefusalCode::InvalidToken, "nobody is known to ask");
        peer.map(Self::Account).ok_or_else(nobody)
    }
}
