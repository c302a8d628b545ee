//! Several servers beside one PostgreSQL: one log, one configuration, one set of keys, and no law lost between them.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use serde_json::{Value, json};
use taskgrant::admin::keys::StopRequest;
use taskgrant::admin::policy::{ApplyPolicy, LoadCandidate};
use taskgrant::approvals::{Ballot, EnvelopeAsked};
use taskgrant::clock::{Clock as _, Random};
use taskgrant::configuration::apply::policy::{BundleFile, PolicyStatus};
use taskgrant::configuration::apply::replicas::{Difference, ReplicaStatus, Runs};
use taskgrant::domain::decision::{Decision, Kind, Outcome, Record};
use taskgrant::domain::record::RevocationKey;
use taskgrant::store::Store;
use taskgrant::store::change::Revoke;
use taskgrant::store::folder::Location;
use taskgrant::store::writer::Writer;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::store::raw::Raw;
use crate::support::approvals::{approve, ask_as, ballot, fetch, id, lead, vote};
use crate::support::database;
use crate::support::idp::{Idp, header};
use crate::support::postgres::Scratch;
use crate::support::process::{Site, free_port};
use crate::support::replicas::{first, keys_of, two};
use crate::support::server::{ORDERS, Server, http, secret};

const ROOT: [(&str, &str); 2] = [("task_type", "refund_order"), ("resource", ORDERS)];
/// Far more than any bound of ours: tests share their machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for what a replica does once it has seen what another did.
async fn soon(what: impl AsyncFn() -> bool) {
    let began = Instant::now();
    while !what().await {
        assert!(began.elapsed() < PATIENCE, "it does not happen");
        sleep(Duration::from_millis(20)).await;
    }
}

async fn published(server: &Server) -> BTreeSet<String> {
    let keys = server.get("/oauth/jwks", &[]).await.body["keys"].clone();
    keys.as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

async fn signs(server: &Server) -> String {
    header(&server.root().await)["kid"].as_str().unwrap().to_owned()
}

/// Why a server is not ready.
async fn reasons(server: &Server) -> String {
    server.get("/readyz", &[]).await.body["reasons"].to_string()
}

/// What introspection says; a reader that had to wait too long behind 64 clients is asked again.
async fn introspected(server: &Server, token: &str) -> Value {
    loop {
        let answer = server.introspect("orders-api", token).await;
        if answer.status != 503 {
            return answer.body;
        }
    }
}

const CHILDREN_OF_THE_DEAD: &str = "SELECT count(*) FROM tokens t \
     JOIN decisions born ON born.id = t.decision_id \
     JOIN revocations r ON r.kind = 'token' AND position(r.key IN t.ancestors) > 0 \
     JOIN decisions died ON died.id = r.decision_id WHERE born.idx > died.idx";
const CHILDREN_OF_THE_LIVING: &str = "SELECT count(*) FROM tokens t \
     JOIN decisions born ON born.id = t.decision_id \
     JOIN revocations r ON r.kind = 'token' AND position(r.key IN t.ancestors) > 0 \
     JOIN decisions died ON died.id = r.decision_id WHERE born.idx < died.idx";

/// Hand-overs of which people approved three more, made on two replicas at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ap_05_an_envelope_is_used_no_more_often_on_two_replicas_than_it_says() {
    let Some(replicas) = two().await else { return };
    let first = &replicas[0];
    let asks = "  labels: {risk: medium}\n  approval: {when: always, approvers: [group:support-leads], envelope: {exchanges: 3, minutes: 30}}\n";
    first.reapply("  labels: {risk: medium}\n", asks).await;
    let session = first.session(json!({}));
    let waiting = ("completion_mode", "deferred");
    let asked = ask_as(first, "support-agent", &session, &[&ROOT[..], &[waiting]].concat()).await;
    approve(first, &asked).await;
    let root = fetch(first, &asked).await.token();
    let handing =
        [("audience", first.issuer.as_str()), ("delegate_to", "worker-agent"), ("resource", ORDERS)];
    let asked = ask_as(first, "support-agent", &root, &[&handing[..], &[waiting]].concat()).await;
    let envelope = Some(EnvelopeAsked { exchanges: Some(3), minutes: None });
    let giving = Ballot { envelope, ..ballot(true, lead(first, json!({}))) };
    vote(first, id(&asked), &giving).await.unwrap();
    fetch(first, &asked).await.token();

    let issuer = first.issuer.clone();
    let replicas = Arc::new(replicas);
    let mut racing = JoinSet::new();
    for at in 0..16 {
        let (replicas, root, issuer) = (replicas.clone(), root.clone(), issuer.clone());
        racing.spawn(async move {
            let handing =
                [("audience", issuer.as_str()), ("delegate_to", "worker-agent"), ("resource", ORDERS)];
            replicas[at % 2].exchange("support-agent", &root, &handing).await
        });
    }
    let answers = racing.join_all().await;
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        answer.refused(400, "interaction_required", "approval_required");
    }
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 3);
    // The other replica tells it too.
    let shown = replicas[1].admin().await.approval(id(&asked)).await.unwrap().unwrap();
    assert_eq!(shown.envelope.unwrap().used, 3);
}

