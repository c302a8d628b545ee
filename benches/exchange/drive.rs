//! What measurements in process are made of: servers, requests at once, and what they cost.

use std::fs;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::Value;
use taskgrant::app::App;
use taskgrant::clock::SystemClock;
use taskgrant::config::Config;
use taskgrant::configuration::apply::Options;
use taskgrant::configuration::documents::Source;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tower::ServiceExt as _;

use crate::world::{Outcome, toml};

/// The server of the bench calls itself so; nothing listens there.
pub(crate) const OWN: &str = "http://127.0.0.1:1";
/// Exchanges under way at once, so that commits are shared as under load.
pub(crate) const IN_FLIGHT: usize = 64;
/// Operations of one measurement.
pub(crate) const OPERATIONS: usize = 1500;
/// Rounds of which the median is taken.
pub(crate) const ROUNDS: usize = 5;

/// What one operation cost: on the wall, and on all processors of this process.
#[derive(Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) wall: f64,
    pub(crate) cpu: f64,
}

/// The mean of what was measured before and after.
pub(crate) fn mean(a: Cost, b: Cost) -> Cost {
    Cost { wall: f64::midpoint(a.wall, b.wall), cpu: f64::midpoint(a.cpu, b.cpu) }
}

/// A server in process. Its data goes with it.
pub(crate) struct Server {
    pub(crate) router: Router,
    pub(crate) app: App,
    pub(crate) folder: TempDir,
}

impl Server {
    /// With these objects and, beside the bench's own, these lines of configuration.
    pub(crate) async fn start(objects: Vec<Source>, settings: &str) -> Outcome<Self> {
        let folder = tempfile::tempdir()?;
        let data = folder.path().join("data");
        let settings = toml(OWN, "127.0.0.1:1", &data.to_string_lossy()) + settings;
        let app = App::build(Config::from_toml(&settings)?, Arc::new(SystemClock)).await?;
        let options = Options { allow_widening: true, ..Options::default() };
        app.configuration().apply(objects, options, "bench").await?;
        Ok(Self { router: taskgrant::http::router(app.public()), app, folder })
    }

    /// Ends it, and leaves its data.
    pub(crate) fn end(self) -> TempDir {
        self.folder
    }
}

/// Posts a form; what is answered must be 200 and, if anything, JSON.
pub(crate) async fn post(router: &Router, path: &str, authorization: &str, body: String) -> Outcome<Value> {
    let request = Request::post(path)
        .header("authorization", authorization)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Body::from(body))?;
    let answer = router.clone().oneshot(request).await?;
    let status = answer.status();
    let body = axum::body::to_bytes(answer.into_body(), 65_536).await?;
    if status != StatusCode::OK {
        return Err(String::from_utf8_lossy(&body).into_owned().into());
    }
    Ok(if body.is_empty() { Value::Null } else { serde_json::from_slice(&body)? })
}

/// Sends `bodies`, [`IN_FLIGHT`] at a time; each must be answered with a token.
pub(crate) async fn drive(router: &Router, authorization: &str, bodies: Vec<String>) -> Outcome<Cost> {
    let count = bodies.len();
    let queue = Arc::new(Mutex::new(bodies.into_iter()));
    let authorization: Arc<str> = authorization.into();
    let mut clients = JoinSet::new();
    let began = Began::now()?;
    for _ in 0..IN_FLIGHT {
        let (router, queue, authorization) = (router.clone(), queue.clone(), authorization.clone());
        clients.spawn(async move {
            loop {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some(body) = next else { return Outcome::Ok(()) };
                post(&router, "/oauth/token", &authorization, body).await?;
            }
        });
    }
    for ended in clients.join_all().await {
        ended?;
    }
    began.cost(count)
}

/// The beginning of a measurement.
pub(crate) struct Began {
    wall: Instant,
    cpu: f64,
}

impl Began {
    pub(crate) fn now() -> Outcome<Self> {
        Ok(Self { cpu: cpu("self")?, wall: Instant::now() })
    }

    pub(crate) fn cost(self, operations: usize) -> Outcome<Cost> {
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
