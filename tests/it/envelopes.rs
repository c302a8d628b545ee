//! Envelopes: what people approve beyond one request, how far it reaches, how it is counted and how it ends (STANDARDS AP-05,
//! T38).

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};
use taskgrant::admin::api::RefusalCode;
use taskgrant::admin::approvals::CancelApproval;
use taskgrant::admin::revocations::RevokeRequest;
use taskgrant::approvals::view::ListedApproval;
use taskgrant::approvals::{Ballot, EnvelopeAsked};
use taskgrant::domain::approval::{ApprovalState, Narrowing};
use taskgrant::domain::envelope::{EnvelopeEnd, EnvelopeTerms};
use taskgrant::lockdown::LockdownRequest;
use taskgrant::revocation::target::Target;
use taskgrant::terminal::output::Exit;

use crate::support::approvals::{ask_as, ballot, code, command, fetch, fetch_as, id, lead, state, vote};
use crate::support::database::on_postgres;
use crate::support::idp::claims;
use crate::support::server::{Answer, JWT, MAIL, ORDERS, Server};

/// A person is asked for each token for a service, and for each hand-over.
const POLICY: &str = r#"
require_approval contains {"code": "careful", "message": "look", "public": true} if not input.requested.exchange_only
require_approval contains {"code": "careful", "message": "look", "public": true} if input.requested.delegate_to
require_approval contains {"code": "inner", "message": "not told", "public": false} if input.claimed.inner
require_approval contains {"code": "urgent", "message": "a hurry", "public": true} if input.claimed.urgent
deny contains {"code": "not_again", "message": "only once", "public": true} if {
    input.claimed.once
    input.approval.envelope.used > 0
}
limits contains {"lifetime": 20} if input.claimed.short
"#;

const APPROVAL: &str = "  labels: {risk: medium}\n  approval: {approvers: [group:support-leads], envelope: {exchanges: 5, minutes: 30}}\n";
const READ: [(&str, &str); 2] = [("resource", ORDERS), ("scope", "orders:read")];
const DEFERRED: (&str, &str) = ("completion_mode", "deferred");

async fn start() -> Server {
    let server = Server::start_with_policy(POLICY).await;
    server.reapply("  labels: {risk: medium}\n", APPROVAL).await;
    server
}

/// The objects of [`start`] with one text replaced.
async fn reapply(server: &Server, from: &str, to: &str) {
    server.reapply("  labels: {risk: medium}\n", &APPROVAL.replace(from, to)).await;
}

fn giving(server: &Server, exchanges: Option<u32>, minutes: Option<u32>) -> Ballot {
    let envelope = Some(EnvelopeAsked { exchanges, minutes });
    Ballot { envelope, ..ballot(true, lead(server, json!({}))) }
}

/// What `agent` asks for below `subject`, once people gave it with an envelope: the question and the token.
async fn opened_by(
    server: &Server,
    (agent, subject): (&str, &str),
    form: &[(&str, &str)],
    ballot: &Ballot,
) -> (Answer, String) {
    let asked = ask_as(server, agent, subject, &[form, &[DEFERRED]].concat()).await;
    vote(server, id(&asked), ballot).await.unwrap();
    let token = fetch_as(server, agent, code(&asked)).await.token();
    (asked, token)
}

async fn opened(server: &Server, wide: &str, exchanges: u32) -> (Answer, String) {
    opened_by(server, ("support-agent", wide), &READ, &giving(server, Some(exchanges), None)).await
}

async fn again(server: &Server, wide: &str) -> Answer {
    server.exchange("support-agent", wide, &READ).await
}

#[track_caller]
fn asks_a_person(answer: &Answer) {
    answer.refused(400, "interaction_required", "approval_required");
}

async fn shown(server: &Server, asked: &Answer) -> ListedApproval {
    server.admin().await.approval(id(asked)).await.unwrap().unwrap()
}

async fn ended(server: &Server, asked: &Answer) -> Option<EnvelopeEnd> {
    shown(server, asked).await.envelope.unwrap().ended
}

async fn revoke(server: &Server, target: Target) {
    let request = RevokeRequest { target, reason: "an incident".to_owned(), dry_run: false };
    server.admin().await.revoke(&request).await.unwrap().unwrap();
}

