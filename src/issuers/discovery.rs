//! Where an issuer's keys are: OpenID Connect Discovery 1.0, else RFC 8414.

use std::future::Future;
use std::pin::Pin;

use openidconnect::core::CoreProviderMetadata;
use openidconnect::http::header::CONTENT_TYPE;
use openidconnect::url::Url;
use openidconnect::{AsyncHttpClient, DiscoveryError, HttpRequest, HttpResponse, IssuerUrl};
use serde::Deserialize;
use thiserror::Error;

use super::outbound::{FetchFault, Fetched, Outbound};
use crate::domain::ids::shown;

/// Why the keys' address is not known.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DiscoveryFault {
    /// The metadata could not be fetched.
    #[error("discovery: {0}")]
    Fetch(#[from] FetchFault),
    /// The issuer is not a URL that metadata can be looked for at.
    #[error("discovery: the issuer is not a URL without query and fragment; set `jwks_uri`")]
    BadIssuer,
    /// Not JSON, or a required member is missing.
    #[error("discovery: the metadata is malformed: {0}")]
    Malformed(String),
    /// The metadata is of another issuer (RFC 8414 §3.3).
    #[error("discovery: the metadata names the issuer `{0}`, not this one, character by character")]
    OtherIssuer(String),
}

/// Finds the `jwks_uri` of `issuer`, whose metadata must name it exactly [JW-05]. RFC 8414 is asked when OpenID
/// Connect discovery answers 404, as a server without OpenID Connect does.
pub async fn jwks_uri(outbound: &Outbound, issuer: &str) -> Result<String, DiscoveryFault> {
    let url = IssuerUrl::new(issuer.to_owned()).map_err(|_| DiscoveryFault::BadIssuer)?;
    if url.url().query().is_some() || url.url().fragment().is_some() {
        return Err(DiscoveryFault::BadIssuer);
    }
    match openid(outbound, url.clone()).await {
        Err(DiscoveryFault::Fetch(FetchFault::Status(404))) => oauth(outbound, &url).await,
        answered => answered,
    }
}

async fn openid(outbound: &Outbound, issuer: IssuerUrl) -> Result<String, DiscoveryFault> {
    let wanted = issuer.as_str().to_owned();
    match CoreProviderMetadata::discover_async(issuer, &MetadataClient(outbound.clone())).await {
        Ok(metadata) if metadata.issuer().as_str() == wanted => Ok(metadata.jwks_uri().as_str().to_owned()),
        Ok(metadata) => Err(DiscoveryFault::OtherIssuer(shown(metadata.issuer().as_str()))),
        Err(DiscoveryError::Request(fault)) => Err(fault.into()),
        Err(DiscoveryError::Parse(error)) => Err(DiscoveryFault::Malformed(shown(&error.to_string()))),
        // Only the comparison of issuers is validated; the text quotes first the one that was found.
        Err(DiscoveryError::Validation(why)) => {
            Err(DiscoveryFault::OtherIssuer(shown(why.split('`').nth(1).unwrap_or(&why))))
        }
        Err(error) => Err(DiscoveryFault::Malformed(shown(&error.to_string()))),
    }
}

/// Metadata of an authorization server without OpenID Connect (RFC 8414 §2), as far as it matters here.
#[derive(Deserialize)]
struct ServerMetadata {
    issuer: String,
    jwks_uri: String,
}

async fn oauth(outbound: &Outbound, issuer: &IssuerUrl) -> Result<String, DiscoveryFault> {
    let fetched = outbound.get(&well_known(issuer.url())).await?;
    let metadata: ServerMetadata = serde_json::from_slice(&fetched.body)
        .map_err(|error| DiscoveryFault::Malformed(shown(&error.to_string())))?;
    if metadata.issuer == issuer.as_str() {
        Ok(metadata.jwks_uri)
    } else {
        Err(DiscoveryFault::OtherIssuer(shown(&metadata.issuer)))
    }
}

/// The well-known part stands between host and path, and a final slash goes (RFC 8414 §3.1) [MD-01].
fn well_known(issuer: &Url) -> String {
    let mut url = issuer.clone();
    let path = format!("/.well-known/oauth-authorization-server{}", issuer.path().trim_end_matches('/'));
    url.set_path(&path);
    url.into()
}

/// The guarded client as `openidconnect` wants it, for one discovery.
///
/// The crate goes on to fetch the key set, and would read it by rules of its own. Keys are read by `keys::jwks` and
/// nobody else, so that second request is answered here with an empty set and connects nowhere.
struct MetadataClient(Outbound);

impl<'c> AsyncHttpClient<'c> for MetadataClient {
    type Error = FetchFault;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, FetchFault>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(async move {
            let url = request.uri().to_string();
            if !url.ends_with("/.well-known/openid-configuration") {
                return Ok(HttpResponse::new(br#"{"keys":[]}"#.to_vec()));
            }
            respond(self.0.get(&url).await?)
        })
    }
}

fn respond(fetched: Fetched) -> Result<HttpResponse, FetchFault> {
    let mut response = openidconnect::http::Response::builder();
    if let Some(content_type) = fetched.content_type {
        response = response.header(CONTENT_TYPE, content_type);
    }
    response.body(fetched.body).map_err(|_| FetchFault::BrokenOff)
}

#[cfg(test)]
#[path = "discovery_tests.rs"]
mod tests;
