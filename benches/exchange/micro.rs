//! F, V and X in process, one thread of ours, and how X grows. Nothing that is timed is asserted.

use std::fs;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};
use taskgrant::app::App;
use taskgrant::clock::SystemClock;
use taskgrant::config::Config;
use taskgrant::configuration::apply::Options;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tower::ServiceExt as _;

use crate::naive;
use crate::world::{Idp, Outcome, authorization, median, objects, toml};

/// The server of the bench calls itself so; nothing listens there.
const OWN: &str = "http://127.0.0.1:1";
/// Exchanges under way at once, so that commits are shared as under load.
const IN_FLIGHT: usize = 64;
/// Operations of one measurement.
const OPERATIONS: usize = 1500;
/// Rounds of which the median is taken.
const ROUNDS: usize = 5;

/// What one operation cost: on the wall, and on all processors of this process.
#[derive(Clone, Copy)]
struct Cost {
    wall: f64,
    cpu: f64,
}

/// One round of floors.
struct Round {
    f: Cost,
    v: Cost,
    x: Cost,
}

/// A server in process.
struct Server {
    router: Router,
    _app: App,
    _data: TempDir,
}

impl Server {
    async fn start(idp: &Idp, task_types: usize) -> Outcome<Self> {
        let data = tempfile::tempdir()?;
        let config =
            Config::from_toml(&toml(OWN, "127.0.0.1:1", &data.path().join("data").to_string_lossy()))?;
        let app = App::build(config, Arc::new(SystemClock)).await?;
        let options = Options { allow_widening: true, ..Options::default() };
        app.configuration().apply(objects(&idp.issuer, OWN, task_types), options, "bench").await?;
        Ok(Self { router: taskgrant::http::router(app.public()), _app: app, _data: data })
    }
}

/// Runs all of it; `live` is the larger number of live tokens.
pub(crate) async fn run(out: &mut impl Write, live: usize) -> Outcome<()> {
    let idp = Idp::start().await?;
    let x = Server::start(&idp, 10).await?;
    let v = naive::router(OWN, idp.keys.jwks())?;
    writeln!(
        out,
        "in process, {IN_FLIGHT} in flight, {ROUNDS} rounds of {OPERATIONS}, cache off; µs for one operation"
    )?;
    floors(out, &idp, &v, &x.router).await?;

    let many = Server::start(&idp, 10_000).await?;
    grow(out, &idp, "task types 10 -> 10,000", [&x.router, &many.router]).await?;
    drop(many);
    let full = Server::start(&idp, 10).await?;
    let from = Instant::now();
    for _ in 0..live.div_ceil(10_000) {
        drive(&full.router, idp.requests(OWN, 10_000)?).await?;
    }
    writeln!(out, "issued {live} tokens in {:.1} s", from.elapsed().as_secs_f64())?;
    let few = Server::start(&idp, 10).await?;
    drive(&few.router, idp.requests(OWN, 1000)?).await?;
    grow(out, &idp, &format!("live tokens 1,000 -> {live}"), [&few.router, &full.router]).await
}

/// F V X V F in each round.
async fn floors(out: &mut impl Write, idp: &Idp, v: &Router, x: &Router) -> Outcome<()> {
    drive(v, idp.requests(OWN, 300)?).await?;
    drive(x, idp.requests(OWN, 300)?).await?;
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let before = (floor()?, drive(v, idp.requests(OWN, OPERATIONS)?).await?);
        let full = drive(x, idp.requests(OWN, OPERATIONS)?).await?;
        let after = (drive(v, idp.requests(OWN, OPERATIONS)?).await?, floor()?);
        rounds.push(Round { f: mean(before.0, after.1), v: mean(before.1, after.0), x: full });
    }
    let middle = |of: &dyn Fn(&Round) -> f64| median(rounds.iter().map(of).collect());
    writeln!(out, "                            wall     cpu")?;
    let mut line = |name: &str, wall: &dyn Fn(&Round) -> f64, cpu: &dyn Fn(&Round) -> f64| {
        writeln!(out, "{name:<24} {:7.2} {:7.2}", middle(wall), middle(cpu))
    };
    line("F  ES256 verify + sign", &|r| r.f.wall, &|r| r.f.cpu)?;
    line("V  naive", &|r| r.v.wall, &|r| r.v.cpu)?;
    line("X  full root exchange", &|r| r.x.wall, &|r| r.x.cpu)?;
    // Rates are the inverse of costs.
    line("V / F (rates)", &|r| r.f.wall / r.v.wall, &|r| r.f.cpu / r.v.cpu)?;
    line("X / V (rates)", &|r| r.v.wall / r.x.wall, &|r| r.v.cpu / r.x.cpu)?;
    line("X / F (costs)", &|r| r.x.wall / r.f.wall, &|r| r.x.cpu / r.f.cpu)?;
    Ok(())
}