/// 64 clients exchange children of eight roots on two replicas, while each root is revoked on one of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn l4_t26_no_child_is_committed_after_its_ancestors_death_whichever_replica_did_either() {
    let Some(replicas) = two().await else { return };
    let replicas = Arc::new(replicas);
    let mut roots = Vec::new();
    for _ in 0..8 {
        roots.push(replicas[0].root().await);
    }
    let (roots, refused, born) =
        (Arc::new(roots), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut clients = JoinSet::new();
    for client in 0..64 {
        let (replicas, roots, refused, born) =
            (replicas.clone(), roots.clone(), refused.clone(), born.clone());
        clients.spawn(async move {
            let mut held = roots[client % roots.len()].clone();
            for turn in 0..40 {
                let server = &replicas[(client + turn) % 2];
                let answer = server.exchange("support-agent", &held, &[("scope", "orders:read")]).await;
                if answer.status == 503 {
                    // A reader that had to wait too long: on a busy machine 64 clients are many.
                    continue;
                }
                if answer.status != 200 {
                    answer.refused(400, "invalid_request", "revoked");
                    refused.fetch_add(1, Ordering::SeqCst);
                    return;
                }
                born.fetch_add(1, Ordering::SeqCst);
                // Deeper each time, and from the root again before the tree is too high.
                held = if turn % 8 == 7 { roots[client % roots.len()].clone() } else { answer.token() };
            }
        });
    }
    for (at, root) in roots.iter().enumerate() {
        let before = born.load(Ordering::SeqCst);
        let began = Instant::now();
        while born.load(Ordering::SeqCst) < before + 40 && began.elapsed() < Duration::from_secs(2) {
            sleep(Duration::from_millis(5)).await;
        }
        while replicas[at % 2].revoke("support-agent", root).await.status != 200 {}
        // At once, on both.
        for server in replicas.iter() {
            assert_eq!(introspected(server, root).await, json!({"active": false}));
        }
    }
    clients.join_all().await;
    let mut raw = Raw::connect(&database::location(replicas[0].data.path())).await;
    raw.verify(&replicas[0].store.head().await.unwrap()).await;
    assert_eq!(raw.number(CHILDREN_OF_THE_DEAD).await, 0);
    let (living, refused) = (raw.number(CHILDREN_OF_THE_LIVING).await, refused.load(Ordering::SeqCst));
    assert!(living > 64 && refused > 8, "hardly a race: {living} children before, {refused} clients after");
}

