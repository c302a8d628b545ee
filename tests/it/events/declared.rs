//! What an issuer declares: who is heard, and ends of sessions that rest on it.

use serde_json::{Value, json};

use super::{
    BOTH, ROOT, STREAM, accepted, hear_by, hearing, is_active, log_out, log_out_with, logged_out,
    logout_claims, push, push_with, refused_event, revoked_claims, root_with,
};
use crate::support::idp::{Idp, bend, claims};
use crate::support::server::{Answer, MAIL, Server};

#[tokio::test]
async fn se_04_logout_tokens_without_a_type_of_their_own_are_for_issuers_that_declare_so() {
    let server = hearing("{backchannel: {clients: [console, desk], typ: [logout+jwt, JWT, '']}}").await;
    let id_token = bend(logout_claims(&server), json!({"nonce": "n", "events": null, "at_hash": "h"}));
    for claims in
        [id_token, server.session_claims(), bend(server.session_claims(), json!({"aud": "console"}))]
    {
        let answer = log_out(&server, &server.idp.sign("JWT", &claims)).await;
        answer.refused(400, "invalid_request", "logout_token_refused");
    }
    for (sid, typ) in [("sid-1", json!("JWT")), ("sid-2", Value::Null), ("sid-3", json!("logout+jwt"))] {
        let root = root_with(&server, json!({"sid": sid})).await;
        let header = bend(server.idp.signer.header("x"), json!({"typ": typ}));
        let good = bend(logout_claims(&server), json!({"sid": sid, "aud": ["console", "desk"]}));
        logged_out(&log_out(&server, &server.idp.signer.sign(header, &good)).await);
        assert!(!is_active(&server, &root).await, "{typ}");
    }
    refused_event(&push_with(&server, json!({})).await, "invalid_issuer");
}

#[tokio::test]
async fn se_04_a_transmitter_of_its_own_ends_that_issuers_sessions_and_makes_none() {
    let server = Server::start().await;
    let transmitter = Idp::start().await;
    let iss = transmitter.issuer.as_str();
    hear_by(&server, &format!("{{caep: {{audience: '{STREAM}', issuer: '{iss}', jwks_uri: '{iss}/jwks'}}}}"))
        .await;
    let root = root_with(&server, json!({})).await;
    let event = |with: Value| bend(bend(revoked_claims(&server), json!({"iss": iss})), with);
    let theirs = json!({"sub_id": {"format": "iss_sub", "iss": iss, "sub": "alice"}});
    for (err, token) in [
        ("invalid_key", server.idp.sign("secevent+jwt", &event(json!({})))),
        ("invalid_issuer", server.idp.sign("secevent+jwt", &revoked_claims(&server))),
        ("invalid_issuer", transmitter.sign("secevent+jwt", &revoked_claims(&server))),
        ("invalid_request", transmitter.sign("secevent+jwt", &event(theirs))),
    ] {
        refused_event(&push(&server, &token).await, err);
    }
    let session = transmitter.sign("at+jwt", &bend(server.session_claims(), json!({"iss": iss})));
    let answer = server.exchange("support-agent", &session, &ROOT).await;
    answer.refused(400, "invalid_request", "subject_token_unknown_issuer");
    assert!(is_active(&server, &root).await);
    accepted(&push(&server, &transmitter.sign("secevent+jwt", &event(json!({})))).await);
    assert!(!is_active(&server, &root).await);
}

#[tokio::test]
async fn se_04_without_logout_declared_nothing_is_heard() {
    let server = Server::start().await;
    let root = root_with(&server, json!({})).await;
    log_out_with(&server, json!({})).await.refused(400, "invalid_request", "logout_token_refused");
    refused_event(&push_with(&server, json!({})).await, "invalid_issuer");
    hear_by(&server, &format!("{{caep: {{audience: '{STREAM}'}}}}")).await;
    log_out_with(&server, json!({})).await.refused(400, "invalid_request", "logout_token_refused");
    assert!(is_active(&server, &root).await);
}

#[tokio::test]
async fn events_are_sent_below_the_path_of_the_issuer() {
    let server = Server::start_at("/grants").await;
    hear_by(&server, BOTH).await;
    let root = root_with(&server, json!({})).await;
    accepted(&push_with(&server, json!({"events": {"urn:other": {}}})).await);
    logged_out(&log_out_with(&server, json!({})).await);
    assert!(!is_active(&server, &root).await);
}

/// The deadline of a task that begins now with a token that lives 100 s.
async fn deadline(server: &Server, with: Value) -> Answer {
    let mut claims = json!({"exp": server.now() + 100, "auth_time": server.now() - 60});
    claims.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
    let session = server.session(claims);
    let form = [("task_type", "refund_order"), ("audience", server.issuer.as_str()), ("resource", MAIL)];
    server.exchange("support-agent", &session, &[&form[..], &[("scope", "mail:send")]].concat()).await
}