#[tokio::test]
async fn ap_05_so_many_uses_each_in_the_log_and_then_a_person_is_asked() {
    let server = start().await;
    let wide = server.wide_root().await;
    asks_a_person(&again(&server, &wide).await);
    let (asked, token) = opened(&server, &wide, 2).await;
    let fresh = shown(&server, &asked).await.envelope.unwrap();
    assert_eq!((fresh.exchanges, fresh.minutes, fresh.used, fresh.ended), (2, 30, 0, None));
    assert_eq!(fresh.task_id.unwrap().to_string(), claims(&token)["task_id"]);

    // A dry run tells what would happen, and spends nothing.
    for _ in 0..3 {
        let dry = [&READ[..], &[("dry_run", "true")]].concat();
        let dry = server.exchange("support-agent", &wide, &dry).await;
        assert_eq!((dry.status, &dry.body["dry_run"]), (200, &json!(true)), "{dry:?}");
        assert_eq!(server.decision(&dry).await.record["envelope"], json!({"use": 1, "of": 2}));
    }
    // A client that would not wait gets it too: nobody is asked.
    for (number, used) in [(1, 0), (2, 1)] {
        let answer = again(&server, &wide).await;
        let held = claims(&answer.token());
        assert_eq!(held["approval"], json!({"id": asked.body["approval_id"], "reasons": ["careful"]}));
        let decision = server.decision(&answer).await;
        assert_eq!(decision.leaf["outcome"], "allow");
        assert_eq!(decision.record["approval_id"], asked.body["approval_id"]);
        assert_eq!(decision.record["envelope"], json!({"use": number, "of": 2}));
        assert_eq!(decision.input["approval"]["envelope"], json!({"used": used, "of": 2}));
        assert!(decision.input["approval"]["approvers"][0].as_str().unwrap().ends_with(" erin"));
        assert_eq!(server.introspect("orders-api", &answer.token()).await.body["active"], true);
    }
    let full = again(&server, &wide).await;
    asks_a_person(&full);
    let refused = server.decision(&full).await;
    assert!(refused.record["envelope"].is_null() && refused.input["approval"].is_null(), "{refused:?}");
    let anew = ask_as(&server, "support-agent", &wide, &[&READ[..], &[DEFERRED]].concat()).await;
    assert_ne!(id(&anew), id(&asked));
    let spent = shown(&server, &asked).await.envelope.unwrap();
    assert_eq!((spent.used, spent.ended), (2, Some(EnvelopeEnd::UsedUp)));
}

#[tokio::test]
async fn ap_05_its_minutes_count_from_the_last_approval() {
    let server = start().await;
    let wide = server.wide_root().await;
    let asked = ask_as(&server, "support-agent", &wide, &[&READ[..], &[DEFERRED]].concat()).await;
    vote(&server, id(&asked), &giving(&server, None, Some(5))).await.unwrap();
    let before = shown(&server, &asked).await;
    let given = before.envelope.unwrap();
    assert_eq!((before.state, given.exchanges, given.minutes), (ApprovalState::Approved, 5, 5));
    assert_eq!(given.task_id, None, "it is good once the token is fetched");
    asks_a_person(&again(&server, &wide).await);
    server.clock.shift(120);
    fetch(&server, &asked).await.token();
    server.clock.shift(170);
    again(&server, &wide).await.token();
    server.clock.shift(20);
    asks_a_person(&again(&server, &wide).await);
    assert_eq!(ended(&server, &asked).await, Some(EnvelopeEnd::Over));
}

