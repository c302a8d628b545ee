//! Wiring: builds store, keys, policy, issuers and use cases, and owns the tasks.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use chrono::TimeDelta;
use ring::rand::SystemRandom;
use serde_json::json;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::clock::{Clock, Random};
use crate::config::{Config, ConfigFault};
use crate::configuration::active::{Active, InForce};
use crate::configuration::apply::{self, Configuration, LoadFault};
use crate::domain::decision::{Decision, Kind, Outcome, Reason, Record};
use crate::exchange::{Exchange, Parts};
use crate::http::{Failures, Public};
use crate::introspection::Introspection;
use crate::issuers::keyset::Freshness;
use crate::issuers::keysets::KeySets;
use crate::issuers::outbound::{FetchFault, Outbound, OutboundPolicy};
use crate::issuers::session::Issuers;
use crate::keys::keyring::{KeyRing, KeyRingFault};
use crate::keys::signing::KeySpec;
use crate::policy::bundle::Bundle;
use crate::policy::engine::PolicyEngine;
use crate::policy::fault::PolicyFault;
use crate::revocation::Revocation;
use crate::store::Store;
use crate::store::change::Change;
use crate::store::error::StoreError;
use crate::store::folder::Location;
use crate::store::writer::Writer;

/// How long policy inputs are kept for replay.
const KEEP_INPUTS: TimeDelta = TimeDelta::days(30);
/// Verified signatures that are remembered.
const CACHED_TOKENS: usize = 10_000;
/// How often failed client authentications are recorded (L12).
const AGGREGATE_EVERY: Duration = Duration::from_mins(1);

/// A server that is wired and may serve.
pub struct App {
    /// What it was configured with.
    pub config: Config,
    /// The store.
    pub store: Store,
    /// The one writer.
    pub writer: Writer,
    /// Objects and policy in force.
    pub active: Active,
    /// Trusted issuers' keys.
    pub key_sets: Arc<KeySets>,
    /// Our keys.
    pub keys: Arc<KeyRing>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Random,
    writer_task: JoinHandle<()>,
}

