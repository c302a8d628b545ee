use serde_json::{Value, json};

use super::super::kind::OTHER_TYPS;
use super::super::testing::{OWN, bend};
use super::tests::{World, claims, id_claims};
use super::*;
use SessionTokenKind::{AccessToken, IdToken, Jwt};

#[tokio::test]
async fn typ_must_be_among_the_accepted_ones() {
    let world = World::new().await;
    for typ in [Some("at+jwt"), Some("AT+JWT"), Some("application/at+jwt"), Some("jwt"), None] {
        assert!(world.compact(&world.signer.sign(typ, &claims()), AccessToken).await.is_ok(), "{typ:?}");
    }
    for typ in ["", "x+jwt", "application/"] {
        let fault = world.compact(&world.signer.sign(Some(typ), &claims()), AccessToken).await.unwrap_err();
        assert!(matches!(fault, SessionFault::Typ(_)), "{typ}: {fault}");
    }
    let strict = json!({"accept": [{"type": "access_token", "audience": OWN}]});
    let world = World::with(&strict, &[]).await;
    for typ in [Some("JWT"), None] {
        let fault = world.compact(&world.signer.sign(typ, &claims()), AccessToken).await.unwrap_err();
        assert!(matches!(fault, SessionFault::Typ(_)), "{typ:?}: {fault}");
    }
}

#[tokio::test]
async fn jw_04_jwts_of_other_kinds_are_refused_whatever_the_settings_say() {
    let typs = [OTHER_TYPS.as_slice(), &["at+jwt"]].concat();
    let accept = json!([{"type": "access_token", "audience": OWN, "typ": typs}]);
    let world = World::with(&json!({"accept": accept}), &[]).await;
    for typ in OTHER_TYPS {
        for spelling in [typ.to_owned(), typ.to_uppercase(), format!("application/{typ}")] {
            let token = world.signer.sign(Some(&spelling), &claims());
            let fault = world.compact(&token, AccessToken).await.unwrap_err();
            assert!(matches!(fault, SessionFault::OtherTyp(_)), "{spelling}: {fault}");
        }
    }
    assert!(world.site.hits("/jwks") <= 1, "no fetch but the scheduled one");
    let logout = json!({"http://schemas.openid.net/event/backchannel-logout": {}});
    assert_eq!(world.fault(&json!({"events": logout})).await, SessionFault::OtherKind("events"));
    let introspected = json!({"token_introspection": {"active": true}});
    assert_eq!(world.fault(&introspected).await, SessionFault::OtherKind("token_introspection"));
    assert_eq!(world.fault(&json!({"status_list": {}})).await, SessionFault::OtherKind("status_list"));
}

#[tokio::test]
async fn t04_a_token_for_another_audience_is_refused() {
    let world = World::new().await;
    for aud in [json!("https://api.example"), json!(format!("{OWN}/")), json!([]), json!(["x", "y"])] {
        let fault = world.fault(&json!({"aud": aud})).await;
        assert!(matches!(fault, SessionFault::Audience | SessionFault::Malformed { .. }), "{aud}: {fault}");
    }
    for aud in [json!(7), json!([OWN, 7]), json!({"a": OWN}), json!([[OWN]])] {
        let fault = world.fault(&json!({"aud": aud})).await;
        assert!(matches!(fault, SessionFault::Malformed { claim: "aud", .. }), "{aud}: {fault}");
    }
    assert!(matches!(world.fault(&json!({"aud": null})).await, SessionFault::Malformed { claim: "aud", .. }));
    assert!(world.bent(&json!({"aud": ["https://api.example", OWN]})).await.is_ok());
}

#[tokio::test]
async fn t18_a_token_declared_as_another_type_is_refused() {
    let world = World::new().await;
    let (access, id) =
        (world.signer.sign(Some("JWT"), &claims()), world.signer.sign(Some("JWT"), &id_claims()));
    assert!(world.compact(&access, AccessToken).await.is_ok());
    assert!(world.compact(&id, IdToken).await.is_ok());
    for (token, declared) in [(&access, IdToken), (&access, Jwt), (&id, AccessToken), (&id, Jwt)] {
        let fault = world.compact(token, declared).await.unwrap_err();
        assert_eq!(fault, SessionFault::Kind(declared));
    }
    let jwt_only = json!({"accept": [{"type": "jwt", "audience": OWN, "typ": ["JWT"]}]});
    let world = World::with(&jwt_only, &[]).await;
    let token = world.signer.sign(Some("JWT"), &claims());
    assert!(world.compact(&token, Jwt).await.is_ok());
    assert_eq!(world.compact(&token, AccessToken).await.unwrap_err(), SessionFault::Kind(AccessToken));
}

