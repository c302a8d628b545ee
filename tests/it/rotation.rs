//! Signing keys over HTTP: published before they sign, published until their last token has died, and stopped at once.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ring::rand::SystemRandom;
use serde_json::json;
use taskgrant::admin::api::{RefusalCode, Refused};
use taskgrant::admin::client::AdminClient;
use taskgrant::admin::keys::{RetireRequest, StopRequest};
use taskgrant::keys::algorithm::Algorithm;
use taskgrant::keys::jwks::JwkSet;
use taskgrant::keys::jws::Jws;
use taskgrant::keys::keyring::KeyRing;
use taskgrant::keys::signing::KeySpec;
use taskgrant::rotation::{KeyInfo, KeyState};
use tokio::time::sleep;

use crate::support::idp::{Idp, header};
use crate::support::process::Site;
use crate::support::server::{ORDERS, Server, http};

async fn admin(server: &Server) -> AdminClient {
    AdminClient::find(&server.data.path().join("data/admin.sock")).await.unwrap().unwrap()
}

async fn keys(server: &Server) -> Vec<KeyInfo> {
    admin(server).await.keys().await.unwrap().unwrap()
}

fn stop(kids: &[&str], confirmed: bool) -> StopRequest {
    StopRequest { kids: kids.iter().map(ToString::to_string).collect(), confirmed }
}

/// The published `kid`s in their order; each stands there once, and the set may be kept for five minutes.
async fn published(server: &Server) -> Vec<String> {
    let answer = server.get("/oauth/jwks", &[]).await;
    assert_eq!(answer.headers["cache-control"], "public, max-age=300");
    let keys = answer.body["keys"].as_array().unwrap();
    let kids: Vec<String> = keys.iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect();
    assert_eq!(kids.iter().collect::<BTreeSet<_>>().len(), kids.len(), "{kids:?}");
    kids
}

fn kid(token: &str) -> String {
    header(token)["kid"].as_str().unwrap().to_owned()
}

/// As any service would: the key that `kid` names in the published set verifies the token.
async fn verifies(server: &Server, token: &str) -> bool {
    let set = JwkSet::parse(server.get("/oauth/jwks", &[]).await.text.as_bytes()).unwrap();
    let jws = Jws::parse(token).unwrap();
    let keys = set.find(jws.unverified().kid, Algorithm::Es256);
    !keys.is_empty() && jws.verify_any(&keys).is_ok()
}

async fn is_active(server: &Server, token: &str) -> bool {
    server.introspect("support-agent", token).await.body["active"] == true
}

fn key_folder(server: &Server) -> PathBuf {
    server.data.path().join("data/keys")
}