#[tokio::test]
async fn ap_05_what_is_wider_in_any_dimension_is_asked_anew() {
    let server = start().await;
    let wide = server.wide_root().await;
    let details =
        |amount: u32| json!([{"type": "tool_call", "tools": ["refund_order"], "amount": amount}]).to_string();
    let few = details(100);
    let form = [&READ[..], &[("authorization_details", &few), ("requested_expires_in", "60")]].concat();
    let ballot = giving(&server, Some(5), None);
    let (asked, _) = opened_by(&server, ("support-agent", &wide), &form, &ballot).await;
    let more = details(101);
    for (field, value) in [
        ("scope", "orders:read refunds:write"),
        ("resource", MAIL),
        ("authorization_details", more.as_str()),
        ("requested_expires_in", "61"),
    ] {
        let other = form.iter().filter(|(key, _)| *key != field).copied();
        let other: Vec<_> = other.chain([(field, value)]).collect();
        asks_a_person(&server.exchange("support-agent", &wide, &other).await);
        let told = ask_as(&server, "support-agent", &wide, &[&other[..], &[DEFERRED]].concat()).await;
        assert_ne!(id(&told), id(&asked), "{field}");
    }
    // All that the parent has is more than they saw.
    asks_a_person(&server.exchange("support-agent", &wide, &[("resource", ORDERS)]).await);
    // The same and less are not.
    server.exchange("support-agent", &wide, &form).await.token();
    let less = details(50);
    let less = [&READ[..], &[("authorization_details", &less), ("requested_expires_in", "30")]].concat();
    assert_eq!(server.exchange("support-agent", &wide, &less).await.body["expires_in"], 30);
    // What is left to a default is no longer than they saw.
    let short = server.exchange("support-agent", &wide, &form[..3]).await;
    assert_eq!((&short.body["expires_in"], &short.body["narrowed"]), (&json!(60), &json!(["expires_in"])));
    assert_eq!(shown(&server, &asked).await.envelope.unwrap().used, 3);
}

#[tokio::test]
async fn ap_02_what_approvers_take_away_bounds_the_envelope_too() {
    let server = start().await;
    let wide = server.wide_root().await;
    let form = [("resource", ORDERS), ("scope", "orders:read refunds:write")];
    let narrowing = Narrowing { scopes: Some("orders:read".parse().unwrap()), lifetime: Some(30) };
    let ballot = Ballot { narrowing, ..giving(&server, Some(5), None) };
    let (_, token) = opened_by(&server, ("support-agent", &wide), &form, &ballot).await;
    assert_eq!(claims(&token)["scope"], "orders:read");
    asks_a_person(&server.exchange("support-agent", &wide, &form).await);
    let answer = again(&server, &wide).await;
    assert_eq!((&answer.body["scope"], &answer.body["expires_in"]), (&json!("orders:read"), &json!(30)));
}