/// Small, large, small in each round: the ratio of their costs.
async fn grow(out: &mut impl Write, idp: &Idp, what: &str, [small, large]: [&Router; 2]) -> Outcome<()> {
    drive(small, idp.requests(OWN, 300)?).await?;
    drive(large, idp.requests(OWN, 300)?).await?;
    let (mut wall, mut cpu) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let before = drive(small, idp.requests(OWN, OPERATIONS)?).await?;
        let at_large = drive(large, idp.requests(OWN, OPERATIONS)?).await?;
        let at_small = mean(before, drive(small, idp.requests(OWN, OPERATIONS)?).await?);
        wall.push(at_large.wall / at_small.wall);
        cpu.push(at_large.cpu / at_small.cpu);
    }
    writeln!(out, "{what:<32} x{:.2} wall, x{:.2} cpu", median(wall), median(cpu))?;
    Ok(())
}

fn mean(a: Cost, b: Cost) -> Cost {
    Cost { wall: f64::midpoint(a.wall, b.wall), cpu: f64::midpoint(a.cpu, b.cpu) }
}

/// ES256 verify and sign of 1 KiB with ring.
fn floor() -> Outcome<Cost> {
    let rng = SystemRandom::new();
    let document =
        EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &rng).map_err(|e| e.to_string())?;
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &rng);
    let pair = pair.map_err(|e| e.to_string())?;
    let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key().as_ref());
    let message = [0x5a; 1024];
    let mut signature = pair.sign(&rng, &message).map_err(|e| e.to_string())?;
    let began = Began::now()?;
    for _ in 0..OPERATIONS {
        public.verify(&message, signature.as_ref()).map_err(|e| e.to_string())?;
        signature = pair.sign(&rng, &message).map_err(|e| e.to_string())?;
    }
    began.cost(OPERATIONS)
}

/// Sends `bodies`, [`IN_FLIGHT`] at a time; each must be answered with a token.
async fn drive(router: &Router, bodies: Vec<String>) -> Outcome<Cost> {
    let count = bodies.len();
    let queue = Arc::new(Mutex::new(bodies.into_iter()));
    let authorization: Arc<str> = authorization().into();
    let mut clients = JoinSet::new();
    let began = Began::now()?;
    for _ in 0..IN_FLIGHT {
        let (router, queue, authorization) = (router.clone(), queue.clone(), authorization.clone());
        clients.spawn(async move {
            loop {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some(body) = next else { return Ok(()) };
                let request = Request::post("/oauth/token")
                    .header("authorization", &*authorization)
                    .header("content-type", "application/x-www-form-urlencoded")
                    .body(Body::from(body))
                    .map_err(|e| e.to_string())?;
                let answer = router.clone().oneshot(request).await.map_err(|e| e.to_string())?;
                if answer.status() != StatusCode::OK {
                    let body =
                        axum::body::to_bytes(answer.into_body(), 4096).await.map_err(|e| e.to_string())?;
                    return Err(String::from_utf8_lossy(&body).into_owned());
                }
            }
        });
    }
    for ended in clients.join_all().await {
        ended?;
    }
    began.cost(count)
}

struct Began {
    wall: Instant,
    cpu: f64,
}

impl Began {
    fn now() -> Outcome<Self> {
        Ok(Self { cpu: cpu("self")?, wall: Instant::now() })
    }

    fn cost(self, operations: usize) -> Outcome<Cost> {
        let operations = f64::from(u32::try_from(operations)?);
        let wall = self.wall.elapsed().as_secs_f64() * 1e6 / operations;
        Ok(Cost { wall, cpu: (cpu("self")? - self.cpu) / operations })
    }
}

/// Microseconds that the living threads of a process have run, as the Linux scheduler counts them.
pub(crate) fn cpu(process: &str) -> Outcome<f64> {
    let mut nanoseconds = 0.0;
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let told = fs::read_to_string(thread?.path().join("schedstat"))?;
        nanoseconds += told.split(' ').next().unwrap_or_default().parse::<f64>()?;
    }
    Ok(nanoseconds / 1e3)
}
