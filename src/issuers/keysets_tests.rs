use serde_json::json;

use super::super::keyset::MOST_WAITING;
use super::super::testing::{Declared, Reply, Signer, Site, dev_client, snapshot};
use super::*;
use crate::clock::ShiftedClock;
use crate::domain::objects::ObjectKind;

const ISS: &str = "https://idp.example";

struct World {
    site: Site,
    clock: ShiftedClock,
    key_sets: Arc<KeySets>,
}

fn issuer(name: &'static str, iss: &str, prefix: &str, jwks_uri: Option<&str>) -> Declared<'static> {
    let spec = json!({
        "issuer": iss, "fixed_tenant": "acme", "subject_prefix": prefix, "jwks_uri": jwks_uri,
        "accept": [{"type": "access_token", "audience": "https://taskgrant.example"}],
    });
    (ObjectKind::TrustedIssuer, "system", name, spec)
}

impl World {
    /// No issuers yet.
    async fn empty() -> Self {
        let clock = ShiftedClock::default();
        let key_sets =
            KeySets::start(dev_client(), Freshness::default(), Arc::new(clock.clone()), Arc::default());
        Self { site: Site::start().await, clock, key_sets: Arc::new(key_sets) }
    }

    /// One issuer with its key set at `/jwks`.
    async fn with_keys(signers: &[&Signer]) -> (Self, Snapshot) {
        let world = Self::empty().await;
        world.site.set("/jwks", Reply::keys(signers));
        let snapshot = snapshot(&[issuer("idp", ISS, "", Some(&world.site.url("/jwks")))]);
        world.key_sets.follow(&snapshot);
        (world, snapshot)
    }

    async fn knows(&self, snapshot: &Snapshot, signer: &Signer) -> bool {
        self.find(snapshot, signer).await.unwrap()
    }

    async fn find(&self, snapshot: &Snapshot, signer: &Signer) -> Result<bool, KeysUnavailable> {
        let jwk = signer.jwk();
        let kid = jwk["kid"].as_str();
        let issuer = snapshot.issuer(ISS).unwrap();
        let keys = self.key_sets.keys_for(issuer, kid, Algorithm::Es256).await?;
        Ok(!keys.find(kid, Algorithm::Es256).is_empty())
    }

    /// Does now what the background task would do at its next tick, and waits for it.
    async fn refresh_due(&self) {
        let mut flights = JoinSet::new();
        self.key_sets.shared.launch_due(&mut flights);
        while flights.join_next().await.is_some() {}
    }

    fn status(&self, name: &str) -> IssuerStatus {
        self.key_sets.status().into_iter().find(|s| s.name.as_str() == name).unwrap()
    }

    /// Waits until the background task has brought about `wanted`.
    async fn until(&self, wanted: impl Fn(&Self) -> bool) {
        for _ in 0..400 {
            if wanted(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the background task has not done it within 4 s");
    }
}

#[tokio::test]
async fn keys_are_fetched_in_the_background() {
    let signer = Signer::new();
    let (world, _) = World::with_keys(&[&signer]).await;
    world.until(|w| w.status("idp").ok).await;
    assert_eq!(world.site.hits("/jwks"), 1);
    assert_eq!(world.status("idp").keys, 1);
    assert_eq!(world.status("idp").last_error, None);
    world.clock.shift(300);
    world.until(|w| w.site.hits("/jwks") == 2).await;
}

#[tokio::test]
async fn keys_are_found_by_discovery_where_the_issuer_names_no_key_set() {
    let (world, signer) = (World::empty().await, Signer::new());
    let iss = world.site.url("");
    let metadata = json!({"issuer": iss, "jwks_uri": world.site.url("/keys")});
    world.site.set("/.well-known/oauth-authorization-server", Reply::json(&metadata));
    world.site.set("/keys", Reply::keys(&[&signer]));
    world.key_sets.follow(&snapshot(&[issuer("idp", &iss, "", None)]));
    world.until(|w| w.status("idp").ok).await;
}

#[tokio::test]
async fn t37_a_discovered_key_set_in_the_private_network_is_not_fetched() {
    let (world, target) = (World::empty().await, Site::start().await);
    let iss = world.site.url("");
    let private = format!("https://10.0.0.1:{}/jwks", target.address.port());
    let mapped = format!("https://[::ffff:127.0.0.1]:{}/jwks", target.address.port());
    for jwks_uri in [private, mapped] {
        let metadata = json!({"issuer": iss, "jwks_uri": jwks_uri});
        world.site.set("/.well-known/oauth-authorization-server", Reply::json(&metadata));
        world.key_sets.follow(&snapshot(&[]));
        world.key_sets.follow(&snapshot(&[issuer("idp", &iss, "", None)]));
        world.until(|w| w.status("idp").last_error.is_some()).await;
        let error = world.status("idp").last_error.unwrap();
        assert!(error.contains("not at a public address"), "{error}");
    }
    assert_eq!(target.connections(), 0);
}

#[tokio::test]
async fn jw_03_a_flood_of_unknown_kids_causes_one_fetch() {
    let (old, new) = (Signer::new(), Signer::new());
    let (world, snapshot) = World::with_keys(&[&old]).await;
    assert!(world.knows(&snapshot, &old).await);
    let (world, snapshot) = (Arc::new(world), Arc::new(snapshot));
    let found = flood(&world, &snapshot, &new, 200).join_all().await;
    assert!(found.into_iter().all(|known| known == Ok(false)));
    assert_eq!(world.site.hits("/jwks"), 1, "the first fetch was less than 10 s ago");
    world.site.set("/jwks", Reply::keys(&[&old, &new]).slow(Duration::from_millis(100)));
    world.clock.shift(10);
    let found = flood(&world, &snapshot, &new, MOST_WAITING).join_all().await;
    assert!(found.into_iter().all(|known| known == Ok(true)));
    assert_eq!(world.site.hits("/jwks"), 2, "all waited for the same fetch");
}

#[tokio::test]
async fn a_slow_key_set_holds_few_requests_and_none_for_long() {
    let (old, new) = (Signer::new(), Signer::new());
    let (world, snapshot) = World::with_keys(&[&old]).await;
    assert!(world.knows(&snapshot, &old).await);
    let (world, snapshot) = (Arc::new(world), Arc::new(snapshot));
    world.site.set("/jwks", Reply::keys(&[&old, &new]).slow(Duration::from_secs(4)));
    world.clock.shift(10);
    let refused = Err(KeysUnavailable { owner: "idp".parse().unwrap() });
    let mut tasks = flood(&world, &snapshot, &new, 200);
    for _ in MOST_WAITING..200 {
        assert_eq!(tasks.join_next().await.unwrap().unwrap(), refused, "one too many");
    }
    assert!(tasks.try_join_next().is_none(), "the others wait");
    assert!(tasks.join_all().await.into_iter().all(|known| known == refused), "but not to the end");
    let another = tokio::time::timeout(Duration::from_millis(500), world.find(&snapshot, &new)).await;
    assert_eq!(another, Ok(refused), "nobody begins to wait for what took too long already");
    assert!(world.knows(&snapshot, &old).await, "the keys that are known serve on");
    let known = Duration::from_secs(10);
    let known = tokio::time::timeout(known, async {
        while world.find(&snapshot, &new).await != Ok(true) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    known.await.expect("the fetch went on without those who waited");
    assert_eq!(world.site.hits("/jwks"), 2);
}

/// Looks for the key of `signer` so many times at once.
fn flood(
    world: &Arc<World>,
    snapshot: &Arc<Snapshot>,
    signer: &Signer,
    count: usize,
) -> JoinSet<Result<bool, KeysUnavailable>> {
    let mut tasks = JoinSet::new();
    for _ in 0..count {
        let (world, snapshot, kid) = (world.clone(), snapshot.clone(), signer.jwk()["kid"].clone());
        tasks.spawn(async move {
            let issuer = snapshot.issuer(ISS).unwrap();
            let keys = world.key_sets.keys_for(issuer, kid.as_str(), Algorithm::Es256).await?;
            Ok(!keys.find(kid.as_str(), Algorithm::Es256).is_empty())
        });
    }
    tasks
}

#[tokio::test]
async fn a_caller_who_goes_away_does_not_break_off_the_fetch() {
    let (old, new) = (Signer::new(), Signer::new());
    let (world, snapshot) = World::with_keys(&[&old]).await;
    assert!(world.knows(&snapshot, &old).await);
    world.site.set("/jwks", Reply::keys(&[&new]).slow(Duration::from_millis(200)));
    world.clock.shift(10);
    let hurried = tokio::time::timeout(Duration::from_millis(50), world.find(&snapshot, &new)).await;
    assert!(hurried.is_err());
    assert!(world.knows(&snapshot, &new).await);
    assert_eq!(world.site.hits("/jwks"), 2);
}

#[tokio::test]
async fn a_withdrawn_key_stops_at_the_next_fetch() {
    let (old, new) = (Signer::new(), Signer::new());
    let (world, snapshot) = World::with_keys(&[&old]).await;
    assert!(world.knows(&snapshot, &old).await);
    world.site.set("/jwks", Reply::keys(&[&new]));
    world.clock.shift(299);
    world.refresh_due().await;
    assert!(world.knows(&snapshot, &old).await, "not due yet");
    world.clock.shift(1);
    world.refresh_due().await;
    assert!(!world.knows(&snapshot, &old).await);
    assert!(world.knows(&snapshot, &new).await);
}

#[tokio::test]
async fn max_age_of_the_issuer_is_honoured_within_bounds() {
    for (header, wait) in [
        ("max-age=120", 120),
        ("public, Max-Age=\"120\", immutable", 120),
        ("max-age=1", 60),
        ("max-age=86400", 1800), // half of `max_stale`
        ("no-cache", 300),
        ("max-age=soon", 300),
    ] {
        let signer = Signer::new();
        let world = World::empty().await;
        let body = json!({"keys": [signer.jwk()]}).to_string();
        world.site.set("/jwks", Reply::new(200, &format!("cache-control: {header}\r\n"), &body));
        let snapshot = snapshot(&[issuer("idp", ISS, "", Some(&world.site.url("/jwks")))]);
        world.key_sets.follow(&snapshot);
        assert!(world.knows(&snapshot, &signer).await);
        // The second before, and the second itself; the steady clock runs on by far less.
        world.clock.shift(wait - 1);
        world.refresh_due().await;
        assert_eq!(world.site.hits("/jwks"), 1, "{header}");
        world.clock.shift(1);
        world.refresh_due().await;
        assert_eq!(world.site.hits("/jwks"), 2, "{header}");
    }
}

#[tokio::test]
async fn an_issuer_without_a_fetch_for_max_stale_is_refused() {
    let signer = Signer::new();
    let (world, snapshot) = World::with_keys(&[&signer]).await;
    assert!(world.knows(&snapshot, &signer).await);
    world.site.set("/jwks", Reply::new(503, "", ""));
    world.clock.shift(3590);
    world.refresh_due().await;
    assert!(world.knows(&snapshot, &signer).await, "old keys are good for an hour");
    let status = world.status("idp");
    assert!(status.ok && status.age >= Some(3590), "{status:?}");
    assert_eq!(status.last_error.as_deref(), Some("key set: the answer has status 503"));
    world.clock.shift(11);
    let refused = world.find(&snapshot, &signer).await.unwrap_err();
    assert_eq!(refused.owner.as_str(), "idp");
    assert!(!refused.to_string().contains("503"), "how the network answers is not for clients");
    assert!(!world.status("idp").ok);
    world.site.set("/jwks", Reply::keys(&[&signer]));
    world.clock.shift(10);
    assert!(world.knows(&snapshot, &signer).await, "it comes back by itself");
}

#[tokio::test]
async fn a_wall_clock_set_back_does_not_make_keys_younger() {
    let signer = Signer::new();
    let clock = ShiftedClock::default();
    let freshness = Freshness { max_age: Duration::from_mins(5), max_stale: Duration::from_secs(1) };
    let key_sets = KeySets::start(dev_client(), freshness, Arc::new(clock.clone()), Arc::default());
    let world = World { site: Site::start().await, clock, key_sets: Arc::new(key_sets) };
    world.site.set("/jwks", Reply::keys(&[&signer]));
    let snapshot = snapshot(&[issuer("idp", ISS, "", Some(&world.site.url("/jwks")))]);
    world.key_sets.follow(&snapshot);
    assert!(world.knows(&snapshot, &signer).await);
    world.site.set("/jwks", Reply::new(503, "", ""));
    world.clock.shift(-86_400);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert!(world.find(&snapshot, &signer).await.is_err());
}

#[tokio::test]
async fn a_dead_issuer_holds_up_no_other() {
    let (world, signer) = (World::empty().await, Signer::new());
    world.site.set("/dead", Reply::keys(&[]).slow(Duration::from_mins(1)));
    world.site.set("/jwks", Reply::keys(&[&signer]));
    let snapshot = snapshot(&[
        issuer("dead", "https://dead.example", "dead:", Some(&world.site.url("/dead"))),
        issuer("idp", ISS, "", Some(&world.site.url("/jwks"))),
    ]);
    world.key_sets.follow(&snapshot);
    let began = std::time::Instant::now();
    assert!(world.knows(&snapshot, &signer).await);
    world.clock.shift(300);
    world.until(|w| w.site.hits("/jwks") == 2).await;
    assert!(began.elapsed() < Duration::from_secs(4), "while the dead one is still waited for");
    assert_eq!(world.site.hits("/dead"), 1);
    assert!(!world.status("dead").ok && world.status("idp").ok);
}

#[tokio::test]
async fn failures_back_off() {
    let signer = Signer::new();
    let (world, _) = World::with_keys(&[&signer]).await;
    world.site.set("/jwks", Reply::new(500, "", ""));
    world.until(|w| w.site.hits("/jwks") >= 1).await;
    world.until(|w| w.status("idp").last_error.is_some() || w.status("idp").ok).await;
    world.clock.shift(300);
    world.refresh_due().await;
    let mut fetches = world.site.hits("/jwks");
    // From the first failure on: 10, 20, 40, 80, 160, 300, 300 s. One failure may have been there before.
    let mut waits = Vec::new();
    for _ in 0..5 {
        let mut waited = 0;
        while world.site.hits("/jwks") == fetches {
            world.clock.shift(10);
            waited += 10;
            world.refresh_due().await;
        }
        fetches = world.site.hits("/jwks");
        waits.push(waited);
    }
    assert!(waits.is_sorted() && waits[0] <= 20 && waits[4] >= 160 && waits[4] <= 300, "{waits:?}");
}

#[tokio::test]
async fn follow_adds_removes_and_starts_anew_when_the_source_changes() {
    let (one, two) = (Signer::new(), Signer::new());
    let (world, before) = World::with_keys(&[&one]).await;
    assert!(world.knows(&before, &one).await);
    world.key_sets.follow(&before);
    assert!(world.status("idp").ok, "the same source keeps its keys");
    world.site.set("/moved", Reply::keys(&[&two]));
    let after = snapshot(&[issuer("idp", ISS, "", Some(&world.site.url("/moved")))]);
    world.key_sets.follow(&after);
    assert!(world.find(&before, &two).await.is_err(), "the old source is no longer kept");
    assert!(world.knows(&after, &two).await && !world.knows(&after, &one).await);
    world.key_sets.follow(&snapshot(&[]));
    assert_eq!(world.key_sets.status(), []);
    assert!(world.find(&after, &two).await.is_err());
}

#[tokio::test]
async fn an_answer_that_is_no_key_set_keeps_the_old_keys() {
    let signer = Signer::new();
    let (world, snapshot) = World::with_keys(&[&signer]).await;
    assert!(world.knows(&snapshot, &signer).await);
    for bad in ["", "[]", "{}", "{\"keys\":{}}", "<html>"] {
        world.site.set("/jwks", Reply::new(200, "", bad));
        world.clock.shift(300);
        world.refresh_due().await;
        assert!(world.status("idp").last_error.unwrap().starts_with("key set: "), "{bad}");
        assert!(world.knows(&snapshot, &signer).await, "{bad}");
    }
}

#[tokio::test]
async fn an_empty_key_set_withdraws_all_keys() {
    let signer = Signer::new();
    let (world, snapshot) = World::with_keys(&[&signer]).await;
    assert!(world.knows(&snapshot, &signer).await);
    world.site.set("/jwks", Reply::keys(&[]));
    world.clock.shift(300);
    world.refresh_due().await;
    assert!(!world.knows(&snapshot, &signer).await);
    assert!(!world.status("idp").ok);
}
