//! What ends, and what does not: sessions and principals, late events, exchanges under way, and logout tokens rule by rule.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{
    BOTH, LOGOUT, REVOKED, ROOT, accepted, hearing, is_active, log_out, log_out_with, logged_out,
    logout_claims, push_with, root_of, root_with,
};
use crate::support::idp::{bend, compact};
use crate::support::server::{ORDERS, encode};
use crate::support::signer::Signer;

#[tokio::test]
async fn se_04_a_logout_ends_the_tasks_of_that_session_and_of_no_other() {
    let server = hearing(BOTH).await;
    let session = server.session(json!({}));
    let form = [("task_type", "refund_order"), ("audience", server.issuer.as_str())];
    let wide = server.exchange("support-agent", &session, &form).await.token();
    let handed = server.hand_over(&wide, "worker-agent").await;
    let far = server.exchange("worker-agent", &handed, &[]).await.token();
    let narrow = server.exchange("support-agent", &wide, &[("resource", ORDERS)]).await.token();
    let other = root_with(&server, json!({"sid": "sid-2"})).await;
    let bob = root_with(&server, json!({"sub": "bob", "sid": "sid-3"})).await;
    logged_out(&log_out_with(&server, json!({})).await);
    for token in [&wide, &narrow] {
        assert!(!is_active(&server, token).await);
        let again = server.exchange("support-agent", token, &[("resource", ORDERS)]).await;
        again.refused(400, "invalid_request", "revoked");
    }
    assert_eq!(server.introspect("worker-agent", &far).await.body, json!({"active": false}));
    let again = server.exchange("support-agent", &session, &ROOT).await;
    again.refused(400, "invalid_request", "revoked");
    let refreshed = server.session(json!({"exp": server.now() + 7200}));
    let again = server.exchange("support-agent", &refreshed, &ROOT).await;
    again.refused(400, "invalid_request", "revoked");
    for token in [other, bob, root_with(&server, json!({"sid": "sid-4"})).await] {
        assert!(is_active(&server, &token).await);
    }
}

#[tokio::test]
async fn se_04_a_logout_of_a_principal_ends_all_sessions_so_far_and_a_fresh_login_works() {
    for by_event in [false, true] {
        let server = hearing(BOTH).await;
        let auth_time = server.now() - 5;
        let session = server.session(json!({"auth_time": auth_time, "sid": "sid-2"}));
        let all = [root_with(&server, json!({})).await, root_of(&server, &session).await];
        let bob = root_with(&server, json!({"sub": "bob"})).await;
        if by_event {
            accepted(&push_with(&server, json!({})).await);
        } else {
            logged_out(&log_out_with(&server, json!({"sid": null})).await);
        }
        for token in &all {
            assert!(!is_active(&server, token).await);
        }
        assert!(is_active(&server, &bob).await);
        server.clock.shift(60);
        let refreshed = server.session(json!({"auth_time": auth_time, "sid": "sid-2"}));
        let again = server.exchange("support-agent", &refreshed, &ROOT).await;
        again.refused(400, "invalid_request", "revoked");
        let fresh = root_with(&server, json!({"auth_time": server.now(), "sid": "sid-9"})).await;
        assert!(is_active(&server, &fresh).await);
        assert!(!is_active(&server, &all[0]).await, "and nothing that was dead came back");
    }
}

#[tokio::test]
async fn se_04_a_session_without_sid_ends_with_any_session_of_its_principal() {
    let server = hearing(BOTH).await;
    let nameless = root_with(&server, json!({"sid": null})).await;
    let named = root_with(&server, json!({"sid": "sid-2"})).await;
    let bob = root_with(&server, json!({"sub": "bob", "sid": null})).await;
    logged_out(&log_out_with(&server, json!({"sub": null})).await);
    assert!(is_active(&server, &nameless).await, "nobody said whose session it was");
    logged_out(&log_out_with(&server, json!({})).await);
    assert!(!is_active(&server, &nameless).await);
    assert!(is_active(&server, &named).await && is_active(&server, &bob).await);
    let fresh = json!({"sid": null, "auth_time": server.now() + 5});
    assert!(is_active(&server, &root_with(&server, fresh).await).await);
}

#[tokio::test]
async fn se_04_an_event_that_comes_late_ends_what_began_before_it_and_nothing_after() {
    let server = hearing(BOTH).await;
    let then = server.now();
    server.clock.shift(100);
    let root = async |auth_time: i64, sub: &str| {
        root_with(&server, json!({"auth_time": auth_time, "sub": sub, "sid": format!("s-{auth_time}")})).await
    };
    // What happened when: by `event_timestamp` where that can be believed, else by `iat`.
    for (sub, iat, happened) in [
        ("a", then, Value::Null),
        ("b", then + 90, json!(then)),
        ("c", then, json!((then + 3600) * 1000)),
        ("d", then, json!(then + 90)),
        ("e", then, json!(1)),
        ("f", then, json!("yesterday")),
    ] {
        let (before, after) = (root(then - 1, sub).await, root(then + 1, sub).await);
        let told = bend(json!({"event_timestamp": happened}), json!({}));
        let subject = json!({"format": "iss_sub", "iss": server.idp.issuer, "sub": sub});
        let with = json!({"iat": iat, "sub_id": subject, "events": {REVOKED: told}});
        accepted(&push_with(&server, with).await);
        assert!(!is_active(&server, &before).await, "{sub}");
        assert!(is_active(&server, &after).await, "{sub}");
    }
    let (before, after) = (root(then - 1, "z").await, root(then + 1, "z").await);
    logged_out(&log_out_with(&server, json!({"iat": then, "sid": null, "sub": "z"})).await);
    assert!(!is_active(&server, &before).await && is_active(&server, &after).await);
    // A session is of one login: whenever the event comes, it is over.
    let same = root_with(&server, json!({"auth_time": then + 50, "sid": "s"})).await;
    logged_out(&log_out_with(&server, json!({"iat": then, "sid": "s"})).await);
    assert!(!is_active(&server, &same).await);
    // By a clock that is ahead of ours nothing is revoked in advance.
    logged_out(&log_out_with(&server, json!({"iat": server.now() + 29, "sid": null, "sub": "y"})).await);
    server.clock.shift(10);
    assert!(is_active(&server, &root(server.now(), "y").await).await);
}

