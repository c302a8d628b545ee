//! Whether the provider can be reached as the server will reach it: discovery, then its keys.

use crate::issuers::discovery::{DiscoveryFault, jwks_uri};
use crate::issuers::outbound::{FetchFault, Outbound, OutboundPolicy};
use crate::keys::jwks::JwkSet;

/// What the provider publishes.
pub(super) struct Found {
    pub(super) jwks_uri: String,
    /// Number of keys that this server can use.
    pub(super) keys: usize,
}

/// Asks the provider, through the same guard as the server (T37).
pub(super) async fn ask(issuer: &str, policy: OutboundPolicy) -> Result<Found, String> {
    let outbound = Outbound::new(policy).map_err(|why| why.to_string())?;
    let uri = jwks_uri(&outbound, issuer).await.map_err(|why| told(issuer, &why))?;
    let fetched = outbound.get(&uri).await.map_err(|why| format!("the provider's keys at {uri}: {why}"))?;
    let keys = JwkSet::parse(&fetched.body).map_err(|why| format!("the provider's keys at {uri}: {why}"))?;
    match keys.keys().len() {
        0 => Err(format!("the provider's key set at {uri} has no key that this server can use")),
        usable => Ok(Found { jwks_uri: uri, keys: usable }),
    }
}

/// The fault with what would mend it.
fn told(issuer: &str, why: &DiscoveryFault) -> String {
    let remedy = match why {
        DiscoveryFault::OtherIssuer(named) => format!("give --issuer {named}"),
        DiscoveryFault::Fetch(FetchFault::NotPublic(_)) => {
            "if it is in your own network, name its host with --allow-private".to_owned()
        }
        DiscoveryFault::Fetch(FetchFault::NotHttps(_)) => {
            "for a trial on this machine there is --allow-http-loopback".to_owned()
        }
        DiscoveryFault::Fetch(_) | DiscoveryFault::BadIssuer | DiscoveryFault::Malformed(_) => {
            "check the URL; --offline writes the files without asking".to_owned()
        }
    };
    format!("the provider {issuer} does not answer as one: {why}\n  {remedy}")
}
