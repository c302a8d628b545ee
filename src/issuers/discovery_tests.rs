use serde_json::{Value, json};

use super::super::testing::{Reply, Site, bend, dev_client};
use super::*;

const OIDC: &str = "/.well-known/openid-configuration";
const OAUTH: &str = "/.well-known/oauth-authorization-server";

fn metadata(issuer: &str, jwks_uri: &str) -> Value {
    json!({
        "issuer": issuer,
        "jwks_uri": jwks_uri,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256", "ES256"],
    })
}

#[tokio::test]
async fn openid_discovery_gives_the_key_set_and_does_not_fetch_it() {
    let site = Site::start().await;
    site.set(OIDC, Reply::json(&metadata(&site.url(""), &site.url("/jwks"))));
    assert_eq!(jwks_uri(&dev_client(), &site.url("")).await, Ok(site.url("/jwks")));
    assert_eq!((site.hits(OIDC), site.connections()), (1, 1));
}

#[tokio::test]
async fn md_01_a_server_without_openid_is_found_by_rfc_8414() {
    let site = Site::start().await;
    for (issuer, path) in [("", ""), ("/", ""), ("/t/one", "/t/one"), ("/t/one/", "/t/one")] {
        let issuer = site.url(issuer);
        let reply = json!({"issuer": issuer, "jwks_uri": site.url("/keys")});
        site.set(&format!("{OAUTH}{path}"), Reply::json(&reply));
        assert_eq!(jwks_uri(&dev_client(), &issuer).await, Ok(site.url("/keys")), "{issuer}");
    }
}

#[tokio::test]
async fn only_404_leads_on_to_rfc_8414() {
    let site = Site::start().await;
    site.set(OAUTH, Reply::json(&json!({"issuer": site.url(""), "jwks_uri": site.url("/keys")})));
    for (reply, fault) in [
        (Reply::new(500, "", ""), FetchFault::Status(500)),
        (Reply::new(302, "location: /elsewhere\r\n", ""), FetchFault::Redirect),
    ] {
        site.set(OIDC, reply);
        assert_eq!(jwks_uri(&dev_client(), &site.url("")).await, Err(DiscoveryFault::Fetch(fault)));
    }
    assert_eq!(site.hits(OAUTH), 0);
}

#[tokio::test]
async fn jw_05_metadata_of_another_issuer_is_refused() {
    let site = Site::start().await;
    let issuer = site.url("");
    for other in [format!("{issuer}/"), issuer.replace("http", "HTTP"), "https://idp.example".to_owned()] {
        site.set(OIDC, Reply::json(&metadata(&other, &site.url("/jwks"))));
        let fault = jwks_uri(&dev_client(), &issuer).await.unwrap_err();
        assert!(matches!(fault, DiscoveryFault::OtherIssuer(_)), "{other}: {fault}");
    }
    site.set(OIDC, Reply::new(404, "", ""));
    site.set(OAUTH, Reply::json(&json!({"issuer": format!("{issuer}/"), "jwks_uri": site.url("/jwks")})));
    let fault = jwks_uri(&dev_client(), &issuer).await.unwrap_err();
    assert!(matches!(fault, DiscoveryFault::OtherIssuer(_)), "{fault}");
}

#[tokio::test]
async fn malformed_metadata_is_refused() {
    let site = Site::start().await;
    let good = metadata(&site.url(""), &site.url("/jwks"));
    let html = Reply::new(200, "content-type: text/html\r\n", &good.to_string());
    let not_json = Reply::new(200, "content-type: application/json\r\n", "<html>");
    let no_keys = Reply::json(&bend(good.clone(), &json!({"jwks_uri": null})));
    let no_url = Reply::json(&bend(good, &json!({"jwks_uri": "keys"})));
    for reply in [html, not_json, no_keys, no_url] {
        site.set(OIDC, reply);
        let fault = jwks_uri(&dev_client(), &site.url("")).await.unwrap_err();
        assert!(matches!(fault, DiscoveryFault::Malformed(_)), "{fault}");
    }
}

#[tokio::test]
async fn an_issuer_with_query_or_fragment_or_no_url_has_no_metadata() {
    for issuer in ["https://idp.example?x=1", "https://idp.example#x", "idp", ""] {
        assert_eq!(jwks_uri(&dev_client(), issuer).await, Err(DiscoveryFault::BadIssuer), "{issuer}");
    }
}
