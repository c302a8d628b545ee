//! The trusted issuers, reached as the server reaches them (T37), and what time it is there.

use chrono::{DateTime, Utc};

use super::Line;
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::objects::{Object, Spec};
use crate::issuers::discovery::jwks_uri;
use crate::issuers::outbound::{Fetched, Outbound, OutboundPolicy};
use crate::issuers::session::LEEWAY;
use crate::keys::jwk::JwkFault;
use crate::keys::jwks::JwkSet;

/// Off by more than this is worth a look, in seconds: an answer takes a while, and `Date` has whole seconds.
const NOTABLE: i64 = 5;

pub(super) async fn issuers(config: &Config, objects: &[Object], clock: &dyn Clock) -> Vec<Line> {
    let outbound = Outbound::new(OutboundPolicy {
        allow_private: config.outbound.allow_private.clone(),
        allow_http_loopback: config.outbound.allow_http_loopback,
    });
    let outbound = match outbound {
        Ok(outbound) => outbound,
        Err(why) => return vec![Line::fail("issuer", why.to_string(), "see the TLS set-up of this machine")],
    };
    let mut lines = Vec::new();
    for object in objects {
        if let Some(source) = source(object) {
            lines.extend(issuer(&outbound, &source, clock).await);
        }
    }
    if lines.is_empty() {
        lines.push(Line::warn(
            "issuer",
            "no trusted issuer is in force",
            "declare one and `taskgrant apply`",
        ));
    }
    lines
}

/// Where an issuer's keys are.
struct Source<'a> {
    name: String,
    issuer: &'a str,
    jwks_uri: Option<&'a str>,
    parse: fn(&[u8]) -> Result<JwkSet, JwkFault>,
}

/// The keys of `object`, if it is an issuer whose keys are fetched.
fn source(object: &Object) -> Option<Source<'_>> {
    let name = object.id.to_string();
    match &object.spec {
        Spec::TrustedIssuer(spec) => {
            let (issuer, jwks_uri) = (spec.issuer.as_str(), spec.jwks_uri.as_deref());
            Some(Source { name, issuer, jwks_uri, parse: JwkSet::parse })
        }
        Spec::WorkloadIssuer(spec) if spec.jwks.is_none() => {
            let (issuer, jwks_uri) = (spec.issuer.as_str(), spec.jwks_uri.as_deref());
            Some(Source { name, issuer, jwks_uri, parse: JwkSet::parse_bundle })
        }
        Spec::WorkloadIssuer(_)
        | Spec::CertificateAuthority(_)
        | Spec::Tenant(_)
        | Spec::AuthorizationDetailType(_)
        | Spec::Resource(_)
        | Spec::Agent(_)
        | Spec::TaskType(_)
        | Spec::Exception(_)
        | Spec::Administrator(_) => None,
    }
}

async fn issuer(outbound: &Outbound, source: &Source<'_>, clock: &dyn Clock) -> Vec<Line> {
    let name = source.name.as_str();
    let uri = match source.jwks_uri {
        Some(uri) => Ok(uri.to_owned()),
        None => jwks_uri(outbound, source.issuer).await,
    };
    let failed = |why: String| {
        let remedy =
            "until it answers, tokens by keys not seen yet are refused: check URL, network and `[outbound]`";
        vec![Line::fail("issuer", format!("{name}: {why}"), remedy)]
    };
    let uri = match uri {
        Ok(uri) => uri,
        Err(why) => return failed(why.to_string()),
    };
    let fetched = match outbound.get(&uri).await {
        Ok(fetched) => fetched,
        Err(why) => return failed(format!("{uri}: {why}")),
    };
    let keys = match (source.parse)(&fetched.body) {
        Ok(set) if set.usable() == 0 => {
            let why = set.skipped().first().map_or_else(String::new, |skipped| format!(": {skipped}"));
            return failed(format!("{uri}: no usable key{why}"));
        }
        Ok(set) => set.usable(),
        Err(why) => return failed(format!("{uri}: {why}")),
    };
    vec![Line::ok("issuer", format!("{name}: {keys} usable keys at {uri}")), time(name, &fetched, clock)]
}

/// How far the issuer's clock is from ours: beyond the leeway its fresh tokens are refused.
fn time(name: &str, fetched: &Fetched, clock: &dyn Clock) -> Line {
    let date = fetched.date.as_deref().and_then(|date| DateTime::parse_from_rfc2822(date).ok());
    let Some(date) = date.map(|date| date.with_timezone(&Utc)) else {
        return Line::warn(
            "issuer clock",
            format!("{name}: its answer has no date"),
            "compare the clocks by hand",
        );
    };
    let skew = (date - clock.now()).num_seconds();
    let message = format!("{name}: {skew:+} s against this machine");
    let remedy = "synchronise the clocks (NTP): tokens from the future are refused";
    match skew.abs() {
        off if off > LEEWAY => Line::fail("issuer clock", message, remedy),
        off if off > NOTABLE => Line::warn("issuer clock", message, remedy),
        _ => Line::ok("issuer clock", message),
    }
}
