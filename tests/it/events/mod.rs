//! What identity providers tell of sessions that have ended (STANDARDS SE-01, SE-03, SE-04; OpenID Connect Back-Channel
//! Logout 1.0; RFC 8935).

mod declared;
mod logout;
mod security;

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use crate::support::idp::bend;
use crate::support::server::{Answer, ORDERS, Server, encode};

const LOGOUT: &str = "http://schemas.openid.net/event/backchannel-logout";
const REVOKED: &str = "https://schemas.openid.net/secevent/caep/event-type/session-revoked";
const STREAM: &str = "https://taskgrant.acme.example/events";
const ROOT: [(&str, &str); 2] = [("task_type", "refund_order"), ("resource", ORDERS)];
const BOTH: &str =
    "{backchannel: {clients: [console]}, caep: {audience: 'https://taskgrant.acme.example/events'}}";

/// An id that no other token has.
fn jti() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("event-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A good logout token of alice's session.
pub(crate) fn logout_claims(server: &Server) -> Value {
    let now = server.now();
    json!({
        "iss": server.idp.issuer, "aud": "console", "iat": now, "exp": now + 120, "jti": jti(),
        "events": {LOGOUT: {}}, "sub": "alice", "sid": "sid-1",
    })
}

/// A good event: all sessions of alice are revoked.
pub(crate) fn revoked_claims(server: &Server) -> Value {
    let subject = json!({"format": "iss_sub", "iss": server.idp.issuer, "sub": "alice"});
    json!({
        "iss": server.idp.issuer, "aud": STREAM, "iat": server.now(), "jti": jti(),
        "sub_id": subject, "events": {REVOKED: {"event_timestamp": server.now(), "initiating_entity": "admin"}},
    })
}

/// A server that hears the trusted issuer by `logout`.
async fn hearing(logout: &str) -> Server {
    let server = Server::start().await;
    hear_by(&server, logout).await;
    server
}

async fn hear_by(server: &Server, logout: &str) {
    server.reapply("  facts: [email]", &format!("  facts: [email]\n  logout: {logout}")).await;
}

async fn log_out(server: &Server, token: &str) -> Answer {
    let form = encode(&[("logout_token", token)]);
    server.send("/backchannel-logout", &[], form, "application/x-www-form-urlencoded").await
}

async fn log_out_with(server: &Server, with: Value) -> Answer {
    log_out(server, &server.idp.sign("logout+jwt", &bend(logout_claims(server), with))).await
}

async fn push(server: &Server, token: &str) -> Answer {
    server.send("/events", &[], token.to_owned(), "application/secevent+jwt").await
}

async fn push_with(server: &Server, with: Value) -> Answer {
    push(server, &server.idp.sign("secevent+jwt", &bend(revoked_claims(server), with))).await
}

#[track_caller]
fn logged_out(answer: &Answer) {
    assert_eq!((answer.status, answer.text.as_str()), (200, ""), "{answer:?}");
    assert_eq!(answer.headers["cache-control"], "no-store");
}

#[track_caller]
fn accepted(answer: &Answer) {
    assert_eq!((answer.status, answer.text.as_str()), (202, ""), "{answer:?}");
}

#[track_caller]
fn refused_event(answer: &Answer, err: &str) {
    assert_eq!((answer.status, answer.body["err"].as_str()), (400, Some(err)), "{answer:?}");
    assert!(!answer.body["description"].as_str().unwrap().is_empty());
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(answer.headers["content-language"], "en");
}

async fn root_of(server: &Server, session: &str) -> String {
    server.exchange("support-agent", session, &ROOT).await.token()
}

async fn root_with(server: &Server, with: Value) -> String {
    root_of(server, &server.session(with)).await
}

async fn is_active(server: &Server, token: &str) -> bool {
    server.introspect("support-agent", token).await.body["active"] == true
}

fn opaque(id: &str) -> Value {
    json!({"format": "opaque", "id": id})
}

fn user(iss: &str, sub: &str) -> Value {
    json!({"format": "iss_sub", "iss": iss, "sub": sub})
}

fn complex(members: Value) -> Value {
    bend(json!({"format": "complex"}), members)
}