#[tokio::test]
async fn t18_marks_of_another_kind_count_more_than_loose_settings() {
    let both = json!({"accept": [{"type": "access_token", "audience": "portal", "typ": ["JWT"]}]});
    let world = World::with(&both, &[]).await;
    for mark in
        [json!({"at_hash": "x"}), json!({"c_hash": "x"}), json!({"typ": "ID"}), json!({"token_use": "id"})]
    {
        let token = world.signer.sign(Some("JWT"), &bend(id_claims(), &mark));
        assert_eq!(world.compact(&token, AccessToken).await.unwrap_err(), SessionFault::Kind(AccessToken));
    }
    let only_id = json!({"accept": [{"type": "id_token", "audience": OWN, "typ": ["JWT", "at+jwt"]}]});
    let world = World::with(&only_id, &[]).await;
    for (typ, mark) in [
        ("at+jwt", json!({})),
        ("JWT", json!({"typ": "Bearer"})),
        ("JWT", json!({"token_use": "access"})),
        ("JWT", json!({"scope": "openid"})),
    ] {
        let token = world.signer.sign(Some(typ), &bend(claims(), &mark));
        assert_eq!(world.compact(&token, IdToken).await.unwrap_err(), SessionFault::Kind(IdToken), "{mark}");
    }
}

#[tokio::test]
async fn t18_a_refresh_token_signed_like_the_others_is_refused() {
    let world = World::new().await;
    for typ in ["Refresh", "Offline"] {
        assert_eq!(world.fault(&json!({"typ": typ})).await, SessionFault::Kind(AccessToken));
    }
}

#[tokio::test]
async fn t18_a_token_that_the_settings_call_two_things_is_refused() {
    let accept = json!([
        {"type": "access_token", "audience": OWN, "typ": ["JWT"]},
        {"type": "id_token", "audience": OWN, "typ": ["JWT"]},
    ]);
    let world = World::with(&json!({"accept": accept}), &[]).await;
    let token = world.signer.sign(Some("JWT"), &claims());
    for declared in [AccessToken, IdToken] {
        assert_eq!(world.compact(&token, declared).await.unwrap_err(), SessionFault::AmbiguousKind);
    }
    let world = World::new().await;
    let two = bend(claims(), &json!({"aud": [OWN, "portal"], "azp": "app"}));
    let fault = world.compact(&world.signer.sign(Some("JWT"), &two), IdToken).await.unwrap_err();
    assert_eq!(fault, SessionFault::AmbiguousKind);
}

#[tokio::test]
async fn t02_the_client_is_azp_else_client_id_and_they_must_agree() {
    let world = World::new().await;
    let client = async |patch: Value| world.bent(&patch).await.map(|s| s.client);
    assert_eq!(client(json!({"client_id": null, "azp": "web"})).await, Ok(Some("web".into())));
    assert_eq!(client(json!({"azp": "app"})).await, Ok(Some("app".into())));
    assert_eq!(client(json!({"client_id": null})).await, Ok(None));
    assert_eq!(client(json!({"azp": "web"})).await, Err(SessionFault::TwoClients));
    for azp in [json!(""), json!(1), json!(["app"]), json!("a\nb")] {
        let fault = world.fault(&json!({"azp": azp})).await;
        assert!(matches!(fault, SessionFault::Malformed { claim: "azp", .. }), "{azp}: {fault}");
    }
}

#[tokio::test]
async fn t04_an_id_token_for_several_audiences_needs_azp() {
    let world = World::new().await;
    let several = json!({"aud": ["portal", "shop"], "azp": null});
    assert_eq!(world.id_token(&several).await.unwrap_err(), SessionFault::NoAuthorizedParty);
    let named = world.id_token(&json!({"aud": ["portal", "shop"], "azp": "shop"})).await.unwrap();
    assert_eq!(named.client.as_deref(), Some("shop"));
    let alone = world.id_token(&json!({"azp": null})).await.unwrap();
    assert_eq!(alone.client.as_deref(), Some("portal"), "an ID token is issued to its audience");
}
