//! The provider examples of `examples/issuers` as they stand, with tokens shaped like those of the products: what is
//! accepted, and what else such a provider signs that is not.
//!
//! Only two things are put in: where the keys are, and the hash of a secret that the test knows.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};
use taskgrant::clock::{Clock as _, SystemClock};
use taskgrant::keys::signing::KeySpec;

use crate::support::idp::{Idp, bend};
use crate::support::process::{Process, Site};
use crate::support::server::{secret, sha256};

const AGENT: &str = "support-assistant";
const EXAMPLE_HASH: &str = "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752";

/// A server with one provider's example in force.
struct Deployment {
    site: Site,
    _server: Process,
    provider: Idp,
    recorded: Value,
}

fn example(path: &str) -> String {
    fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples").join(path)).unwrap()
}

impl Deployment {
    async fn of(name: &str) -> Self {
        let (site, provider) = (Site::new().await, Idp::start_with(KeySpec::Rsa2048).await);
        let server = site.start().await;
        let yaml = example(&format!("issuers/{name}.yaml"));
        let at = yaml.find("\n  accept:").unwrap();
        let keys = format!("\n  jwks_uri: {}/jwks", provider.issuer);
        let yaml =
            format!("{}{keys}{}", &yaml[..at], &yaml[at..]).replace(EXAMPLE_HASH, &sha256(&secret(AGENT)));
        fs::write(site.path("issuer.yaml"), yaml).unwrap();
        fs::write(site.path("acme.yaml"), example("objects/acme.yaml")).unwrap();
        let (status, text) = site.told(&["apply", "-f", "acme.yaml", "-f", "issuer.yaml"]).await;
        assert_eq!(status, 0, "{text}");
        let claims = example(&format!("issuers/{name}.claims.json"));
        fs::write(site.path("claims.json"), &claims).unwrap();
        let recorded = serde_json::from_str(&claims).unwrap();
        Self { site, _server: server, provider, recorded }
    }