#[tokio::test]
async fn a_session_outlasts_its_token_only_where_its_logout_is_heard() {
    let server = Server::start().await;
    let declare = async |end: &str, logout: &str| {
        let lines = format!("  facts: [email]\n  session_end: {end}\n{logout}");
        server.apply(&server.objects().replacen("  facts: [email]", &lines, 1)).await
    };
    for end in ["{after_auth_time: 600}", "{claim: session_end}"] {
        let refused = format!("{:?}", declare(end, "").await.unwrap_err());
        assert!(refused.contains("declare `logout`"), "{refused}");
    }
    let logout = format!("  logout: {BOTH}");
    for (end, part) in [
        ("{after_auth_time: long}", "not negative"),
        ("{after_auth_time: 0}", "at least 1 second"),
        ("{claim: ''}", "name a claim"),
        ("{token: 1}", "takes no value"),
        ("{forever: 1}", "unknown value"),
        ("{claim: a, after_auth_time: 1}", "expected one of"),
        ("claim", "takes a value"),
    ] {
        let refused = format!("{:?}", declare(end, &logout).await.unwrap_err());
        assert!(refused.contains(part) && refused.contains("spec.session_end"), "{end}: {refused}");
    }
    let end = |answer: &Answer| claims(&answer.token())["task_exp"].as_i64().unwrap();
    let now = server.now();
    assert!((now + 100..now + 105).contains(&end(&deadline(&server, json!({})).await)), "with its token");
    declare("{after_auth_time: 600}", &logout).await.unwrap();
    let auth_time = server.now() - 60;
    let answer = deadline(&server, json!({"auth_time": auth_time})).await;
    assert_eq!(end(&answer), auth_time + 600);
    deadline(&server, json!({"auth_time": null})).await.refused(
        400,
        "invalid_request",
        "subject_token_malformed",
    );
    let over = deadline(&server, json!({"auth_time": server.now() - 600})).await;
    over.refused(400, "invalid_request", "subject_token_session_ended");
    logged_out(&log_out_with(&server, json!({})).await);
    assert!(!is_active(&server, &answer.token()).await);
    declare("{claim: session.end}", &logout).await.unwrap();
    let told = |end: Value| json!({"sid": "sid-2", "session": {"end": end}});
    let later = server.now() + 1000;
    assert_eq!(end(&deadline(&server, told(json!(later))).await), later);
    let over = deadline(&server, told(json!(server.now() - 1))).await;
    over.refused(400, "invalid_request", "subject_token_session_ended");
    for end in [json!("tomorrow"), Value::Null] {
        deadline(&server, told(end)).await.refused(400, "invalid_request", "subject_token_malformed");
    }
}

#[tokio::test]
async fn se_04_a_declaration_of_logouts_that_cannot_be_heard_is_refused() {
    let server = Server::start().await;
    let own = server.issuer.clone();
    for (logout, part) in [
        ("{}".to_owned(), "needs `backchannel`, `caep` or both"),
        ("{backchannel: {clients: []}}".to_owned(), "name the client ids"),
        ("{backchannel: {clients: [a], typ: [at+jwt]}}".to_owned(), "`logout+jwt`, `JWT`"),
        ("{backchannel: {clients: [a], audience: b}}".to_owned(), "audience"),
        ("{caep: {audience: ''}}".to_owned(), "the `aud` of the stream"),
        ("{caep: {audience: a, issuer: 'https://t.example'}}".to_owned(), "say where they are"),
        (
            format!("{{caep: {{audience: a, issuer: '{own}', jwks_uri: 'https://t.example'}}}}"),
            "not this server",
        ),
        ("{caep: {audience: a, bearer_sha256: [x]}}".to_owned(), "bearer_sha256"),
    ] {
        let lines = format!("  facts: [email]\n  logout: {logout}");
        let refused = server.apply(&server.objects().replacen("  facts: [email]", &lines, 1)).await;
        let refused = format!("{:?}", refused.unwrap_err());
        assert!(refused.contains(part), "{logout}: {refused}");
    }
    let second = |iss: &str| {
        format!(
            "---\nkind: TrustedIssuer\ntenant: globex\nname: second\nspec:\n  issuer: https://second.example\n  \
             subject_prefix: 'g:'\n  accept: [{{type: access_token, audience: a}}]\n  \
             logout: {{caep: {{audience: a, issuer: '{iss}', jwks_uri: 'https://t.example/jwks'}}}}\n"
        )
    };
    let lines = "  facts: [email]\n  logout: {caep: {audience: a, issuer: 'https://t.example', jwks_uri: 'https://t.example/jwks'}}";
    let objects = server.objects().replacen("  facts: [email]", lines, 1);
    let idp = server.idp.issuer.clone();
    for (iss, part) in [("https://t.example", "of another trusted issuer too"), (&idp, "vouches for others")]
    {
        let refused = server.apply(&format!("{objects}\n{}", second(iss))).await;
        let refused = format!("{:?}", refused.unwrap_err());
        assert!(refused.contains(part), "{iss}: {refused}");
    }
    server.apply(&format!("{objects}\n{}", second("https://u.example"))).await.unwrap();
}