#[tokio::test]
async fn se_04_t26_a_logout_during_root_exchanges_leaves_no_live_token() {
    let server = Arc::new(hearing(BOTH).await);
    for (round, by_sid) in [true, false, true, false].into_iter().enumerate() {
        let (sub, sid) = (format!("user-{round}"), format!("sid-{round}"));
        let session = server.session(json!({"sub": sub, "sid": sid}));
        let (mut exchanges, mut logouts) = (JoinSet::new(), JoinSet::new());
        for turn in 0..48 {
            let (own, session) = (server.clone(), session.clone());
            let form: [(&str, &str); 2] = [("task_type", "refund_order"), ("resource", ORDERS)];
            exchanges.spawn(async move { own.exchange("support-agent", &session, &form).await });
            if turn == 16 {
                let with =
                    if by_sid { json!({"sub": sub, "sid": sid}) } else { json!({"sub": sub, "sid": null}) };
                let own = server.clone();
                logouts.spawn(async move { log_out_with(&own, with).await });
            }
        }
        logged_out(&logouts.join_next().await.unwrap().unwrap());
        let after = server.exchange("support-agent", &session, &ROOT).await;
        after.refused(400, "invalid_request", "revoked");
        let answers = exchanges.join_all().await;
        assert_eq!(answers.len(), 48);
        for answer in answers {
            if answer.status == 200 {
                assert!(!is_active(&server, &answer.token()).await, "round {round}");
            } else {
                answer.refused(400, "invalid_request", "revoked");
            }
        }
    }
}

#[tokio::test]
async fn se_04_a_logout_token_that_breaks_a_rule_ends_nothing() {
    let server = hearing(BOTH).await;
    let root = root_with(&server, json!({})).await;
    let now = server.now();
    for with in [
        json!({"aud": "other-app"}),
        json!({"aud": ["console", "other-app"]}),
        json!({"aud": []}),
        json!({"aud": null}),
        json!({"aud": server.issuer}),
        json!({"iss": null}),
        json!({"iss": "https://elsewhere.example"}),
        json!({"iss": server.issuer}),
        json!({"exp": null}),
        json!({"exp": now}),
        json!({"exp": (now + 60).to_string()}),
        json!({"iat": null}),
        json!({"iat": now + 90}),
        json!({"nbf": now + 90}),
        json!({"jti": null}),
        json!({"jti": ""}),
        json!({"jti": 7}),
        json!({"events": null}),
        json!({"events": {}}),
        json!({"events": [LOGOUT]}),
        json!({"events": {LOGOUT: true}}),
        json!({"events": {REVOKED: {}}}),
        json!({"nonce": "n"}),
        json!({"sub": null, "sid": null}),
        json!({"sub": 7}),
        json!({"sid": ""}),
        json!({"sid": "two\nlines"}),
    ] {
        let answer = log_out_with(&server, with.clone()).await;
        answer.refused(400, "invalid_request", "logout_token_refused");
        assert_eq!(answer.headers["cache-control"], "no-store", "{with}");
    }
    let good = logout_claims(&server);
    let stranger = Signer::new("raw-key");
    for (what, token) in [
        ("as JWT", server.idp.sign("JWT", &good)),
        ("as at+jwt", server.idp.sign("at+jwt", &good)),
        ("as secevent+jwt", server.idp.sign("secevent+jwt", &good)),
        ("unsigned", compact(&json!({"alg": "none", "typ": "logout+jwt"}), &good, "")),
        ("by a stranger", stranger.sign(stranger.header("logout+jwt"), &good)),
        ("no token at all", "x".to_owned()),
        (
            "more than 16 KiB",
            server.idp.sign("logout+jwt", &bend(good.clone(), json!({"pad": "x".repeat(16384)}))),
        ),
    ] {
        let answer = log_out(&server, &token).await;
        assert_eq!(answer.body["reason_code"], "logout_token_refused", "{what}: {answer:?}");
        assert_eq!(answer.status, 400, "{what}");
    }
    assert!(is_active(&server, &root).await);
    logged_out(&log_out_with(&server, json!({"aud": ["console"]})).await);
    assert!(!is_active(&server, &root).await);
}

#[tokio::test]
async fn se_04_a_logout_token_comes_once_in_a_posted_form() {
    let server = hearing(BOTH).await;
    let form = "application/x-www-form-urlencoded";
    for body in ["", "logout_token=", "logout_token=a&logout_token=b", "token=a"] {
        let answer = server.send("/backchannel-logout", &[], body, form).await;
        answer.refused(400, "invalid_request", "malformed_request");
    }
    let json = server.send("/backchannel-logout", &[], "{}", "application/json").await;
    json.refused(415, "invalid_request", "malformed_request");
    server.get("/backchannel-logout", &[]).await.refused(405, "invalid_request", "method_not_allowed");
    let token = server.idp.sign("logout+jwt", &logout_claims(&server));
    let answer = server
        .send("/backchannel-logout", &[], encode(&[("logout_token", &token), ("state", "x")]), form)
        .await;
    logged_out(&answer);
}