/// Waits for what the server does by itself once a second.
async fn soon(what: impl AsyncFn() -> bool) {
    let began = Instant::now();
    while !what().await {
        assert!(began.elapsed() < Duration::from_secs(20), "it does not happen");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_key_is_published_before_it_signs_and_until_its_last_token_has_died() {
    let server = Server::start().await;
    let wide = server.wide_root().await;
    let old = kid(&wide);
    assert_eq!(published(&server).await, std::slice::from_ref(&old));

    let rotated = admin(&server).await.rotate_keys().await.unwrap().unwrap();
    let new = rotated.kid;
    assert!(rotated.not_before.timestamp() >= server.now() + 300, "before everybody can know it");
    assert_eq!(published(&server).await, [old.clone(), new.clone()]);
    server.clock.shift(350);
    assert_eq!(kid(&server.root().await), old);
    server.clock.shift(11);
    let by_new = server.root().await;
    assert_eq!(kid(&by_new), new);
    assert_eq!(published(&server).await, [new.clone(), old.clone()]);
    assert!(verifies(&server, &by_new).await && verifies(&server, &wide).await);

    // What the old key signed goes on as before.
    assert!(is_active(&server, &wide).await);
    let child =
        server.exchange("support-agent", &wide, &[("resource", ORDERS), ("scope", "orders:read")]).await;
    assert_eq!(kid(&child.token()), new);
    server.clock.shift(61);
    let early = admin(&server).await.retire_keys(&RetireRequest { kid: Some(old.clone()) }).await.unwrap();
    let Err(Refused { error: RefusalCode::KeyNotReady, message, .. }) = early else { panic!("{early:?}") };
    assert!(message.contains(&old) && message.contains("2 tokens"), "{message}");

    server.clock.shift(3600);
    soon(async || published(&server).await == [new.clone()]).await;
    assert_eq!(fs::read_dir(key_folder(&server)).unwrap().count(), 1);
    assert!(!is_active(&server, &wide).await);
    let files: Vec<_> = keys(&server).await.into_iter().map(|key| (key.kid, key.state)).collect();
    assert_eq!(files, [(new, KeyState::Signing)]);
}

#[tokio::test]
async fn one_rotation_follows_another_and_does_not_overtake_it() {
    let server = Server::start().await;
    let first = published(&server).await[0].clone();
    let admin = admin(&server).await;
    let rotated = admin.rotate_keys().await.unwrap().unwrap();
    let refused = admin.rotate_keys().await.unwrap().unwrap_err();
    assert_eq!(refused.error, RefusalCode::KeyNotReady);
    assert!(refused.message.contains(&rotated.kid), "{}", refused.message);
    assert_eq!(published(&server).await, [first.clone(), rotated.kid.clone()]);
    for in_use in [&first, &rotated.kid] {
        let request = RetireRequest { kid: Some(in_use.clone()) };
        assert_eq!(admin.retire_keys(&request).await.unwrap().unwrap_err().error, RefusalCode::KeyNotReady);
    }
    server.clock.shift(361);
    let again = admin.rotate_keys().await.unwrap().unwrap();
    assert_eq!(published(&server).await, [rotated.kid.clone(), again.kid, first]);
    let decision = server.store.decision(rotated.decision_id).await.unwrap().unwrap();
    let record: serde_json::Value = serde_json::from_slice(&decision.record.unwrap()).unwrap();
    assert_eq!(
        (&record["asked"]["command"], &record["asked"]["kid"]),
        (&json!("keys rotate"), &json!(rotated.kid))
    );
    assert!(record["actor"].as_str().unwrap().starts_with("uid "));
}

#[tokio::test]
async fn an_emergency_kills_what_the_key_signed_and_nothing_else() {
    let server = Server::start().await;
    let before = server.wide_root().await;
    let first = kid(&before);
    let admin = admin(&server).await;
    admin.rotate_keys().await.unwrap().unwrap();
    server.clock.shift(361);
    let (wide, narrow) = (server.wide_root().await, server.root().await);
    let leaked = kid(&wide);
    let file = PathBuf::from(&keys(&server).await[0].file);
    let copy = fs::read(&file).unwrap();

    // Without a confirmation it only tells.
    let told = admin.stop_keys(&stop(&[], false)).await.unwrap().unwrap();
    assert_eq!(
        (told.stopped[0].kid.as_str(), told.stopped[0].tokens, told.stopped[0].tasks),
        (&*leaked, 2, 2)
    );
    assert_eq!((told.decision_id, told.max_age), (None, 300));
    assert!(is_active(&server, &wide).await);

    let done = admin.stop_keys(&stop(&[], true)).await.unwrap().unwrap();
    let fresh = done.signing.unwrap();
    assert_eq!(published(&server).await, [fresh.clone(), first.clone()]);
    assert!(!file.exists());
    for dead in [&wide, &narrow] {
        assert!(!verifies(&server, dead).await && !is_active(&server, dead).await);
        let form = [("resource", ORDERS), ("scope", "orders:read")];
        let answer = server.exchange("support-agent", dead, &form).await;
        answer.refused(400, "invalid_request", "subject_token_invalid");
    }
    assert_eq!(kid(&server.root().await), fresh);
    assert!(is_active(&server, &before).await, "another key's token has nothing to do with it");
    let decision = server.store.decision(done.decision_id.unwrap()).await.unwrap().unwrap();
    let record: serde_json::Value = serde_json::from_slice(&decision.record.unwrap()).unwrap();
    assert_eq!((&record["asked"]["stop"], &record["asked"]["tokens"]), (&json!([leaked]), &json!(2)));

    // A copy of the file brings nothing back, neither by a reload nor by a restart.
    fs::write(&file, copy).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    admin.reload_keys().await.unwrap().unwrap();
    assert_eq!(published(&server).await, [fresh.clone(), first.clone()]);
    let data = server.data.clone();
    server.stop().await;
    let server = Server::start_in(data, Idp::start().await, "").await;
    assert_eq!(published(&server).await, [fresh, first]);
    assert!(!verifies(&server, &wide).await);
}

#[tokio::test]
async fn t28_what_grew_from_a_stopped_keys_token_dies_with_it_whichever_key_signed_it() {
    let server = Server::start().await;
    let wide = server.wide_root().await;
    let admin = admin(&server).await;
    admin.rotate_keys().await.unwrap().unwrap();
    server.clock.shift(361);
    let exchange_only = [("audience", server.issuer.as_str()), ("scope", "orders:read")];
    let child = server.exchange("support-agent", &wide, &exchange_only).await.token();
    let form = [("resource", ORDERS), ("scope", "orders:read")];
    let grandchild = server.exchange("support-agent", &child, &form).await.token();
    let other = server.root().await;
    assert!(kid(&child) == kid(&other) && kid(&child) != kid(&wide));

    admin.stop_keys(&stop(&[&kid(&wide)], true)).await.unwrap().unwrap();
    for dead in [&child, &grandchild] {
        assert!(verifies(&server, dead).await, "its own key is good");
        assert!(!is_active(&server, dead).await);
        server.exchange("support-agent", dead, &form).await.refused(400, "invalid_request", "revoked");
    }
    assert!(is_active(&server, &other).await);
}

#[tokio::test]
async fn an_emergency_ends_a_waiting_key_and_a_retiring_one_without_a_fresh_one() {
    let server = Server::start().await;
    let first = kid(&server.wide_root().await);
    let admin = admin(&server).await;
    let second = admin.rotate_keys().await.unwrap().unwrap().kid;
    admin.stop_keys(&stop(&[&second], true)).await.unwrap().unwrap();
    server.clock.shift(361);
    assert_eq!(published(&server).await, std::slice::from_ref(&first));
    assert_eq!(kid(&server.root().await), first);
    let third = admin.rotate_keys().await.unwrap().unwrap().kid;
    server.clock.shift(361);
    assert_eq!(published(&server).await, [third.clone(), first.clone()]);
    let done = admin.stop_keys(&stop(&[&first], true)).await.unwrap().unwrap();
    assert_eq!(done.signing.as_deref(), Some(&*third));
    assert_eq!(published(&server).await, [third]);
    let unknown = admin.stop_keys(&stop(&[&first], true)).await.unwrap().unwrap_err();
    assert!(unknown.message.contains("keys list"), "{}", unknown.message);
}

#[tokio::test]
async fn a_restart_never_signs_with_a_key_that_nobody_could_know() {
    let server = Server::start().await;
    let old = published(&server).await[0].clone();
    let new = admin(&server).await.rotate_keys().await.unwrap().unwrap().kid;
    let data = server.data.clone();
    server.stop().await;

    let server = Server::start_in(data, Idp::start().await, "").await;
    assert_eq!(published(&server).await, [old.clone(), new.clone()]);
    server.clock.shift(350);
    assert_eq!(kid(&server.root().await), old);
    server.clock.shift(11);
    assert_eq!(kid(&server.root().await), new);
    soon(async || server.store.setting("signing_key").await.unwrap().as_ref() == Some(&new)).await;
    let data = server.data.clone();
    server.stop().await;

    let server = Server::start_in(data, Idp::start().await, "").await;
    assert_eq!(published(&server).await, [new, old]);
}

#[tokio::test]
async fn another_algorithm_takes_over_like_any_other_key() {
    let server = Server::start().await;
    let old = published(&server).await[0].clone();
    let data = server.data.clone();
    server.stop().await;
    let server = Server::start_in(data, Idp::start().await, "[keys]\nalgorithm = 'EdDSA'").await;
    assert_eq!(kid(&server.root().await), old);
    let metadata = server.get("/.well-known/oauth-authorization-server", &[]).await;
    assert_eq!(metadata.body["taskgrant_token_signing_alg_values_supported"], json!(["ES256", "EdDSA"]));
    server.clock.shift(361);
    assert_eq!(header(&server.root().await)["alg"], "EdDSA");
}

#[tokio::test]
async fn a_bad_key_file_leaves_the_old_keys_serving_and_is_named() {
    let server = Server::start().await;
    let admin = admin(&server).await;
    let before = published(&server).await;
    let good = fs::read(key_folder(&server).join("0001-es256.pem")).unwrap();
    let path = key_folder(&server).join("0007-es256.pem");
    for (content, mode, why) in
        [(&good[..good.len() / 2], 0o600, "0007-es256.pem"), (&good[..], 0o644, "chmod 600")]
    {
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        for refused in [admin.reload_keys().await.unwrap().err(), admin.rotate_keys().await.unwrap().err()] {
            let refused = refused.unwrap();
            assert_eq!(refused.error, RefusalCode::KeysFaulty);
            assert!(refused.message.contains(why), "{}", refused.message);
        }
        assert_eq!(published(&server).await, before);
        assert_eq!(kid(&server.root().await), before[0]);
    }
    fs::remove_file(&path).unwrap();
    assert_eq!(admin.reload_keys().await.unwrap().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sighup_reads_the_keys_again_and_the_command_line_rotates_with_and_without_a_server() {
    let site = Site::new().await;
    let list = async |args: &[&str]| -> Vec<KeyInfo> {
        let output = site.run(&[&["keys", "list", "--json"][..], args].concat()).await;
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let first = list(&[]).await.remove(0);
    assert_eq!(first.state, KeyState::Signing);
    let output = site.run(&["keys", "rotate"]).await;
    assert!(String::from_utf8_lossy(&output.stdout).contains("when the server starts"), "{output:?}");

    let process = site.start().await;
    let states: Vec<_> = list(&[]).await.into_iter().map(|key| (key.kid == first.kid, key.state)).collect();
    assert_eq!(states, [(true, KeyState::Signing), (false, KeyState::Waiting)]);
    let told = site.run(&["keys", "rotate", "--emergency"]).await;
    assert_eq!(told.status.code(), Some(1), "{told:?}");
    let done = site.run(&["keys", "rotate", "--emergency", "--yes"]).await;
    assert!(done.status.success() && list(&[]).await.iter().all(|key| key.kid != first.kid), "{done:?}");

    // A file cut in the middle: the log names it, and the keys that serve go on.
    let (folder, before) = (site.path("data/keys"), list(&[]).await);
    let bad = folder.join("0009-es256.pem");
    fs::write(&bad, "-----BEGIN PRIVATE KEY-----\nMIG").unwrap();
    fs::set_permissions(&bad, Permissions::from_mode(0o600)).unwrap();
    process.hang_up();
    soon(async || site.log().contains("0009-es256.pem")).await;
    assert_eq!(list(&[]).await, before);
    fs::remove_file(&bad).unwrap();
    let other = tempfile::tempdir().unwrap();
    KeyRing::open(other.path(), KeySpec::default(), SystemRandom::new()).unwrap();
    fs::copy(other.path().join("0001-es256.pem"), folder.join("0009-es256.pem")).unwrap();
    process.hang_up();
    soon(async || {
        let jwks = http().get(format!("{}/oauth/jwks", site.issuer)).send().await.unwrap();
        jwks.text().await.unwrap().matches("\"kid\"").count() == before.len() + 1
    })
    .await;
    assert_eq!(process.terminate().await.code(), Some(0), "{}", site.log());
}

#[tokio::test]
async fn a_key_that_an_operator_placed_waits_like_one_that_was_made() {
    let server = Server::start().await;
    let old = published(&server).await[0].clone();
    let other = Arc::new(tempfile::tempdir().unwrap());
    let ring = KeyRing::open(other.path(), KeySpec::default(), SystemRandom::new()).unwrap();
    fs::copy(other.path().join("0001-es256.pem"), key_folder(&server).join("0002-es256.pem")).unwrap();
    let listed = admin(&server).await.reload_keys().await.unwrap().unwrap();
    assert_eq!((listed[1].kid.as_str(), listed[1].state), (ring.kid(), KeyState::Waiting));
    // Another reload does not begin the wait anew.
    server.clock.shift(200);
    admin(&server).await.reload_keys().await.unwrap().unwrap();
    assert_eq!(kid(&server.root().await), old);
    server.clock.shift(161);
    assert_eq!(kid(&server.root().await), ring.kid());
}
