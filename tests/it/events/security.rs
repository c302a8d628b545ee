//! Security event tokens: subjects, delivery, and whatever else comes to the endpoint.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{
    BOTH, REVOKED, STREAM, accepted, complex, hear_by, hearing, is_active, log_out, log_out_with, logged_out,
    logout_claims, opaque, push, push_with, refused_event, revoked_claims, root_with, user,
};
use crate::support::idp::{bend, claims, compact};
use crate::support::server::{Server, sha256};
use crate::support::signer::Signer;

#[tokio::test]
async fn se_01_whose_sessions_end_is_told_by_the_subject() {
    let server = hearing(BOTH).await;
    let iss = server.idp.issuer.clone();
    let tokens = async || {
        let session = async |sub: &str, sid: Value| {
            root_with(&server, json!({"sub": sub, "sid": sid, "auth_time": server.now() - 1})).await
        };
        [
            session("alice", json!("one")).await,
            session("alice", json!("two")).await,
            session("alice", Value::Null).await,
            session("bob", json!("three")).await,
        ]
    };
    let all = [("tenant", opaque("acme")), ("device", opaque("phone"))];
    let with_all = |members: Value| all.iter().fold(complex(members), |c, (k, v)| bend(c, json!({*k: v})));
    for (subject, dead) in [
        (user(&iss, "alice"), [true, true, true, false]),
        (complex(json!({"user": user(&iss, "alice")})), [true, true, true, false]),
        (with_all(json!({"user": user(&iss, "alice")})), [true, true, true, false]),
        (complex(json!({"session": opaque("one")})), [true, false, false, false]),
        (
            with_all(json!({"session": opaque("two"), "user": user(&iss, "alice")})),
            [false, true, true, false],
        ),
        (
            complex(
                json!({"session": opaque("two"), "user": {"format": "email", "email": "alice@acme.example"}}),
            ),
            [false, true, false, false],
        ),
    ] {
        let live = tokens().await;
        accepted(&push_with(&server, json!({"sub_id": subject})).await);
        for (token, dead) in live.iter().zip(dead) {
            assert_eq!(is_active(&server, token).await, !dead, "{subject}");
        }
        server.clock.shift(10);
        // What was named is over for good: each turn has sessions of its own.
        server.sql("DELETE FROM revocations").await;
    }
}

#[tokio::test]
async fn se_01_a_subject_that_names_no_session_here_ends_nothing() {
    let server = hearing(BOTH).await;
    let iss = server.idp.issuer.clone();
    let live =
        [root_with(&server, json!({"sid": "one"})).await, root_with(&server, json!({"sid": null})).await];
    for subject in [
        opaque("one"),
        json!({"format": "jwt_id", "iss": iss, "jti": claims(&live[0])["jti"]}),
        json!({"format": "email", "email": "alice@acme.example"}),
        json!({"format": "iss_sub", "iss": iss}),
        json!({"format": "iss_sub", "sub": "alice"}),
        user("https://elsewhere.example", "alice"),
        complex(json!({"tenant": opaque("acme")})),
        complex(json!({"user": user("https://elsewhere.example", "alice"), "session": opaque("one")})),
        complex(json!({"user": {"format": "email", "email": "alice@acme.example"}})),
        complex(json!({"session": "one"})),
        complex(json!({"session": {"id": "one"}})),
        json!({"iss": iss, "sub": "alice"}),
        json!("alice"),
        Value::Null,
    ] {
        refused_event(&push_with(&server, json!({"sub_id": subject})).await, "invalid_request");
    }
    for token in &live {
        assert!(is_active(&server, token).await);
    }
}

#[tokio::test]
async fn se_01_an_opaque_subject_is_what_the_issuer_declares_it_to_be() {
    for (opaque, dead) in [("session", [true, false]), ("principal", [false, true])] {
        let server = hearing(&format!("{{caep: {{audience: '{STREAM}', opaque: {opaque}}}}}")).await;
        let by_sid = root_with(&server, json!({"sub": "bob", "sid": "x"})).await;
        let by_sub = root_with(&server, json!({"sub": "x", "sid": "sid-2"})).await;
        accepted(&push_with(&server, json!({"sub_id": {"format": "opaque", "id": "x"}})).await);
        assert_eq!([is_active(&server, &by_sid).await, is_active(&server, &by_sub).await], dead.map(|d| !d));
    }
}