#[tokio::test]
async fn ap_05_a_new_reason_is_asked_for_and_policy_may_deny_and_narrow_each_use() {
    let server = start().await;
    let wide = server.wide_root().await;
    let form = [&READ[..], &[("claimed", r#"{"inner": true}"#)]].concat();
    let ballot = giving(&server, Some(5), None);
    let (_, token) = opened_by(&server, ("support-agent", &wide), &form, &ballot).await;
    let claiming = async |subject: &str, claimed: &str| {
        server.exchange("support-agent", subject, &[&READ[..], &[("claimed", claimed)]].concat()).await
    };
    let hurry = claiming(&wide, r#"{"urgent": true}"#).await;
    asks_a_person(&hurry);
    assert_eq!(hurry.body["reasons"].as_array().unwrap().len(), 2, "{hurry:?}");
    // A private reason that people saw is one of them, also below a token that does not tell it.
    assert_eq!(claims(&token)["approval"]["reasons"], json!(["careful"]));
    let below = claiming(&token, r#"{"inner": true}"#).await;
    assert_eq!(server.decision(&below).await.record["envelope"], json!({"use": 1, "of": 5}));
    assert_eq!(claiming(&wide, r#"{"short": true}"#).await.body["expires_in"], 20);
    let once = claiming(&wide, r#"{"once": true}"#).await;
    once.refused(400, "invalid_request", "policy_denied");
    assert_eq!(once.body["reasons"][0]["code"], "not_again");
    // What needs nobody uses nothing.
    let inherited = claiming(&token, "{}").await;
    inherited.token();
    assert!(server.decision(&inherited).await.record["envelope"].is_null());
}

#[tokio::test]
async fn ap_05_it_is_good_for_its_agent_its_instance_and_its_task_alone() {
    let server = start().await;
    let wide = server.wide_root().await;
    let (asked, _) = opened(&server, &wide, 5).await;
    let proving = |instance: &str| {
        let token = server.actor_token(instance);
        move |subject: String| (subject, token)
    };
    let as_instance = async |subject: &str, instance: &str| {
        let (subject, token) = proving(instance)(subject.to_owned());
        let form = [&READ[..], &[("actor_token", token.as_str()), ("actor_token_type", JWT)]].concat();
        server.exchange("support-agent", &subject, &form).await
    };
    asks_a_person(&as_instance(&wide, "pod-1").await);
    asks_a_person(&again(&server, &server.wide_root().await).await);
    // The agent that it may hand over to is another.
    let handing = [("audience", server.issuer.as_str()), ("delegate_to", "worker-agent")];
    let handing = [&READ[..], &handing].concat();
    let (_, hand_over) =
        opened_by(&server, ("support-agent", &wide), &handing, &giving(&server, Some(2), None)).await;
    let worker = server.exchange("worker-agent", &hand_over, &[]).await.token();
    let direct = server.exchange("worker-agent", &wide, &READ).await;
    asks_a_person(&direct);
    // That hand-over may be made again, to this agent alone.
    let second = server.exchange("support-agent", &wide, &handing).await;
    assert_eq!(server.decision(&second).await.record["envelope"], json!({"use": 1, "of": 2}));
    server.exchange("worker-agent", &second.token(), &[]).await.token();
    let to_two = [("audience", server.issuer.as_str()), ("delegate_to", "worker-two")];
    asks_a_person(&server.exchange("support-agent", &wide, &[&READ[..], &to_two].concat()).await);
    // The worker's own envelope is the worker's, in the place in the chain that people saw.
    let below = [("resource", ORDERS), ("claimed", r#"{"inner": true}"#)];
    let form = [&below[..], &[DEFERRED]].concat();
    let own = ask_as(&server, "worker-agent", &worker, &form).await;
    vote(&server, id(&own), &giving(&server, Some(1), None)).await.unwrap();
    fetch_as(&server, "worker-agent", code(&own)).await.token();
    let used = server.exchange("worker-agent", &worker, &below).await;
    assert_eq!(server.decision(&used).await.record["approval_id"], own.body["approval_id"]);
    assert_eq!(shown(&server, &asked).await.envelope.unwrap().used, 0, "none of that used the first one");

    // An instance that people saw is the only one.
    let token = server.actor_token("pod-1");
    let form = [&READ[..], &[("actor_token", token.as_str()), ("actor_token_type", JWT)]].concat();
    opened_by(&server, ("support-agent", &wide), &form, &giving(&server, Some(1), None)).await;
    asks_a_person(&as_instance(&wide, "pod-2").await);
    as_instance(&wide, "pod-1").await.token();
}

#[tokio::test]
async fn ap_05_many_at_once_use_it_as_often_as_it_says() {
    let server = Arc::new(start().await);
    let wide = server.wide_root().await;
    let (asked, _) = opened(&server, &wide, 5).await;
    let mut racing = tokio::task::JoinSet::new();
    for _ in 0..24 {
        let (server, wide) = (server.clone(), wide.clone());
        racing.spawn(async move { again(&server, &wide).await });
    }
    let answers = racing.join_all().await;
    let mut numbers = BTreeSet::new();
    for answer in &answers {
        if answer.status == 200 {
            let record = server.decision(answer).await.record;
            assert_eq!(record["envelope"]["of"], 5);
            numbers.insert(record["envelope"]["use"].as_u64().unwrap());
        } else {
            asks_a_person(answer);
        }
    }
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 5);
    assert_eq!(numbers, (1..=5).collect());
    assert_eq!(shown(&server, &asked).await.envelope.unwrap().used, 5);
}

#[tokio::test]
async fn an_admin_takes_back_what_is_left_of_it() {
    let server = start().await;
    let wide = server.wide_root().await;
    let (asked, token) = opened(&server, &wide, 5).await;
    again(&server, &wide).await.token();
    let request = CancelApproval { reason: "a mistake".to_owned() };
    let cancelled = server.admin().await.cancel_approval(id(&asked), &request).await.unwrap().unwrap();
    assert_eq!(cancelled.approval.state, ApprovalState::Redeemed);
    assert_eq!(cancelled.approval.envelope.unwrap().ended, Some(EnvelopeEnd::Cancelled));
    assert_eq!(server.decision_of(cancelled.decision_id).await.record["asked"]["reason"], "a mistake");
    asks_a_person(&again(&server, &wide).await);
    assert_eq!(server.introspect("orders-api", &token).await.body["active"], true, "its token lives on");
    let twice = server.admin().await.cancel_approval(id(&asked), &request).await.unwrap().unwrap_err();
    assert_eq!(twice.error, RefusalCode::Conflict);
}

#[tokio::test]
async fn it_ends_with_what_it_hangs_on() {
    let server = start().await;
    let wide = server.wide_root().await;
    // Who approved it.
    let (asked, _) = opened(&server, &wide, 5).await;
    revoke(&server, Target::Principal { iss: server.idp.issuer.clone(), sub: "erin".to_owned() }).await;
    asks_a_person(&again(&server, &wide).await);
    assert_eq!(ended(&server, &asked).await, Some(EnvelopeEnd::Revoked));
    server.clock.shift(3);
    // The token that was approved.
    let (asked, token) = opened(&server, &wide, 5).await;
    again(&server, &wide).await.token();
    server.revoke("support-agent", &token).await;
    asks_a_person(&again(&server, &wide).await);
    assert_eq!(ended(&server, &asked).await, Some(EnvelopeEnd::Revoked));
    // Its task.
    let (asked, _) = opened(&server, &wide, 5).await;
    let task = claims(&wide)["task_id"].as_str().unwrap().to_owned();
    assert_eq!(server.post(&format!("/tasks/{task}/complete"), "support-agent", &[]).await.status, 200);
    assert_ne!(again(&server, &wide).await.status, 200);
    assert_eq!(ended(&server, &asked).await, Some(EnvelopeEnd::Revoked));
}

#[tokio::test]
async fn it_is_good_only_as_far_as_the_task_type_in_force_allows() {
    let server = start().await;
    let wide = server.wide_root().await;
    let (asked, _) = opened(&server, &wide, 4).await;
    again(&server, &wide).await.token();
    for (from, to, end) in [
        ("approvers: [group:support-leads]", "approvers: [group:security]", EnvelopeEnd::OtherApprovers),
        ("envelope: {", "quorum: 2, envelope: {", EnvelopeEnd::OtherApprovers),
        (", envelope: {exchanges: 5, minutes: 30}", "", EnvelopeEnd::NotAllowed),
        ("exchanges: 5", "exchanges: 1", EnvelopeEnd::UsedUp),
    ] {
        reapply(&server, from, to).await;
        asks_a_person(&again(&server, &wide).await);
        assert_eq!(ended(&server, &asked).await, Some(end), "{to}");
    }
    reapply(&server, "exchanges: 5", "exchanges: 3").await;
    let answer = again(&server, &wide).await;
    assert_eq!(server.decision(&answer).await.record["envelope"], json!({"use": 2, "of": 3}));
    assert_eq!(shown(&server, &asked).await.envelope.unwrap().exchanges, 3);
}

#[tokio::test]
async fn a_lockdown_stops_its_uses_and_loses_none() {
    let server = start().await;
    let wide = server.wide_root().await;
    let (asked, _) = opened(&server, &wide, 5).await;
    let set = |on| LockdownRequest { on, tenant: None, reason: "incident".into() };
    server.admin().await.lock_down(&set(true)).await.unwrap().unwrap();
    again(&server, &wide).await.refused(503, "temporarily_unavailable", "lockdown");
    server.admin().await.lock_down(&set(false)).await.unwrap().unwrap();
    again(&server, &wide).await.token();
    assert_eq!(shown(&server, &asked).await.envelope.unwrap().used, 1);
}

#[tokio::test]
async fn it_outlives_a_restart_as_it_stands() {
    let server = start().await;
    let toml = format!("[policy]\nbundles = ['{}']", bundle(&server).display());
    let server = server.restart_with(&toml).await;
    let wide = server.wide_root().await;
    let (asked, _) = opened(&server, &wide, 2).await;
    again(&server, &wide).await.token();
    let server = server.restart_with(&toml).await;
    again(&server, &wide).await.token();
    asks_a_person(&again(&server, &wide).await);
    assert_eq!(shown(&server, &asked).await.envelope.unwrap().used, 2);
}

/// The bundle of [`start`] in a folder that lasts.
fn bundle(server: &Server) -> std::path::PathBuf {
    let folder = server.data.path().join("bundle");
    std::fs::create_dir_all(&folder).unwrap();
    let starter = include_str!("../../policies/base/ceilings.rego");
    std::fs::write(folder.join("rules.rego"), format!("{starter}\n{POLICY}\n")).unwrap();
    folder
}

#[tokio::test]
async fn an_approver_gives_what_the_task_type_allows_and_only_with_an_approval() {
    let server = start().await;
    let wide = server.wide_root().await;
    let asked = ask_as(&server, "support-agent", &wide, &[&READ[..], &[DEFERRED]].concat()).await;
    assert_eq!(shown(&server, &asked).await.may_give, Some(EnvelopeTerms { exchanges: 5, minutes: 30 }));
    for (exchanges, minutes, words) in [
        (Some(6), None, "envelope.exchanges: at most 5"),
        (None, Some(31), "envelope.minutes: at most 30"),
        (None, None, "envelope: say"),
        (Some(0), Some(1), "envelope: say"),
    ] {
        let refused = vote(&server, id(&asked), &giving(&server, exchanges, minutes)).await.unwrap_err();
        assert_eq!(refused.error, RefusalCode::BadRequest);
        assert!(refused.message.contains(words), "{refused:?}");
    }
    let denial = Ballot { approves: false, ..giving(&server, Some(1), None) };
    let refused = vote(&server, id(&asked), &denial).await.unwrap_err();
    assert!(refused.message.starts_with("envelope:"), "{refused:?}");
    reapply(&server, ", envelope: {exchanges: 5, minutes: 30}", "").await;
    assert_eq!(shown(&server, &asked).await.may_give, None);
    let refused = vote(&server, id(&asked), &giving(&server, Some(1), None)).await.unwrap_err();
    assert!(refused.message.contains("approval.envelope"), "{refused:?}");
    assert_eq!(state(&server, &asked).await, ApprovalState::Pending);
    server.reapply("  labels: {risk: medium}\n", APPROVAL).await;
    let cast = vote(&server, id(&asked), &giving(&server, Some(2), None)).await.unwrap();
    let voted = server.decision_of(cast.decision_id).await;
    assert_eq!(voted.record["asked"]["envelope"], json!({"exchanges": 2, "minutes": 30}));
}

#[tokio::test]
async fn of_a_quorum_each_gives_one_and_the_least_of_them_counts() {
    let server = start().await;
    reapply(&server, "envelope: {", "quorum: 2, envelope: {").await;
    let wide = server.wide_root().await;
    let both = async |first: Ballot, second: Ballot| {
        let asked = ask_as(&server, "support-agent", &wide, &[&READ[..], &[DEFERRED]].concat()).await;
        vote(&server, id(&asked), &first).await.unwrap();
        let frank = ballot(true, lead(&server, json!({"sub": "frank", "sid": "sid-of-frank"})));
        let second = Ballot { session_token: frank.session_token, ..second };
        vote(&server, id(&asked), &second).await.unwrap();
        fetch(&server, &asked).await.token();
        asked
    };
    let plain = || Ballot { envelope: None, ..giving(&server, None, None) };
    let one_only = both(giving(&server, Some(5), None), plain()).await;
    assert!(shown(&server, &one_only).await.envelope.is_none());
    asks_a_person(&again(&server, &wide).await);
    let asked = both(giving(&server, Some(1), Some(20)), giving(&server, Some(4), Some(10))).await;
    let given = shown(&server, &asked).await.envelope.unwrap();
    assert_eq!((given.exchanges, given.minutes), (1, 10));
    again(&server, &wide).await.token();
    asks_a_person(&again(&server, &wide).await);
}

#[tokio::test]
async fn t38_who_said_no_to_the_very_same_is_heard_before_an_envelope() {
    let server = start().await;
    let wide = server.wide_root().await;
    let form = [&READ[..], &[("claimed", r#"{"query": "the other one"}"#)]].concat();
    let denied = ask_as(&server, "support-agent", &wide, &[&form[..], &[DEFERRED]].concat()).await;
    vote(&server, id(&denied), &ballot(false, lead(&server, json!({})))).await.unwrap();
    opened(&server, &wide, 5).await;
    let answer = server.exchange("support-agent", &wide, &form).await;
    answer.refused(400, "access_denied", "approval_denied");
    again(&server, &wide).await.token();
    server.clock.shift(601);
    server.exchange("support-agent", &wide, &form).await.token();
}

#[tokio::test]
async fn an_envelope_that_came_with_a_task_is_good_in_that_task() {
    let server = start().await;
    let form = [&[("task_type", "refund_order")][..], &READ, &[("claimed", r#"{"inner": true}"#)]].concat();
    let session = server.session(json!({}));
    let ballot = giving(&server, Some(1), None);
    let (asked, root) = opened_by(&server, ("support-agent", &session), &form, &ballot).await;
    let given = shown(&server, &asked).await.envelope.unwrap();
    assert_eq!(given.task_id.unwrap().to_string(), claims(&root)["task_id"]);
    // A session token begins another task, which nobody has approved.
    asks_a_person(&server.exchange("support-agent", &session, &form).await);
    let used = server.exchange("support-agent", &root, &[("claimed", r#"{"inner": true}"#)]).await;
    assert_eq!(server.decision(&used).await.record["envelope"], json!({"use": 1, "of": 1}));
}

#[tokio::test]
async fn people_give_envelopes_and_see_them_from_the_command_line() {
    if on_postgres() {
        // The command would read the variable that says so as a setting of the server.
        return;
    }
    let server = start().await;
    let wide = server.wide_root().await;
    let asked = ask_as(&server, "support-agent", &wide, &[&READ[..], &[DEFERRED]].concat()).await;
    let (_, out, _) = command(&server, &["show", id(&asked)], "").await;
    assert!(out.contains("at most 5 more exchanges like it in its task, for at most 30 minutes"), "{out}");
    let give =
        ["approve", id(&asked), "--reason", "seen", "--envelope-exchanges", "3", "--envelope-minutes", "10"];
    let (exit, out, err) = command(&server, &give, &lead(&server, json!({}))).await;
    assert!(exit == Exit::Done && out.contains("its envelope: 0 of 3 used, until"), "{out}{err}");
    fetch(&server, &asked).await.token();
    again(&server, &wide).await.token();
    let (_, out, _) = command(&server, &["show", id(&asked)], "").await;
    for word in [
        "and 3 more like it for 10 minutes",
        "1 of 3 used, until",
        claims(&wide)["task_id"].as_str().unwrap(),
    ] {
        assert!(out.contains(word), "{word}\n{out}");
    }
    let (_, out, _) = command(&server, &["list", "--all"], "").await;
    assert!(out.contains("[envelope: 1 of 3 used, until"), "{out}");
    let (exit, out, err) = command(&server, &["cancel", id(&asked), "--reason", "enough"], "").await;
    assert!(exit == Exit::Done && out.contains("its envelope: 1 of 3 used, taken back"), "{out}{err}");
    let (_, out, _) = command(&server, &["show", id(&asked), "--json"], "").await;
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&json["envelope"]["used"], &json["envelope"]["ended"]), (&json!(1), &json!("cancelled")));
}

#[tokio::test]
async fn the_example_of_the_how_to_ends_as_it_says() {
    let page = include_str!("../../docs/how-to/approvals.md");
    let rule = page.split("```rego\n").nth(1).unwrap().split("```").next().unwrap();
    let server = Server::start_with_policy(rule).await;
    server.reapply("  labels: {risk: medium}\n", APPROVAL).await;
    let wide = server.wide_root().await;
    let details =
        |amount: u32| json!([{"type": "tool_call", "tools": ["refund_order"], "amount": amount}]).to_string();
    let refund = async |amount: u32, more: &[(&str, &str)]| {
        let details = details(amount);
        let form = [("resource", ORDERS), ("scope", "refunds:write"), ("authorization_details", &details)];
        server.exchange("support-agent", &wide, &[&form[..], more].concat()).await
    };
    refund(50, &[]).await.token();
    let asked = refund(100, &[DEFERRED]).await;
    asked.refused(400, "authorization_pending", "approval_pending");
    vote(&server, id(&asked), &giving(&server, Some(5), Some(20))).await.unwrap();
    fetch(&server, &asked).await.token();
    for (amount, number) in [(80, 1), (100, 2)] {
        let used = refund(amount, &[]).await;
        assert_eq!(server.decision(&used).await.record["envelope"], json!({"use": number, "of": 5}));
    }
    asks_a_person(&refund(101, &[]).await);
    let unneeded = refund(50, &[]).await;
    assert!(server.decision(&unneeded).await.record["envelope"].is_null(), "nobody would be asked");
}
