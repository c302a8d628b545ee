//! Client authentication (STANDARDS §6) and metadata (§5).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::server::{ACCESS_TOKEN, Answer, ORDERS, Server, TOKEN_EXCHANGE, encode, secret, sha256};

const FORM: &str = "application/x-www-form-urlencoded";

fn basic(credentials: &str) -> (String, String) {
    ("authorization".to_owned(), format!("Basic {}", STANDARD.encode(credentials)))
}

/// A good root exchange, authenticated as the caller of this says.
async fn exchange(server: &Server, headers: &[(String, String)], credentials: &[(&str, &str)]) -> Answer {
    let session = server.session(json!({}));
    let base = [
        ("grant_type", TOKEN_EXCHANGE),
        ("subject_token", session.as_str()),
        ("subject_token_type", ACCESS_TOKEN),
        ("task_type", "refund_order"),
        ("resource", ORDERS),
    ];
    server.send("/oauth/token", headers, encode(&[&base[..], credentials].concat()), FORM).await
}

#[tokio::test]
async fn ca_01_one_method_per_request_and_a_client_id_that_agrees() {
    let server = Server::start().await;
    let own = secret("support-agent");
    let good = [basic(&format!("support-agent:{own}"))];
    let assertion = ("client_assertion", "a.b.c");
    let kind = ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
    let id = ("client_id", "support-agent");
    for credentials in [
        vec![id, ("client_secret", own.as_str())],
        vec![("client_secret", own.as_str())],
        vec![assertion, kind],
        vec![("client_id", "worker-agent")],
    ] {
        let answer = exchange(&server, &good, &credentials).await;
        answer.refused(400, "invalid_request", "malformed_request");
    }
    let twice = [good[0].clone(), basic(&format!("worker-agent:{}", secret("worker-agent")))];
    exchange(&server, &twice, &[]).await.refused(400, "invalid_request", "malformed_request");
    let both = [id, ("client_secret", own.as_str()), assertion, kind];
    exchange(&server, &[], &both).await.refused(400, "invalid_request", "malformed_request");
    let repeated = [id, id, ("client_secret", own.as_str())];
    exchange(&server, &[], &repeated).await.refused(400, "invalid_request", "malformed_request");
    exchange(&server, &good, &[id]).await.token();
    exchange(&server, &[], &[id, ("client_secret", own.as_str())]).await.token();
}

#[tokio::test]
async fn ca_02_basic_credentials_are_form_encoded_before_base64() {
    let server = Server::start().await;
    let odd = "a:b%c+d e\u{e4}";
    server.reapply(&sha256(&secret("support-agent")), &sha256(odd)).await;
    let encoded = "a%3Ab%25c%2Bd+e%C3%A4";
    exchange(&server, &[basic(&format!("support-agent:{encoded}"))], &[]).await.token();
    exchange(&server, &[basic(&format!("%73upport%2Dagent:{encoded}"))], &[]).await.token();
    exchange(&server, &[], &[("client_id", "support-agent"), ("client_secret", odd)]).await.token();
    for raw in [odd, "a%3Ab%25c+d+e%C3%A4", "a%3Ab%25c%2Bd%2Be%C3%A4", "a%253Ab%2525c%252Bd%2Be%25C3%25A4"] {
        let answer = exchange(&server, &[basic(&format!("support-agent:{raw}"))], &[]).await;
        answer.refused(401, "invalid_client", "client_authentication_failed");
    }
}

#[tokio::test]
async fn ca_02_an_unknown_client_a_wrong_secret_and_a_disabled_agent_look_alike() {
    let server = Server::start().await;
    server.reapply("client_id: stranger-agent\n", "client_id: stranger-agent\n  disabled: true\n").await;
    let wrong = exchange(&server, &[basic("support-agent:tgs_wrong")], &[]).await;
    wrong.refused(401, "invalid_client", "client_authentication_failed");
    let disabled = basic(&format!("stranger-agent:{}", secret("stranger-agent")));
    for headers in [
        vec![disabled],
        vec![basic("nobody:tgs_wrong")],
        vec![basic("support-agent:")],
        vec![basic("support-agent")],
        vec![basic(":")],
        vec![basic(&format!("Support-Agent:{}", secret("support-agent")))],
        vec![("authorization".to_owned(), "Basic !!!".to_owned())],
        vec![],
    ] {
        let answer = exchange(&server, &headers, &[]).await;
        assert_eq!((answer.status, &answer.body), (401, &wrong.body), "{headers:?}");
        assert_eq!(answer.headers["www-authenticate"], wrong.headers["www-authenticate"]);
    }
}

#[tokio::test]
async fn ca_02_a_secret_in_the_query_is_not_looked_at() {
    let server = Server::start().await;
    let own = secret("support-agent");
    let query = encode(&[("client_id", "support-agent"), ("client_secret", &own)]);
    let session = server.session(json!({}));
    let form = [
        ("grant_type", TOKEN_EXCHANGE),
        ("subject_token", session.as_str()),
        ("subject_token_type", ACCESS_TOKEN),
    ];
    let answer = server.send(&format!("/oauth/token?{query}"), &[], encode(&form), FORM).await;
    answer.refused(401, "invalid_client", "client_authentication_failed");
}