#[tokio::test]
async fn se_01_se_04_an_event_that_breaks_a_rule_ends_nothing() {
    let server = hearing(BOTH).await;
    let root = root_with(&server, json!({})).await;
    let now = server.now();
    for (with, err) in [
        (json!({"iss": "https://elsewhere.example"}), "invalid_issuer"),
        (json!({"iss": null}), "invalid_issuer"),
        (json!({"aud": "https://other.example"}), "invalid_audience"),
        (json!({"aud": null}), "invalid_audience"),
        (json!({"aud": [format!("{STREAM}/")]}), "invalid_audience"),
        (json!({"sub": "alice"}), "invalid_request"),
        (json!({"exp": now + 600}), "invalid_request"),
        (json!({"nonce": "n"}), "invalid_request"),
        (json!({"jti": null}), "invalid_request"),
        (json!({"iat": null}), "invalid_request"),
        (json!({"iat": "now"}), "invalid_request"),
        (json!({"iat": now + 90}), "invalid_request"),
        (json!({"events": null}), "invalid_request"),
        (json!({"events": {}}), "invalid_request"),
        (json!({"events": {REVOKED: true}}), "invalid_request"),
        (json!({"events": [REVOKED]}), "invalid_request"),
    ] {
        refused_event(&push_with(&server, with).await, err);
    }
    let good = revoked_claims(&server);
    let stranger = Signer::new("raw-key");
    for (err, token) in [
        ("invalid_request", server.idp.sign("JWT", &good)),
        ("invalid_request", server.idp.sign("at+jwt", &good)),
        ("invalid_request", server.idp.sign("logout+jwt", &good)),
        (
            "invalid_request",
            server.idp.signer.sign(bend(server.idp.signer.header("x"), json!({"typ": null})), &good),
        ),
        ("invalid_request", compact(&json!({"alg": "none", "typ": "secevent+jwt"}), &good, "")),
        ("invalid_key", stranger.sign(stranger.header("secevent+jwt"), &good)),
        ("invalid_key", {
            let unknown = Signer::new("never-published");
            unknown.sign(unknown.header("secevent+jwt"), &good)
        }),
        ("invalid_request", "{\"events\": {}}".to_owned()),
        ("invalid_request", String::new()),
        ("invalid_request", format!("{}\n", server.idp.sign("secevent+jwt", &good))),
    ] {
        refused_event(&push(&server, &token).await, err);
    }
    let set = server.idp.sign("secevent+jwt", &good);
    for media_type in ["application/jwt", "application/json", "application/x-www-form-urlencoded", ""] {
        refused_event(&server.send("/events", &[], set.clone(), media_type).await, "invalid_request");
    }
    server.get("/events", &[]).await.refused(405, "invalid_request", "method_not_allowed");
    assert!(is_active(&server, &root).await);
    accepted(&server.send("/events", &[], set, "Application/SecEvent+JWT; charset=utf-8").await);
    assert!(!is_active(&server, &root).await);
}

#[tokio::test]
async fn se_03_an_event_that_comes_again_is_accepted_and_acted_upon_once() {
    let server = hearing(BOTH).await;
    let set = server.idp.sign("secevent+jwt", &bend(revoked_claims(&server), json!({"aud": ["x", STREAM]})));
    accepted(&push(&server, &set).await);
    let (leaf, record) = server.last_decision().await;
    assert_eq!((&leaf["kind"], &leaf["outcome"]), (&json!("admin"), &json!("allow")));
    assert_eq!((&record["actor"], &record["principal"]["sub"]), (&json!(server.idp.issuer), &json!("alice")));
    assert_eq!(
        (&record["asked"]["event"], &record["asked"]["by"]),
        (&json!("session_ended"), &json!("admin"))
    );
    let before = server.decisions().await;
    for _ in 0..3 {
        accepted(&push(&server, &set).await);
    }
    let token = server.idp.sign("logout+jwt", &logout_claims(&server));
    logged_out(&log_out(&server, &token).await);
    logged_out(&log_out(&server, &token).await);
    assert_eq!(server.decisions().await, before + 1);
    let (server, mut at_once) = (Arc::new(server), JoinSet::new());
    let again = server.idp.sign("secevent+jwt", &revoked_claims(&server));
    for _ in 0..12 {
        let (server, again) = (server.clone(), again.clone());
        at_once.spawn(async move { push(&server, &again).await });
    }
    at_once.join_all().await.iter().for_each(accepted);
}

