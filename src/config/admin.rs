//! The admin API over HTTPS: where it listens, and by which URL administrators reach it.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Config, ConfigFault, public_url_fault};
use crate::domain::proposal::TwoPersons;

/// The admin API over HTTPS, beside the Unix socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AdminConfig {
    /// Where it is served to administrators with a token: by `tls` where that is set, else in plain HTTP on loopback or behind
    /// `behind_proxy`; nowhere when left out.
    pub listen: Option<SocketAddr>,
    /// URL that administrators reach it by: https, or http on loopback, without a trailing slash. The metadata tell it, so that
    /// `taskgrant login` sends no token to a server that only says that it is this one; where it is left out, that is not proven.
    pub public_url: Option<String>,
    /// What takes two persons of different roles: `policy`, `widening`, `exceptions`, `administrators`; the last as soon as there is
    /// any other.
    pub two_persons: TwoPersons,
}

impl Config {
    pub(super) fn validate_admin(&self) -> Result<(), ConfigFault> {
        let refuse = |key, why: &str| Err(ConfigFault::Value { key, why: why.to_owned() });
        let admin = self.admin.listen;
        let open = self.behind_proxy.is_empty() && self.tls.files().is_none();
        if admin.is_some_and(|at| !at.ip().is_loopback() && open) {
            return refuse(
                "admin.listen",
                "beyond loopback needs `tls.cert` and `tls.key`, or `behind_proxy` with the addresses of proxies that end TLS",
            );
        }
        if admin.is_some_and(|at| at == self.listen && at.port() != 0) {
            return refuse("admin.listen", "is the address of the public endpoints: give it one of its own");
        }
        if let Some(why) = self.admin.public_url.as_deref().and_then(public_url_fault) {
            return refuse("admin.public_url", why);
        }
        if admin.is_none() && !self.admin.two_persons.is_empty() {
            return refuse(
                "admin.two_persons",
                "needs `admin.listen`: who proposes and who confirms prove who they are over HTTPS",
            );
        }
        Ok(())
    }
}