/// Why the server does not start.
#[derive(Debug, Error)]
pub enum StartFault {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigFault),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The signing keys.
    #[error(transparent)]
    Keys(#[from] KeyRingFault),
    /// A policy bundle: file and line are in it.
    #[error("policy: {0}")]
    Policy(#[from] PolicyFault),
    /// The stored objects no longer fit together.
    #[error(transparent)]
    Objects(#[from] LoadFault),
    /// The client for outbound requests.
    #[error("outbound requests: {0}")]
    Outbound(#[from] FetchFault),
    /// A listener.
    #[error("cannot listen on {at}: {source}")]
    Listen {
        /// Where.
        at: String,
        /// The system's words.
        source: io::Error,
    },
}

impl App {
    /// Builds everything but the listeners. A bad bundle, object or key stops it here with file and line.
    pub async fn build(config: Config, clock: Arc<dyn Clock>) -> Result<Self, StartFault> {
        let policy = PolicyEngine::compile(bundle(&config.policy.bundles)?)?;
        let store = Store::open(&Location::Folder(config.data.clone())).await?;
        let spec: KeySpec = config.keys.algorithm.parse().unwrap_or_default();
        let keys = Arc::new(KeyRing::open(&config.keys_folder(), spec, SystemRandom::new())?);
        let outbound = Outbound::new(OutboundPolicy {
            allow_private: config.outbound.allow_private.clone(),
            allow_http_loopback: config.outbound.allow_http_loopback,
        })?;
        let in_force: InForce = apply::load(&store, &config.public_url, policy).await?;
        let key_sets = Arc::new(KeySets::start(outbound, Freshness::default(), clock.clone()));
        let (writer, writer_task) = Writer::spawn(&store, clock.clone(), KEEP_INPUTS);
        let active = Active::serving(in_force, key_sets.clone());
        Ok(Self {
            config,
            store,
            writer,
            active,
            key_sets,
            keys,
            clock,
            random: Random::default(),
            writer_task,
        })
    }

    /// The public endpoints.
    pub fn public(&self) -> Public {
        let issuers = Arc::new(Issuers::new(self.key_sets.clone(), CACHED_TOKENS));
        let (keys, clock) = (self.keys.clone(), self.clock.clone());
        let exchange = Exchange::new(Parts {
            issuer: self.config.public_url.clone(),
            environment: self.config.environment.clone(),
            active: self.active.clone(),
            issuers,
            keys: keys.clone(),
            store: self.store.clone(),
            writer: self.writer.clone(),
            clock: clock.clone(),
            random: self.random.clone(),
        });
        Public {
            issuer: self.config.public_url.as_str().into(),
            active: self.active.clone(),
            introspection: Introspection::new(keys.clone(), self.store.clone(), clock.clone()),
            revocation: Revocation::new(keys.clone(), self.writer.clone(), clock, self.random.clone()),
            keys,
            exchange,
            store: self.store.clone(),
            key_sets: self.key_sets.clone(),
            failures: Arc::new(Failures::default()),
        }
    }

    /// Binds the public listener.
    pub async fn listen(&self) -> Result<TcpListener, StartFault> {
        let at = self.config.listen;
        TcpListener::bind(at).await.map_err(|source| StartFault::Listen { at: at.to_string(), source })
    }

    /// Serves the public endpoints and `extra` routes on `listener`, and the admin API on its socket, until `stop`;
    /// then answers what is under way, and ends once the writer has committed all that waits.
    pub async fn serve(
        self,
        listener: TcpListener,
        extra: Router,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), StartFault> {
        let public = self.public();
        let failures = tokio::spawn(aggregate(public.failures.clone(), self.recorder()));
        info!(listen = %self.config.listen, issuer = self.config.public_url, "serving");
        let router = crate::http::router(public).merge(extra);
        let served = axum::serve(listener, router).with_graceful_shutdown(stop).await;
        failures.abort();
        let Self { writer, writer_task, store, .. } = self;
        drop(writer);
        if tokio::time::timeout(Duration::from_secs(15), writer_task).await.is_err() {
            warn!("the writer did not end in time");
        }
        store.close().await;
        info!("stopped");
        served.map_err(|source| StartFault::Listen { at: "the public listener".to_owned(), source })
    }

    /// The use case behind `apply`.
    pub fn configuration(&self) -> Configuration {
        let (store, writer, active) = (self.store.clone(), self.writer.clone(), self.active.clone());
        Configuration::new(store, writer, active, self.clock.clone(), self.config.public_url.clone())
    }

    fn recorder(&self) -> Recorder {
        Recorder { writer: self.writer.clone(), clock: self.clock.clone(), random: self.random.clone() }
    }
}

/// The bundle made of `folders`, or the starter that comes with the binary.
fn bundle(folders: &[PathBuf]) -> Result<Bundle, PolicyFault> {
    if folders.is_empty() {
        return Bundle::embedded_base();
    }
    let name =
        |folder: &PathBuf| folder.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let named: Vec<(String, PathBuf)> = folders.iter().map(|f| (name(f), f.clone())).collect();
    let borrowed: Vec<(&str, PathBuf)> = named.iter().map(|(n, f)| (n.as_str(), f.clone())).collect();
    Bundle::load(&borrowed)
}

struct Recorder {
    writer: Writer,
    clock: Arc<dyn Clock>,
    random: Random,
}

/// Records failed client authentications as one decision a minute: they cost the log nothing else (L12).
async fn aggregate(failures: Arc<Failures>, recorder: Recorder) {
    let mut every = tokio::time::interval(AGGREGATE_EVERY);
    loop {
        every.tick().await;
        let count = failures.take();
        if count > 0 {
            let decision = recorder.decision(count);
            if recorder.writer.submit(Change::Refuse(Box::new(decision))).await.is_err() {
                warn!(count, "failed client authentications could not be recorded");
            }
        }
    }
}

impl Recorder {
    fn decision(&self, count: u64) -> Decision {
        let now = self.clock.now();
        let reason = Reason {
            code: "client_authentication_failed".to_owned(),
            message: format!("{count} requests failed client authentication since the last such record"),
            public: false,
        };
        Decision {
            id: self.random.decision(now),
            kind: Kind::Exchange,
            at: now,
            tenant: None,
            outcome: Outcome::Deny,
            policy: None,
            task_type: None,
            record: Record { asked: json!({ "count": count }), reasons: vec![reason], ..Record::default() },
            input: None,
        }
    }
}
