//! L3 seen from outside: whatever kills the server, a token that a client received has its record and its decision.
//!
//! `kill -9` takes away what the process has not handed to the operating system; what a power cut takes away beyond that
//! (`synchronous=FULL`) cannot be tested here.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use taskgrant::clock::Random;
use taskgrant::domain::ids::Jti;
use taskgrant::domain::record::TokenRecord;
use taskgrant::log::tree::{Frontier, leaf_hash};
use taskgrant::store::Store;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::store::raw::Raw;
use crate::support::approvals::DEFERRED;
use crate::support::idp::claims;
use crate::support::process::Site;
use crate::support::server::{ACCESS_TOKEN, ORDERS, TOKEN_EXCHANGE, encode, http, now, secret};

/// How often the server is killed.
const KILLS: usize = 10;
/// Clients that exchange all the time.
const CLIENTS: usize = 6;
/// A round has more tokens than this, and then goes on for a random time of less than this many milliseconds.
const LEAST_OF_ROUND: usize = 10;
const LONGEST_ROUND: u64 = 200;
/// How long a round may take to its tokens on a busy machine.
const PATIENCE: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_token_received_has_its_record_and_decision_after_ten_kills() {
    let site = Arc::new(Site::new().await);
    site.apply().await;
    let load = Load::start(&site);
    for round in 0..KILLS {
        let process = site.start().await;
        load.book.received_more_than(load.book.len() + LEAST_OF_ROUND).await;
        let delay = u64::from_be_bytes(Random::default().bytes()) % LONGEST_ROUND;
        sleep(Duration::from_millis(delay)).await;
        process.kill();
        load.book.round.store(round + 1, Ordering::SeqCst);
    }
    let received = load.stop().await;
    check(&site, &received).await;
    let rounds: BTreeSet<usize> = received.iter().map(|r| r.round).collect();
    assert_eq!(rounds.len(), KILLS, "each round must have issued");
    assert!(
        received.iter().any(|r| r.parent_round.is_some_and(|round| round < r.round)),
        "no child over a kill"
    );

    let process = site.start().await;
    introspect(&site, &received).await;
    assert_eq!(process.terminate().await.code(), Some(0), "{}", site.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_people_outlives_a_kill_at_each_step_and_is_fetched_once() {
    let (site, http) = (Site::new().await, http());
    site.apply().await;
    let process = site.start().await;
    let form = [("task_type", "close_account"), ("scope", "refunds:write"), ("completion_mode", "deferred")];
    let Answer::Refused(asked) = site.exchange(&http, &site.session(0, 0), &form).await else { panic!() };
    let asked: Value = serde_json::from_str(asked.strip_prefix("400: ").unwrap()).unwrap();
    let (code, id) = (asked["deferral_code"].as_str().unwrap(), asked["approval_id"].as_str().unwrap());
    process.kill();
    let process = site.start().await;
    std::fs::write(site.path("lead.jwt"), site.lead()).unwrap();
    let args = ["approvals", "approve", id, "--session-token", "lead.jwt", "--reason", "seen"];
    let (exit, told) = site.told(&args).await;
    assert_eq!(exit, 0, "{told}");
    process.kill();
    let process = site.start().await;
    let form = [("grant_type", DEFERRED), ("deferral_code", code)];
    let fetch = async || site.post(&http, "/oauth/token", "support-agent", &form).await;
    let Answer::Token(fetched) = fetch().await else { panic!("not fetched") };
    assert_eq!(fetched["scope"], "refunds:write");
    process.kill();
    let process = site.start().await;
    let Answer::Refused(again) = fetch().await else { panic!("fetched twice") };
    assert!(again.contains("deferral_code_used"), "{again}");
    process.kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_load_ends_with_0_and_loses_no_token_and_no_object() {
    let site = Arc::new(Site::new().await);
    let process = site.start().await;
    assert!(site.apply().await.contains("applied: "));
    let load = Load::start(&site);
    load.book.received_more_than(50).await;
    assert_eq!(process.terminate().await.code(), Some(0), "{}", site.log());
    let wal = std::fs::metadata(site.path("data/taskgrant.db-wal")).map_or(0, |file| file.len());
    assert_eq!(wal, 0, "the database has all on its own: {}", site.log());
    let received = load.stop().await;
    check(&site, &received).await;
    assert!(!site.log().contains("did not end in time"), "{}", site.log());

    let process = site.start().await;
    introspect(&site, &received).await;
    assert!(matches!(site.exchange(&http(), &site.session(0, 0), &ROOT).await, Answer::Token(_)));
    let again = site.apply().await;
    assert!(again.contains("nothing to change: 0 created, 0 changed, 16 unchanged"), "{again}");
    process.kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_server_on_the_same_folder_refuses_and_says_who_holds_it() {
    let site = Site::new().await;
    site.apply().await;
    let process = site.start().await;
    let second = site.run(&["serve"]).await;
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains(&format!("is in use by process {}", process.id())), "{said}");
    assert!(matches!(site.exchange(&http(), &site.session(0, 0), &ROOT).await, Answer::Token(_)));
    process.kill();
}

const ROOT: [(&str, &str); 3] =
    [("task_type", "refund_order"), ("resource", ORDERS), ("scope", "orders:read refunds:write")];
const CHILD: [(&str, &str); 2] = [("resource", ORDERS), ("scope", "orders:read")];

/// A token that a client holds in full.
struct Received {
    token: String,
    decision_id: String,
    round: usize,
    parent_round: Option<usize>,
}

enum Answer {
    Token(Value),
    Refused(String),
    /// No whole answer, or a 503: nothing was received.
    Nothing,
}

impl Site {
    fn session(&self, client: usize, count: usize) -> String {
        let now = now();
        let claims = json!({
            "iss": self.idp.issuer, "sub": format!("alice-{client}"), "aud": self.issuer, "client_id": "console",
            "azp": "console", "sid": format!("{client}-{count}"), "auth_time": now - 60, "iat": now,
            "exp": now + 3600, "org_id": "acme", "groups": ["support"],
        });
        self.idp.sign("at+jwt", &claims)
    }

    /// A session of somebody who approves.
    fn lead(&self) -> String {
        let now = now();
        let claims = json!({
            "iss": self.idp.issuer, "sub": "erin", "aud": self.issuer, "client_id": "back-office", "azp": "back-office",
            "sid": "sid-of-erin", "auth_time": now, "iat": now, "exp": now + 600, "org_id": "acme",
            "groups": ["support-leads"],
        });
        self.idp.sign("at+jwt", &claims)
    }

    async fn post(&self, http: &reqwest::Client, path: &str, client: &str, form: &[(&str, &str)]) -> Answer {
        let basic = STANDARD.encode(format!("{client}:{}", secret(client)));
        let request =
            http.post(format!("{}{path}", self.issuer)).header("authorization", format!("Basic {basic}"));
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(encode(form));
        let Ok(answer) = request.send().await else { return Answer::Nothing };
        let status = answer.status().as_u16();
        match (status, answer.text().await) {
            (200, Ok(body)) => Answer::Token(serde_json::from_str(&body).unwrap()),
            (503, _) | (_, Err(_)) => Answer::Nothing,
            (_, Ok(body)) => Answer::Refused(format!("{status}: {body}")),
        }
    }

    async fn exchange(&self, http: &reqwest::Client, subject: &str, with: &[(&str, &str)]) -> Answer {
        let base = [
            ("grant_type", TOKEN_EXCHANGE),
            ("subject_token", subject),
            ("subject_token_type", ACCESS_TOKEN),
        ];
        let form: Vec<_> = base.into_iter().chain(with.iter().copied()).collect();
        self.post(http, "/oauth/token", "support-agent", &form).await
    }
}

/// What the clients saw.
#[derive(Default)]
struct Book {
    received: Mutex<Vec<Received>>,
    refused: Mutex<Vec<String>>,
    round: AtomicUsize,
    stop: AtomicBool,
}

impl Book {
    fn len(&self) -> usize {
        self.received.lock().unwrap().len()
    }

    async fn received_more_than(&self, count: usize) {
        let began = Instant::now();
        while self.len() <= count {
            let refused = self.refused.lock().unwrap().first().cloned();
            assert!(began.elapsed() < PATIENCE, "no token; refused: {refused:?}");
            sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Clients that go on over every restart.
struct Load {
    book: Arc<Book>,
    clients: JoinSet<()>,
}

impl Load {
    fn start(site: &Arc<Site>) -> Self {
        let (book, mut clients) = (Arc::<Book>::default(), JoinSet::new());
        for client in 0..CLIENTS {
            clients.spawn(run(client, site.clone(), book.clone()));
        }
        Self { book, clients }
    }

    /// Ends the load. Nothing that it sent may have been refused: what was received before a kill counts after it.
    async fn stop(self) -> Vec<Received> {
        self.book.stop.store(true, Ordering::SeqCst);
        self.clients.join_all().await;
        let refused = std::mem::take(&mut *self.book.refused.lock().unwrap());
        assert!(refused.is_empty(), "{} refused, first: {:?}", refused.len(), refused.first());
        std::mem::take(&mut *self.book.received.lock().unwrap())
    }
}

/// A root, two children of it, the next root: each is tried until the server answers, be it after a restart.
async fn run(client: usize, site: Arc<Site>, book: Arc<Book>) {
    let http = http();
    let mut held: Option<(String, usize)> = None;
    let mut count = 0;
    while !book.stop.load(Ordering::SeqCst) {
        let parent = held.as_ref().filter(|_| count % 3 != 0);
        let answer = match parent {
            Some((token, _)) => site.exchange(&http, token, &CHILD).await,
            None => site.exchange(&http, &site.session(client, count), &ROOT).await,
        };
        match answer {
            Answer::Token(body) => {
                let token = body["access_token"].as_str().unwrap().to_owned();
                let decision_id = body["decision_id"].as_str().unwrap().to_owned();
                let (round, parent_round) =
                    (book.round.load(Ordering::SeqCst), parent.map(|(_, round)| *round));
                if parent.is_none() {
                    held = Some((token.clone(), round));
                }
                book.received.lock().unwrap().push(Received { token, decision_id, round, parent_round });
                count += 1;
                sleep(Duration::from_millis(1)).await;
            }
            Answer::Refused(why) => {
                book.refused.lock().unwrap().push(why);
                held = None;
                sleep(Duration::from_millis(20)).await;
            }
            Answer::Nothing => sleep(Duration::from_millis(5)).await,
        }
    }
}

/// Nobody holds the folder now: every token received is recorded, and the log is whole.
async fn check(site: &Site, received: &[Received]) {
    let store = Store::open(&site.location()).await.unwrap();
    let mut faults = Vec::new();
    for one in received {
        if let Err(why) = recorded(&store, one).await {
            faults.push(format!("round {}: {why}", one.round));
        }
    }
    assert!(faults.is_empty(), "{} of {} tokens: {faults:#?}", faults.len(), received.len());

    // Dense, each record as its leaf binds it, no token without decision or task; and no decision without its token.
    let mut raw = Raw::connect(&site.location()).await;
    let head = store.head().await.unwrap();
    raw.verify(&head).await;
    let mut tree = Frontier::default();
    for leaf in raw.leaves().await {
        tree.append(leaf_hash(&leaf));
    }
    assert_eq!((tree.size(), tree.root()), (head.frontier.size(), head.frontier.root()));
    assert_eq!(raw.number(ALLOWED).await, raw.number("SELECT count(*) FROM tokens").await);
    assert!(raw.number(ALLOWED).await >= i64::try_from(received.len()).unwrap());
    store.close().await;
}

const ALLOWED: &str = "SELECT count(*) FROM decisions WHERE kind = 'exchange' AND outcome = 'allow'";

async fn recorded(store: &Store, one: &Received) -> Result<(), String> {
    let claims = claims(&one.token);
    let jti: Jti = claims["jti"].as_str().unwrap().parse().unwrap();
    let token: TokenRecord = store.token(jti).await.unwrap().ok_or("a token without a record")?;
    let decision = store.decision(token.decision_id).await.unwrap().ok_or("a token without a decision")?;
    let leaf: Value = serde_json::from_slice(&decision.leaf).unwrap();
    let record: Value =
        serde_json::from_slice(&decision.record.ok_or("a decision without a record")?).unwrap();
    let same = [
        (token.decision_id.to_string(), one.decision_id.clone()),
        (token.exp.timestamp().to_string(), claims["exp"].to_string()),
        (json!(token.parent.map(|p| p.to_string())).to_string(), claims["parent_jti"].to_string()),
        (leaf["id"].to_string(), json!(one.decision_id).to_string()),
        (leaf["outcome"].to_string(), "\"allow\"".to_owned()),
        (record["jti"].to_string(), claims["jti"].to_string()),
    ];
    match same.into_iter().find(|(stored, told)| stored != told) {
        Some((stored, told)) => Err(format!("stored {stored}, told {told}")),
        None => Ok(()),
    }
}

/// The last token, and up to a hundred more, are active.
async fn introspect(site: &Site, received: &[Received]) {
    let http = http();
    for one in received.iter().step_by(received.len() / 100 + 1).chain(received.last()) {
        let answer = site.post(&http, "/oauth/introspect", "orders-api", &[("token", &one.token)]).await;
        assert!(matches!(&answer, Answer::Token(body) if body["active"] == true), "round {}", one.round);
    }
}