#[tokio::test]
async fn se_03_an_event_that_cannot_be_recorded_is_503_and_taken_when_it_comes_again() {
    let server = hearing(BOTH).await;
    let root = root_with(&server, json!({})).await;
    let set = server.idp.sign("secevent+jwt", &revoked_claims(&server));
    let token = server.idp.sign("logout+jwt", &logout_claims(&server));
    server.refuse_rows("revocations").await;
    for answer in [push(&server, &set).await, log_out(&server, &token).await] {
        answer.refused(503, "temporarily_unavailable", "not_recorded");
        assert_eq!(answer.headers["retry-after"], "1");
    }
    server.take_rows("revocations").await;
    assert!(is_active(&server, &root).await);
    accepted(&push(&server, &set).await);
    assert!(!is_active(&server, &root).await);
    logged_out(&log_out(&server, &token).await);
}

#[tokio::test]
async fn se_03_events_of_other_types_are_accepted_recorded_and_end_nothing() {
    let server = hearing(BOTH).await;
    let root = root_with(&server, json!({})).await;
    let verification =
        json!({"https://schemas.openid.net/secevent/ssf/event-type/verification": {"state": "x"}});
    for with in [
        json!({"events": {"https://schemas.openid.net/secevent/caep/event-type/credential-change": {}}}),
        json!({"events": verification, "sub_id": {"format": "opaque", "id": "stream-1"}}),
        json!({"events": {"urn:anything\u{1b}": {}}, "sub_id": null}),
    ] {
        let before = server.decisions().await;
        accepted(&push_with(&server, with.clone()).await);
        let (leaf, record) = server.last_decision().await;
        assert_eq!((server.decisions().await, &leaf["outcome"]), (before + 1, &json!("allow")), "{with}");
        assert_eq!(record["asked"]["event"], "other", "{with}");
    }
    assert!(is_active(&server, &root).await);
}

#[tokio::test]
async fn se_04_what_an_issuer_has_signed_and_is_refused_is_recorded_and_counted_and_the_rest_only_counted() {
    let server = hearing(BOTH).await;
    let before = server.decisions().await;
    let unmapped = json!({"sub_id": {"format": "opaque", "id": "x"}});
    let signed = server.idp.sign("secevent+jwt", &bend(revoked_claims(&server), unmapped));
    for _ in 0..3 {
        refused_event(&push(&server, &signed).await, "invalid_request");
    }
    let (leaf, record) = server.last_decision().await;
    assert_eq!((&leaf["kind"], &leaf["outcome"]), (&json!("admin"), &json!("deny")));
    assert_eq!((&record["actor"], &leaf["reasons"]), (&json!(server.idp.issuer), &json!(["event_subject"])));
    assert_eq!(server.decisions().await, before + 1);
    refused_event(&push_with(&server, json!({"aud": "https://other.example"})).await, "invalid_audience");
    refused_event(&push(&server, "x.y.z").await, "invalid_request");
    log_out_with(&server, json!({"aud": "x"})).await.refused(400, "invalid_request", "logout_token_refused");
    assert_eq!(server.decisions().await, before + 1);
    // Once the mapping is there, the very same event is taken.
    hear_by(&server, &format!("{{caep: {{audience: '{STREAM}', opaque: session}}}}")).await;
    accepted(&push(&server, &signed).await);
}