/// A principal is revoked by a third writer while root exchanges run on both replicas.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn l4_a_revocation_of_the_principal_during_root_exchanges_leaves_no_live_token() {
    let Some(replicas) = two().await else { return };
    let replicas = Arc::new(replicas);
    let session = replicas[0].session(json!({}));
    let started = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for client in 0..64 {
        let (replicas, session, started) = (replicas.clone(), session.clone(), started.clone());
        clients.spawn(async move {
            let mut tokens = Vec::new();
            loop {
                let answer = replicas[client % 2].exchange("support-agent", &session, &ROOT).await;
                if answer.status == 503 {
                    continue;
                }
                if answer.status != 200 {
                    answer.refused(400, "invalid_request", "revoked");
                    return tokens;
                }
                tokens.push(answer.token());
                started.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
    soon(async || started.load(Ordering::SeqCst) > 100).await;
    revoke_principal(&replicas[0], "alice").await;
    let tokens: Vec<String> = clients.join_all().await.into_iter().flatten().collect();
    for (at, token) in tokens.iter().enumerate() {
        let answer = introspected(&replicas[at % 2], token).await;
        assert_eq!(answer, json!({"active": false}), "token {at} of {}", tokens.len());
    }
    // A fresh login works again, once the revocation's margin has passed.
    replicas[0].clock.shift(3);
    let now = replicas[0].now();
    let fresh = replicas[1].session(json!({"auth_time": now, "iat": now, "sid": "sid-2"}));
    replicas[1].exchange("support-agent", &fresh, &ROOT).await.token();
}

async fn revoke_principal(server: &Server, sub: &str) {
    let store = Store::open(&database::location(server.data.path())).await.unwrap();
    let (writer, task) = Writer::spawn(&store, Arc::new(server.clock.clone()), TimeDelta::zero());
    let now = server.clock.now();
    let decision = Decision {
        id: Random::default().decision(now),
        kind: Kind::Admin,
        at: now,
        tenant: None,
        outcome: Outcome::Allow,
        policy: None,
        task_type: None,
        record: Record::default(),
        input: None,
    };
    let keys = vec![RevocationKey::principal(&server.idp.issuer, sub)];
    let revoke = Revoke { keys, keep_until: now + TimeDelta::hours(9), reason: "left".to_owned(), decision };
    writer.submit(revoke).await.unwrap();
    drop(writer);
    task.await.unwrap();
    store.close().await;
}

#[tokio::test]
async fn what_one_replica_applies_is_in_force_on_the_other_also_where_the_notification_is_lost() {
    let Some([first, second]) = two().await else { return };
    let status = async |client| second.post("/oauth/introspect", client, &[("token", "none")]).await.status;
    assert_eq!(status("support-agent").await, 200);
    let objects = first.objects();
    first.reapply("client_id: support-agent", "client_id: support-agent\n  disabled: true").await;
    soon(async || status("support-agent").await == 401).await;
    first.apply(&objects).await.unwrap();
    soon(async || status("support-agent").await == 200).await;
    // Past every server, and without a notification: an agent is retired.
    assert_eq!(status("stranger-agent").await, 200);
    let retire = "UPDATE objects SET is_current = FALSE WHERE name = 'stranger'; \
                  UPDATE log_head SET generation = generation + 1";
    first.sql(retire).await;
    soon(async || status("stranger-agent").await == 401).await;
}

#[tokio::test]
async fn keys_come_wait_sign_and_are_stopped_on_all_replicas() {
    let Some([first, second]) = two().await else { return };
    let old = signs(&first).await;
    assert_eq!(signs(&second).await, old);

    let new = first.admin().await.rotate_keys().await.unwrap().unwrap().kid;
    let both = BTreeSet::from([old.clone(), new.clone()]);
    soon(async || published(&second).await == both).await;
    assert_eq!((published(&first).await, signs(&second).await), (both, old.clone()));
    first.clock.shift(361);
    soon(async || signs(&first).await == new && signs(&second).await == new).await;
    soon(async || second.store.setting("signing_key").await.unwrap().as_ref() == Some(&new)).await;

    let (doomed, here) = (first.wide_root().await, second.introspect("support-agent", "x").await);
    assert_eq!(here.status, 200);
    let stop = StopRequest { kids: vec![], confirmed: true };
    let stopped = second.admin().await.stop_keys(&stop).await.unwrap().unwrap();
    let fresh = stopped.signing.unwrap();
    soon(async || !published(&first).await.contains(&new)).await;
    soon(async || signs(&first).await == fresh && signs(&second).await == fresh).await;
    soon(async || published(&first).await == published(&second).await).await;
    for server in [&first, &second] {
        assert_eq!(server.introspect("support-agent", &doomed).await.body, json!({"active": false}));
        let child = server.exchange("support-agent", &doomed, &[("resource", ORDERS)]).await;
        assert_eq!(child.status, 400, "{child:?}");
    }
}

#[tokio::test]
async fn a_replica_without_the_key_that_signs_neither_starts_nor_goes_on() {
    let Some(first) = first("").await else { return };
    let kid = signs(&first).await;
    let Err(fault) = first.replica("").await else { panic!("it started with keys of its own") };
    let told = fault.to_string();
    assert!(told.contains(&kid) && told.contains("replicas share their key files"), "{told}");

    // A copy of the files serves, until they differ.
    let copy = tempfile::tempdir().unwrap();
    copy_keys(&first, &copy);
    let toml = format!("[keys]\nfolder = '{}'", copy.path().join("keys").display());
    let second = first.replica(&toml).await.unwrap();
    assert_eq!(signs(&second).await, kid);
    first.admin().await.rotate_keys().await.unwrap().unwrap();
    first.clock.shift(361);
    let new = signs(&first).await;
    soon(async || reasons(&second).await.contains(&new)).await;
    assert_eq!(second.get("/readyz", &[]).await.status, 503);
    let held = second.exchange("support-agent", &second.session(json!({})), &ROOT).await;
    assert_eq!((held.status, &held.body["access_token"]), (503, &Value::Null), "{held:?}");
    assert_eq!(reasons(&first).await, "[]");
    copy_keys(&first, &copy);
    soon(async || reasons(&second).await == "[]").await;
    assert_eq!(signs(&second).await, new);
}

fn copy_keys(from: &Server, to: &TempDir) {
    let to = to.path().join("keys");
    fs::create_dir_all(&to).unwrap();
    for entry in fs::read_dir(from.data.path().join("data/keys")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

/// The schema brings a clock of its own, which hides the server's.
#[tokio::test]
async fn a_database_whose_clock_differs_stops_issuing_and_says_so() {
    let Some(scratch) = Scratch::new().await else { return };
    let url = scratch.url().replace("&application_name", ",pg_catalog&application_name");
    let data = Arc::new(tempfile::tempdir().unwrap());
    database::migrate(data.path(), &url).await;
    let clock = "CREATE TABLE skew AS SELECT 0 AS seconds; \
         CREATE FUNCTION clock_timestamp() RETURNS timestamptz LANGUAGE sql AS \
           'SELECT pg_catalog.clock_timestamp() + (SELECT seconds FROM skew) * interval ''1 s'''";
    database::execute(data.path(), String::new(), clock.to_owned()).await;
    let server = Server::start_in(data, Idp::start().await, "").await;
    server.root().await;
    server.sql("UPDATE skew SET seconds = 5").await;
    soon(async || {
        reasons(&server).await.contains("the database's clock differs from this machine's by +5 s")
    })
    .await;
    let held = server.exchange("support-agent", &server.session(json!({})), &ROOT).await;
    held.refused(503, "temporarily_unavailable", "clock_unsteady");
    server.sql("UPDATE skew SET seconds = 0").await;
    soon(async || reasons(&server).await == "[]").await;
    server.root().await;
}

#[tokio::test]
async fn a_server_refuses_an_unknown_schema_and_migrate_brings_it_up() {
    let Some(scratch) = Scratch::new().await else { return };
    let site = Site::new().await;
    database::write(&site.path("url"), &scratch.url());
    site.reconfigure("data = 'data'", "data = 'data'\ndatabase_file = 'url'");
    let (status, told) = site.told(&["serve"]).await;
    assert!(status == 1 && told.contains("run `taskgrant migrate` first"), "{status}: {told}");
    let (status, told) = site.told(&["migrate", "--check"]).await;
    assert!(status == 1 && told.contains("lacking 0001 init"), "{status}: {told}");
    // Two at once: one applies, both find it applied.
    let (one, other) = tokio::join!(site.told(&["migrate"]), site.told(&["migrate"]));
    assert_eq!((one.0, other.0), (0, 0), "{one:?} {other:?}");
    let (status, told) = site.told(&["migrate", "--check"]).await;
    assert!(status == 0 && told.contains("the schema is up to date"), "{status}: {told}");

    // Without a server nothing is changed, and plans are made all the same.
    for command in [&["apply", "-f", "objects.yaml", "--allow-widening"][..], &["keys", "list"]] {
        let (status, told) = site.told(command).await;
        assert!(status == 1 && told.contains("changes go through a server"), "{status}: {told}");
    }
    let (status, told) = site.told(&["plan", "-f", "objects.yaml"]).await;
    assert_eq!(status, 2, "{told}");
    let server = site.start().await;
    site.apply().await;
    server.terminate().await;

    let mut raw = Raw::connect(&scratch.url().parse().unwrap()).await;
    raw.execute(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'later', TRUE, '', 0)",
    )
    .await;
    let (status, told) = site.told(&["serve"]).await;
    assert!(status == 1 && told.contains("migration 9999") && told.contains("run a newer one"), "{told}");
    scratch.remove().await;
}

/// A site on SQLite moves: what lived lives on, the log goes on from where it was, and a second copy is refused.
#[tokio::test]
async fn a_deployment_on_sqlite_moves_to_postgresql_with_nothing_lost() {
    let Some(scratch) = Scratch::new().await else { return };
    let site = Site::new().await;
    let server = site.start().await;
    site.apply().await;
    let (client, password) = ("support-agent", secret("support-agent"));
    let claims = json!({"org_id": "acme", "groups": ["support"], "client_id": "console"});
    let root = site.start_task((client, &password), claims, &ROOT).await;
    let token = root["access_token"].as_str().unwrap_or_else(|| panic!("{root}")).to_owned();
    database::write(&site.path("url"), &scratch.url());
    let copying = ["store", "copy", "--from", "data", "--to", &scratch.url()];
    let (status, told) = site.told(&copying).await;
    assert!(status == 1 && told.contains("in use by process"), "beside a server: {told}");
    server.terminate().await;

    let (status, told) = site.told(&copying).await;
    assert!(status == 1 && told.contains("taskgrant migrate"), "without a schema: {told}");
    let nowhere = ["store", "copy", "--from", "nowhere", "--to", &scratch.url()];
    let (status, told) = site.told(&nowhere).await;
    assert!(status == 1 && told.contains("`nowhere` holds no database"), "{told}");
    site.reconfigure("data = 'data'", "data = 'data'\ndatabase_file = 'url'");
    assert_eq!(site.told(&["migrate"]).await.0, 0);
    let (status, told) = site.told(&["store", "copy", "--from", "data"]).await;
    assert_eq!(status, 0, "{told}");

    let (mut before, mut after) = (
        Raw::connect(&Location::Folder(site.path("data"))).await,
        Raw::connect(&scratch.url().parse().unwrap()).await,
    );
    assert_eq!(before.leaves().await, after.leaves().await);
    for count in ["SELECT epoch FROM log_head", "SELECT count(*) FROM objects", "SELECT count(*) FROM tokens"]
    {
        assert_eq!(before.number(count).await, after.number(count).await, "{count}");
        assert!(after.number(count).await > 0, "{count}");
    }
    let store = Store::open(&scratch.url().parse().unwrap()).await.unwrap();
    after.verify(&store.head().await.unwrap()).await;
    let (status, told) = site.told(&["store", "copy", "--from", "data"]).await;
    assert!(status == 1 && told.contains("holds data already"), "{told}");

    let server = site.start().await;
    let child = site.exchange_session((client, &password), &token, &[("scope", "orders:read")]).await;
    assert_eq!(child["scope"], "orders:read", "{child}");
    server.terminate().await;
    after.verify(&store.head().await.unwrap()).await;
    store.close().await;
    scratch.remove().await;
}

async fn status(server: &Server) -> PolicyStatus {
    // Once it serves, its admin socket is there.
    assert_eq!(server.get("/healthz", &[]).await.status, 200);
    server.admin().await.policy().await.unwrap().unwrap()
}

const ROWS: &str = "SELECT count(*) FROM replicas";

/// Its port, by which the name of a replica ends.
fn port(url: &str) -> &str {
    url.rsplit(':').next().unwrap()
}

/// What is told of the replica that listens at the port of `url`.
fn at(told: &PolicyStatus, url: &str) -> Option<ReplicaStatus> {
    let name = format!(":{}", port(url));
    told.replicas.iter().find(|replica| replica.name.ends_with(&name)).cloned()
}

fn bundle(rules: &str) -> Vec<BundleFile> {
    let starter = include_str!("../../policies/base/ceilings.rego");
    vec![BundleFile { path: "sent/rules.rego".to_owned(), text: format!("{starter}\n{rules}\n") }]
}

#[tokio::test]
async fn a_server_alone_tells_of_itself_as_replicas_do_and_takes_its_row_out() {
    let server = Server::start().await;
    let (data, told) = (server.data.clone(), status(&server).await);
    let [own] = told.replicas.as_slice() else { panic!("{told:?}") };
    assert_eq!(at(&told, &server.issuer).as_ref(), Some(own));
    assert_eq!((own.lost, own.differs.as_slice(), &own.told.runs), (false, [].as_slice(), &Some(Runs::Vm)));
    assert_eq!(
        (own.told.serving.as_ref(), own.told.generation),
        (told.policy.as_ref(), Some(told.generation))
    );
    soon(async || server.count(ROWS).await == 1).await;
    server.stop().await;
    assert_eq!(database::count(data.path(), ROWS).await, 0);
}

#[tokio::test]
async fn policy_status_prints_a_table_where_a_replica_differs_and_none_where_all_is_well() {
    let site = Site::new().await;
    let server = site.start().await;
    site.apply().await;
    let (code, told) = site.told(&["policy", "status"]).await;
    assert!(code == 0 && !told.contains("replicas:"), "{code}: {told}");
    fs::create_dir(site.path("rules")).unwrap();
    fs::write(site.path("rules/rules.rego"), &bundle("")[0].text).unwrap();
    server.kill();
    site.configure("[policy]\nbundles = ['rules']");
    let server = site.start().await;
    fs::write(site.path("rules/bad.rego"), "package taskgrant.exchange\nallow if").unwrap();
    server.hang_up();
    site.logged("not fit").await;
    let (code, told) = site.told(&["policy", "status"]).await;
    assert_eq!(code, 1, "{told}");
    assert!(
        told.contains("replicas:    1, 1 differ, 0 lost; `*` marks"),
        "who was killed is not there: {told}"
    );
    let row = told.lines().skip_while(|line| !line.starts_with("  NAME")).nth(1).unwrap();
    assert!(row.contains(&format!(":{}* ", port(&site.issuer))), "{told}");
    assert!(told.contains("      refused:     at ") && told.contains("rules/bad.rego:2:"), "{told}");
    server.terminate().await;
    let (_, told) = site.told(&["policy", "status"]).await;
    assert!(!told.contains("replicas:"), "nothing is served from a folder: {told}");
}

#[tokio::test]
async fn what_one_replica_refuses_and_sees_of_a_candidate_the_other_one_tells_too() {
    let Some([first, second]) = two().await else { return };
    let both = async || status(&second).await.replicas;
    soon(async || both().await.len() == 2).await;
    soon(async || both().await.iter().all(|replica| replica.differs.is_empty() && !replica.lost)).await;

    let deny =
        r#"deny contains {"code": "no", "message": "m", "public": true} if input.principal.sub == "bob""#;
    let candidate = LoadCandidate { files: bundle(deny), shadow: false, reason: None };
    first.admin().await.load_candidate(&candidate).await.unwrap().unwrap();
    soon(async || both().await.iter().all(|replica| replica.told.candidate.is_some())).await;
    for (server, sub) in [(&first, "alice"), (&first, "bob"), (&second, "bob")] {
        let session = server.session(json!({"sub": sub, "sid": sub}));
        server.exchange("support-agent", &session, &ROOT).await.token();
    }
    // A bundle that is refused is news, and what was counted goes with it.
    let bad = ApplyPolicy { files: bundle("allow if") };
    let refused = first.admin().await.apply_policy(&bad).await.unwrap().unwrap_err();
    soon(async || at(&status(&second).await, first.url()).unwrap().told.refused.is_some()).await;
    let told = status(&second).await;
    let there = at(&told, first.url()).unwrap();
    assert_eq!(there.differs, [Difference::Refused]);
    let problem = there.told.refused.unwrap().problem;
    assert!(problem.contains("sent/rules.rego:") && refused.message.contains(&problem), "{problem}");
    assert_eq!(told.refused, None, "the one that answers refused nothing");
    assert_eq!(at(&told, second.url()).unwrap().differs, []);
    let total = told.candidate.unwrap().total.unwrap();
    assert_eq!((total.compared, total.agreed, total.disagreed, total.faults), (3, 1, 2, 0));
    // It takes one: then nothing is refused any more.
    first.admin().await.apply_policy(&ApplyPolicy { files: bundle("") }).await.unwrap().unwrap();
    soon(async || both().await.iter().all(|replica| replica.differs.is_empty())).await;
    second.stop().await;
    assert_eq!(status(&first).await.replicas.len(), 1, "it has said that it ends");
}

#[tokio::test]
async fn what_a_replica_refused_is_told_no_more_once_it_decides_by_what_another_one_took() {
    let (port, Some(first)) = (free_port(), first("").await) else { return };
    let toml = format!("{}\n[metrics]\nlisten = '127.0.0.1:{port}'", keys_of(&first));
    let second = first.replica(&toml).await.unwrap();
    let gauge = async || {
        let url = format!("http://127.0.0.1:{port}/metrics");
        let text = http().get(url).send().await.unwrap().text().await.unwrap();
        text.lines().find_map(|line| line.strip_prefix("taskgrant_policy_refused ").map(str::to_owned))
    };
    assert_eq!(status(&second).await.refused, None);
    let bad = ApplyPolicy { files: bundle("allow if") };
    second.admin().await.apply_policy(&bad).await.unwrap().unwrap_err();
    let told = status(&second).await;
    assert!(told.refused.is_some(), "{told:?}");
    assert_eq!(
        (at(&told, second.url()).unwrap().differs, gauge().await.as_deref()),
        (vec![Difference::Refused], Some("1"))
    );
    // What changes nothing of the policy leaves the mark.
    first.reapply("  labels: {risk: medium}\n", "  labels: {risk: low}\n").await;
    let generation = status(&first).await.generation;
    soon(async || at(&status(&second).await, second.url()).unwrap().told.generation == Some(generation))
        .await;
    assert!(status(&second).await.refused.is_some());

    let good = ApplyPolicy { files: bundle("") };
    let good = first.admin().await.apply_policy(&good).await.unwrap().unwrap().policy;
    soon(async || status(&second).await.serving.as_ref() == Some(&good)).await;
    let told = status(&second).await;
    assert_eq!((told.refused, gauge().await.as_deref()), (None, Some("0")));
    soon(async || at(&status(&first).await, second.url()).unwrap().differs.is_empty()).await;
}

#[tokio::test]
async fn a_replica_that_was_killed_is_told_to_be_lost_until_it_is_back() {
    let Some(server) = first("").await else { return };
    let site = Site::new().await;
    fs::copy(server.data.path().join("database-url"), site.path("url")).unwrap();
    site.reconfigure("data = 'data'", "data = 'data'\ndatabase_file = 'url'");
    site.reconfigure(
        &format!("public_url = '{}'", site.issuer),
        &format!("public_url = '{}'", server.issuer),
    );
    site.configure(&keys_of(&server));
    let other = async || at(&status(&server).await, &site.issuer);
    let process = site.start().await;
    soon(async || other().await.is_some_and(|other| !other.lost && other.differs.is_empty())).await;
    process.kill();
    let killed = other().await.unwrap();
    assert!(!killed.lost, "not yet");
    server.sql(&format!("UPDATE replicas SET seen_at = seen_at - 61000000 WHERE id = '{}'", killed.id)).await;
    let lost = other().await.unwrap();
    assert!(lost.lost && lost.differs.is_empty(), "{lost:?}");
    assert_eq!(lost.seen_at, killed.seen_at - TimeDelta::seconds(61), "since then");

    let process = site.start().await;
    soon(async || other().await.is_some_and(|other| other.id != killed.id)).await;
    assert_eq!(status(&server).await.replicas.len(), 2, "it is in the place of the one that was killed");
    process.terminate().await;
    assert_eq!(other().await, None);
}