#[tokio::test]
async fn a_resource_is_a_client_that_may_not_exchange() {
    let server = Server::start().await;
    let answer = server.exchange("orders-api", &server.session(json!({})), &[("resource", ORDERS)]).await;
    answer.refused(400, "unauthorized_client", "client_is_no_agent");
    assert_eq!(server.decision(&answer).await.record["reasons"][0]["code"], "client_is_no_agent");
}

fn check_metadata(document: &Value, issuer: &str) {
    assert_eq!(document["issuer"], issuer);
    for (member, path) in [
        ("token_endpoint", "/oauth/token"),
        ("jwks_uri", "/oauth/jwks"),
        ("introspection_endpoint", "/oauth/introspect"),
        ("revocation_endpoint", "/oauth/revoke"),
    ] {
        assert_eq!(document[member], format!("{issuer}{path}"));
    }
    assert_eq!(
        document["grant_types_supported"],
        json!([TOKEN_EXCHANGE, "urn:ietf:params:oauth:grant-type:deferred"])
    );
    let methods = json!(["client_secret_basic", "client_secret_post", "private_key_jwt", "spiffe_jwt"]);
    for endpoint in ["token", "introspection", "revocation"] {
        assert_eq!(document[format!("{endpoint}_endpoint_auth_methods_supported")], methods);
        let algorithms =
            document[format!("{endpoint}_endpoint_auth_signing_alg_values_supported")].as_array();
        let algorithms: Vec<&str> = algorithms.unwrap().iter().filter_map(Value::as_str).collect();
        assert!(
            algorithms.contains(&"ES256") && algorithms.contains(&"RS256"),
            "RFC 8414: required with private_key_jwt"
        );
        assert!(algorithms.iter().all(|name| *name != "none" && !name.starts_with("HS")), "{algorithms:?}");
    }
}

#[tokio::test]
async fn md_01_metadata_is_served_where_clients_look_for_it() {
    let server = Server::start().await;
    for path in ["/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"] {
        let answer = server.get(path, &[]).await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.headers["content-type"].starts_with("application/json"));
        check_metadata(&answer.body, &server.issuer);
    }
    let jwks = server.get("/oauth/jwks", &[]).await;
    for key in jwks.body["keys"].as_array().unwrap() {
        assert!(key.get("d").is_none(), "a private member is published");
        assert!(key["kid"].is_string() && key["alg"].is_string());
    }
}

#[tokio::test]
async fn md_01_with_a_path_in_the_issuer_the_path_comes_after_the_well_known_part() {
    let server = Server::start_at("/tenant1").await;
    let (origin, path) = server.issuer.split_at(server.issuer.len() - "/tenant1".len());
    assert_eq!(path, "/tenant1");
    for url in [
        format!("{origin}/.well-known/oauth-authorization-server/tenant1"),
        format!("{origin}/.well-known/openid-configuration/tenant1"),
        format!("{origin}/tenant1/.well-known/openid-configuration"),
    ] {
        let answer = server.get_url(&url).await;
        assert_eq!(answer.status, 200, "{url}");
        check_metadata(&answer.body, &server.issuer);
    }
    for url in ["/.well-known/oauth-authorization-server", "/oauth/token", "/oauth/jwks"] {
        assert_eq!(server.get_url(&format!("{origin}{url}")).await.status, 404, "{url}");
    }
    let root = server.root().await;
    assert_eq!(server.introspect("orders-api", &root).await.body["active"], true);
    assert_eq!(server.get("/oauth/jwks", &[]).await.status, 200);
}

#[tokio::test]
async fn md_02_there_is_no_authorization_endpoint_and_response_types_is_an_empty_array() {
    let server = Server::start().await;
    let document = server.get("/.well-known/oauth-authorization-server", &[]).await.body;
    assert_eq!(document["response_types_supported"], json!([]));
    assert!(document.get("authorization_endpoint").is_none());
    assert!(document.get("code_challenge_methods_supported").is_none());
}

#[tokio::test]
async fn md_03_ra_04_own_members_have_a_name_that_collides_with_none() {
    let server = Server::start().await;
    let document = server.get("/.well-known/oauth-authorization-server", &[]).await.body;
    let subject = document["taskgrant_subject_token_types_supported"].as_array().unwrap();
    assert!(subject.contains(&json!(ACCESS_TOKEN)));
    assert_eq!(document["taskgrant_requested_token_types_supported"], json!([ACCESS_TOKEN]));
    assert_eq!(document["authorization_details_types_supported"], json!(["tool_call"]));
    let standard = [
        "issuer",
        "token_endpoint",
        "jwks_uri",
        "scopes_supported",
        "grant_types_supported",
        "response_types_supported",
        "authorization_details_types_supported",
        "status_list_aggregation_endpoint",
    ];
    for member in document.as_object().unwrap().keys() {
        let known = standard.contains(&member.as_str())
            || member.starts_with("taskgrant_")
            || ["token_", "introspection_", "revocation_"].iter().any(|p| member.starts_with(p));
        assert!(known, "{member}");
    }
}