#[tokio::test]
async fn se_03_a_transmitter_with_a_secret_shows_it_before_any_key_is_fetched() {
    let hash = [sha256("tgs_one"), sha256("tgs_two")].join(", ");
    let server = hearing(&format!("{{caep: {{audience: '{STREAM}', bearer_sha256: [{hash}]}}}}")).await;
    let send = async |token: &str, headers: &[&str]| {
        let header = |value: &&str| ("authorization".to_owned(), (*value).to_owned());
        let headers: Vec<_> = headers.iter().map(header).collect();
        server.send("/events", &headers, token.to_owned(), "application/secevent+jwt").await
    };
    root_with(&server, json!({})).await;
    server.clock.shift(60);
    let unknown = Signer::new("never-published");
    let unknown = unknown.sign(unknown.header("secevent+jwt"), revoked_claims(&server));
    let fetches = server.idp.fetches();
    let good = server.idp.sign("secevent+jwt", &revoked_claims(&server));
    for headers in [
        &[][..],
        &["Bearer tgs_three"],
        &["Basic tgs_one"],
        &["tgs_one"],
        &["Bearer tgs_one", "Bearer tgs_one"],
    ] {
        refused_event(&send(&good, headers).await, "authentication_failed");
        refused_event(&send(&unknown, headers).await, "authentication_failed");
    }
    assert_eq!(server.idp.fetches(), fetches);
    accepted(&send(&good, &["Bearer tgs_one"]).await);
    accepted(&send(&server.idp.sign("secevent+jwt", &revoked_claims(&server)), &["bearer tgs_two"]).await);
    refused_event(&send(&unknown, &["Bearer tgs_two"]).await, "invalid_key");
    assert_eq!(server.idp.fetches(), fetches + 1);
}

#[tokio::test]
async fn se_04_jw_04_no_other_kind_of_jwt_is_heard() {
    let server = hearing(
        "{backchannel: {clients: [console], typ: [logout+jwt, JWT, '']}, caep: {audience: 'https://taskgrant.acme.example/events'}}",
    )
    .await;
    let mut others = crate::tokens::other_kinds(&server).await;
    others.push(("a session token", server.session(json!({}))));
    others.push(("an actor token", server.actor_token("pod-1")));
    others.push(("a token of ours", server.root().await));
    let live = server.root().await;
    for (what, token) in others {
        let answer = log_out(&server, &token).await;
        assert_eq!((answer.status, answer.body["error"].as_str()), (400, Some("invalid_request")), "{what}");
        assert_eq!(push(&server, &token).await.status, 400, "{what}");
    }
    refused_event(
        &push(&server, &server.idp.sign("logout+jwt", &logout_claims(&server))).await,
        "invalid_request",
    );
    let set = server.idp.sign("secevent+jwt", &revoked_claims(&server));
    log_out(&server, &set).await.refused(400, "invalid_request", "logout_token_refused");
    assert!(is_active(&server, &live).await);
}

#[tokio::test]
async fn jw_03_a_flood_of_bad_events_is_told_to_slow_down_and_fetches_keys_once() {
    let server = Server::start_with("[limits]\nfailure_rate = 1").await;
    hear_by(&server, BOTH).await;
    root_with(&server, json!({})).await;
    server.clock.shift(60);
    let fetches = server.idp.fetches();
    let unknown = Signer::new("never-published");
    let set = unknown.sign(unknown.header("secevent+jwt"), revoked_claims(&server));
    let token = unknown.sign(unknown.header("logout+jwt"), logout_claims(&server));
    let mut limited = 0;
    for _ in 0..30 {
        for answer in [push(&server, &set).await, log_out(&server, &token).await] {
            assert!([400, 429].contains(&answer.status), "{answer:?}");
            if answer.status == 429 {
                answer.refused(429, "temporarily_unavailable", "rate_limited_failures");
                limited += 1;
            }
        }
    }
    assert!(limited > 10, "{limited} of 60");
    assert_eq!(server.idp.fetches(), fetches + 1);
    accepted(&push_with(&server, json!({})).await);
    logged_out(&log_out_with(&server, json!({})).await);
}