    /// What `config check --as` says of the recorded claims with members replaced.
    async fn foreseen(&self, with: Value) -> (i32, Value) {
        fs::write(self.site.path("claims.json"), bend(self.recorded.clone(), with).to_string()).unwrap();
        let files =
            ["-f", "acme.yaml", "-f", "issuer.yaml", "--as", "claims.json", "--task-type", "refund_order"];
        let (status, text) = self.site.told(&[&["config", "check", "--json"][..], &files].concat()).await;
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// The answer for the recorded claims, issued just now, with members replaced (`null` removes one).
    async fn answer(&self, typ: &str, with: Value, form: &[(&str, &str)]) -> Value {
        let now = SystemClock.now().timestamp();
        let fresh = ["iat", "nbf", "auth_time"].into_iter().filter(|date| self.recorded.get(date).is_some());
        let mut dates: Value =
            fresh.map(|date| (date.to_owned(), json!(now - 5))).collect::<serde_json::Map<_, _>>().into();
        dates["exp"] = json!(now + 300);
        let claims = bend(bend(self.recorded.clone(), dates), with);
        self.site.exchange_session((AGENT, &secret(AGENT)), &self.provider.sign(typ, &claims), form).await
    }

    async fn granted(&self, typ: &str, with: Value, scope: &str) {
        let (status, foreseen) = self.foreseen(with.clone()).await;
        let scopes: Vec<&str> = scope.split(' ').collect();
        assert_eq!((status, &foreseen["intersection"]["scopes"]), (0, &json!(scopes)), "{foreseen:#}");
        let answer = self.answer(typ, with, &[("scope", scope)]).await;
        assert_eq!(answer["scope"], scope, "{answer}");
        assert!(answer["access_token"].is_string(), "{answer}");
    }

    async fn refused(&self, typ: &str, with: Value, reason_code: &str) {
        let answer = self.answer(typ, with.clone(), &[]).await;
        assert_eq!(answer["reason_code"], reason_code, "{with}: {answer}");
    }

    /// Refused since the principal may delegate nothing, or not that.
    async fn not_entitled(&self, with: Value, scope: &str) {
        let (_, foreseen) = self.foreseen(with.clone()).await;
        let scopes = foreseen["intersection"]["scopes"].as_array().unwrap_or_else(|| panic!("{foreseen:#}"));
        assert!(scope.split(' ').any(|asked| !scopes.contains(&json!(asked))), "{foreseen:#}");
        let answer = self.answer("JWT", with.clone(), &[("scope", scope)]).await;
        assert_eq!(answer["ceiling"], "entitlement", "{with}: {answer}");
        assert!(answer.get("access_token").is_none());
    }
}

const BOTH: &str = "orders:read refunds:write";

#[tokio::test]
async fn t04_t18_keycloak_access_tokens_of_the_realm_and_the_application_and_nothing_else() {
    let keycloak = Deployment::of("keycloak").await;
    keycloak.granted("JWT", json!({}), BOTH).await;
    let clerk_no_more = json!({"realm_access": {"roles": ["default-roles-acme", "offline_access"]}});
    keycloak.granted("JWT", clerk_no_more.clone(), "orders:read").await;
    keycloak.not_entitled(clerk_no_more, BOTH).await;
    keycloak.not_entitled(json!({"realm_access": null, "groups": ["support"]}), "orders:read").await;

    let id_token = json!({"typ": "ID", "at_hash": "c3VwcG9ydC1kZXNrLWF0", "nonce": "n-0S6", "scope": null});
    keycloak.refused("JWT", id_token.clone(), "subject_token_wrong_type").await;
    keycloak.refused("JWT", bend(id_token, json!({"aud": "support-desk"})), "subject_token_audience").await;
    keycloak.refused("JWT", json!({"typ": "Refresh"}), "subject_token_wrong_type").await;
    keycloak.refused("JWT", json!({"typ": "Offline"}), "subject_token_wrong_type").await;
    let logout =
        json!({"typ": "Logout", "events": {"http://schemas.openid.net/event/backchannel-logout": {}}});
    keycloak.refused("JWT", logout.clone(), "subject_token_not_a_session_token").await;
    keycloak.refused("logout+jwt", logout, "subject_token_not_a_session_token").await;
    keycloak.refused("JWT", json!({"aud": "account"}), "subject_token_audience").await;
    keycloak.refused("JWT", json!({"azp": "warehouse"}), "subject_token_not_yours").await;
    let (status, foreseen) = keycloak.foreseen(json!({"azp": "warehouse"})).await;
    assert_eq!((status, &foreseen["agent"]["may_spend"]), (1, &json!(false)), "{foreseen:#}");
    for other in
        [json!({"typ": "ID"}), json!({"aud": "account"}), json!({"iss": "https://sso.acme.example/realms/x"})]
    {
        let (status, foreseen) = keycloak.foreseen(other).await;
        assert!(status == 1 && foreseen.as_str().is_some_and(|t| t.contains("start nothing")), "{foreseen}");
    }
    keycloak.foreseen(json!({})).await;
    let shown =
        ["-f", "acme.yaml", "-f", "issuer.yaml", "--as", "claims.json", "--task-type", "refund_order"];
    let (_, text) = keycloak.site.told(&[&["config", "check"][..], &shown].concat()).await;
    assert!(text.contains("agent         support-assistant may spend it\n"), "{text}");
    let rows: Vec<String> =
        text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert!(
        rows.contains(&"scope session entitlement task type delegation intersection".to_owned()),
        "{text}"
    );
    assert!(rows.contains(&"refunds:write . yes yes - yes".to_owned()), "{text}");
    let other_realm = json!({"iss": "https://sso.acme.example/realms/master"});
    keycloak.refused("JWT", other_realm, "subject_token_unknown_issuer").await;
    let bound = json!({"cnf": {"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}});
    keycloak.refused("JWT", bound, "subject_token_sender_constrained").await;
    // A lightweight access token has no `sub` unless a mapper adds it.
    keycloak.refused("JWT", json!({"sub": null}), "subject_token_malformed").await;
}

#[tokio::test]
async fn t04_t42_auth0_access_tokens_of_the_organization_under_both_profiles() {
    let auth0 = Deployment::of("auth0").await;
    auth0.granted("JWT", json!({}), BOTH).await;
    let rfc_9068 = json!({"azp": null, "client_id": "Zl2mKq8x9aVb3Tn5Rw7Yc1Df4Gh6Jk0P", "jti": "73WakrfVbNJBaAmhQtEeDv"});
    auth0.granted("at+jwt", rfc_9068, BOTH).await;
    auth0.granted("JWT", json!({"permissions": null}), "orders:read").await;
    auth0.not_entitled(json!({"permissions": ["orders:read"]}), BOTH).await;
    auth0.not_entitled(json!({"permissions": [], "https://acme.example/groups": null}), "orders:read").await;

    let id_token = json!({"aud": "Zl2mKq8x9aVb3Tn5Rw7Yc1Df4Gh6Jk0P", "azp": null, "scope": null, "nonce": "n-0S6", "sid": "s1"});
    auth0.refused("JWT", id_token, "subject_token_audience").await;
    auth0
        .refused("JWT", json!({"aud": "https://acme.eu.auth0.com/userinfo"}), "subject_token_audience")
        .await;
    let machine = "q7RtYw2Zx5Cv8Bn1Mk4Lj6Hg3Fd0Sa9P";
    let of_a_machine = json!({
        "sub": format!("{machine}@clients"), "azp": machine, "gty": "client-credentials",
        "aud": "https://taskgrant.acme.example", "https://acme.example/groups": null,
    });
    auth0.refused("JWT", of_a_machine, "subject_token_not_yours").await;
    auth0.refused("JWT", json!({"org_name": "globex", "org_id": "org_Zb4"}), "subject_token_tenant").await;
    auth0.refused("JWT", json!({"org_name": null, "org_id": null}), "subject_token_tenant").await;
    auth0.refused("JWT", json!({"iss": "https://acme.eu.auth0.com"}), "subject_token_unknown_issuer").await;
    auth0.refused("JWT", json!({"iss": "https://other.eu.auth0.com/"}), "subject_token_unknown_issuer").await;
}

#[tokio::test]
async fn t04_t42_entra_access_tokens_of_the_directory_and_groups_that_did_not_fit() {
    let entra = Deployment::of("entra").await;
    entra.granted("JWT", json!({}), BOTH).await;
    entra.granted("JWT", json!({"roles": null}), "orders:read").await;
    let graph =
        "https://graph.windows.net/8f2c4f5e-6b1a-4d0c-9e57-0d3a9f7b1c22/users/6e4b0d1f/getMemberObjects";
    let overage = json!({
        "groups": null, "_claim_names": {"groups": "src1"}, "_claim_sources": {"src1": {"endpoint": graph}},
    });
    entra.granted("JWT", overage.clone(), BOTH).await;
    let mut and_no_role = overage;
    and_no_role["roles"] = Value::Null;
    entra.not_entitled(and_no_role, "orders:read").await;
    entra.not_entitled(json!({"groups": null, "roles": null, "hasgroups": true}), "orders:read").await;

    let version_1 =
        json!({"iss": "https://sts.windows.net/8f2c4f5e-6b1a-4d0c-9e57-0d3a9f7b1c22/", "ver": "1.0"});
    entra.refused("JWT", version_1, "subject_token_unknown_issuer").await;
    let other = "11d2b6d0-3c1e-4c58-a1b7-52f0e8c9d6aa";
    let other_directory =
        json!({"iss": format!("https://login.microsoftonline.com/{other}/v2.0"), "tid": other});
    entra.refused("JWT", other_directory, "subject_token_unknown_issuer").await;
    entra
        .refused("JWT", json!({"aud": "00000003-0000-0000-c000-000000000000"}), "subject_token_audience")
        .await;
    // Where the application is its own API, an ID token has the same audience and header: only `azp` tells.
    let id_token = json!({"azp": null, "azpacr": null, "scp": null, "nonce": "n-0S6"});
    entra.refused("JWT", id_token, "subject_token_not_yours").await;
    let daemon =
        json!({"azp": "c2a5f0e1-7d3b-4b64-8a92-1f6e0d9c5b38", "azpacr": "1", "idtyp": "app", "scp": null});
    entra.refused("JWT", daemon, "subject_token_not_yours").await;
}
