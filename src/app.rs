//! Wiring: builds store, keys, policy, issuers and use cases, and owns the tasks.

mod admin;
mod connections;
mod fault;
mod folders;
mod follow;
mod front;
mod parts;
pub mod reload;
mod tend;
pub mod tls;

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use chrono::TimeDelta;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use self::connections::Connections;
pub use self::fault::StartFault;
use self::follow::Follower;
use self::front::Front;
use self::parts::{bind, outward_of, replica_of, tls_of, writer_of};
use self::reload::Reload;
use self::tls::Tls;
use crate::aggregates::Aggregates;
use crate::aggregates::recorder::Recorder;
use crate::approvals::{self, Approvals};
use crate::authentication::Authentication;
use crate::clock::watch::TimeWatch;
use crate::clock::{Clock, Random};
use crate::config::{Config, OnError};
use crate::configuration::active::{Active, InForce};
use crate::configuration::apply::{self, Configuration};
use crate::exchange::{Exchange, Parts};
use crate::http::guard::{Bodies, Guard, guarded};
use crate::http::health::{Ops, Readiness, StoreProbe};
use crate::http::source::Forwarding;
use crate::http::standing::Standing;
use crate::http::{Public, ops_router};
use crate::introspection::Introspection;
use crate::issuers::keysets::KeySets;
use crate::issuers::session::Issuers;
use crate::keys::live::LiveKeys;
use crate::keys::signing::KeySpec;
use crate::limits::Limits;
use crate::lockdown::Lockdowns;
use crate::metrics::Metrics;
use crate::notify::Notifier;
use crate::policy::bundle::Bundle;
use crate::policy::engine::PolicyEngine;
use crate::policy::suite::{self, Unfit};
use crate::pruning::{self, Pruning};
use crate::revocation::events::Events;
use crate::revocation::{self, Revocation};
use crate::rotation::{self, Rotation};
use crate::status::{self, StatusLists};
use crate::store::Store;
use crate::store::error::StoreError;
use crate::store::folder::{FolderLock, Location};
use crate::store::writer::Writer;
use crate::tasks::{self, Tasks};

/// How long what is under way may take at the end.
const DRAIN: Duration = Duration::from_secs(15);
/// The same for operators, who have nothing to lose.
const OPS_DRAIN: Duration = Duration::from_secs(1);

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
    configuration: Configuration,
    /// Version of the policy bundle that the folders held at the start.
    found: String,
    /// Trusted issuers' keys.
    pub key_sets: Arc<KeySets>,
    /// Our keys.
    pub keys: LiveKeys,
    /// How they change.
    pub rotation: Rotation,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Whether it can be believed.
    pub time: TimeWatch,
    /// Randomness.
    pub random: Random,
    /// Status lists.
    pub status: StatusLists,
    /// The limits in force.
    pub limits: Arc<Limits>,
    /// Whose new tokens are stopped.
    pub lockdowns: Lockdowns,
    /// What operators watch.
    pub metrics: Arc<Metrics>,
    notifier: Notifier,
    aggregates: Arc<Aggregates>,
    tls: Option<Arc<Tls>>,
    writer_task: JoinHandle<()>,
    standing: Standing,
    /// The data folder where the database is a server's; else the store holds it.
    _folder: Option<FolderLock>,
}

/// Where the deployment of `config` keeps its data.
pub fn location(config: &Config) -> Result<Location, StoreError> {
    match &config.database {
        Some(url) => url.expose().parse(),
        None => Ok(Location::Folder(config.data.clone())),
    }
}

impl App {
    /// Builds everything but the listeners. A bad bundle, object or key stops it here with file and line.
    pub async fn build(config: Config, clock: Arc<dyn Clock>) -> Result<Self, StartFault> {
        let found = Bundle::of_folders(&config.policy.bundles).map_err(Unfit::from).and_then(suite::admit)?;
        Self::wire(config, found, clock).await
    }

    async fn wire(config: Config, found: PolicyEngine, clock: Arc<dyn Clock>) -> Result<Self, StartFault> {
        let folder = config.database.as_ref().map(|_| FolderLock::take(&config.data)).transpose()?;
        let store = Store::open(&location(&config)?).await?;
        let spec: KeySpec = config.keys.algorithm.parse().unwrap_or_default();
        let known = rotation::known(&store).await?;
        let keys = LiveKeys::open(config.keys_folder(), spec, &known, clock.clone())?;
        let in_force: InForce = apply::load(&store, &config.public_url, found.clone()).await?;
        let tls = tls_of(&config)?;
        let metrics = Arc::<Metrics>::default();
        let (key_sets, notifier) = outward_of(&config, &clock, &metrics)?;
        let (writer, writer_task) = writer_of(&config, &store, &clock, &metrics);
        let limits = Arc::new(Limits::new(config.limits.clone(), metrics.clone()));
        let lockdowns = Lockdowns::load(store.clone(), writer.clone(), clock.clone()).await?;
        let active = Active::serving(in_force, key_sets.clone());
        let with = (clock.clone(), metrics.clone());
        let told = (config.public_url.clone(), config.admin.two_persons.clone());
        let configuration = Configuration::new(store.clone(), writer.clone(), active.clone(), with, told);
        configuration.begin_policy(&found, &config.policy.bundles).await?;
        configuration.warn_of_mode();
        warn_of_faults(config.policy.on_error);
        let (random, greatest_iat) = (Random::default(), store.head().await?.greatest_iat);
        let time = TimeWatch::new(clock.clone(), greatest_iat);
        let status = StatusLists::new(status::Parts {
            config: config.status,
            issuer: config.public_url.as_str().into(),
            keys: keys.clone(),
            store: store.clone(),
            writer: writer.clone(),
            clock: clock.clone(),
            random: random.clone(),
        });
        let rotation = Rotation::new(keys.clone(), store.clone(), writer.clone(), clock.clone());
        let app = Self {
            config,
            store,
            writer,
            active,
            configuration,
            found: found.version().to_owned(),
            key_sets,
            keys,
            rotation,
            clock,
            time,
            random,
            status,
            limits,
            lockdowns,
            metrics,
            notifier,
            aggregates: Arc::default(),
            tls,
            writer_task,
            standing: Standing::default(),
            _folder: folder,
        };
        app.status.tend().await?;
        app.rotation.tend().await;
        Ok(app)
    }

    /// The public endpoints.
    pub fn public(&self) -> Public {
        let issuers = Arc::new(Issuers::new(self.key_sets.clone(), self.config.cache.verified_tokens));
        let (keys, clock) = (self.keys.clone(), self.clock.clone());
        let exchange = Exchange::new(Parts {
            issuer: self.config.public_url.clone(),
            environment: self.config.environment.clone(),
            active: self.active.clone(),
            configuration: self.configuration.clone(),
            issuers,
            keys: keys.clone(),
            store: self.store.clone(),
            writer: self.writer.clone(),
            clock: clock.clone(),
            time: self.time.clone(),
            random: self.random.clone(),
            lockdowns: self.lockdowns.clone(),
            limits: self.limits.clone(),
            aggregates: self.aggregates.clone(),
            status: self.status.clone(),
            notifier: self.notifier.clone(),
            on_error: self.config.policy.on_error,
            metrics: self.metrics.clone(),
        });
        let issuer: Arc<str> = self.config.public_url.as_str().into();
        let authentication = Authentication::new(
            issuer.clone(),
            self.key_sets.clone(),
            self.store.clone(),
            self.writer.clone(),
            clock.clone(),
        );
        Public {
            issuer: issuer.clone(),
            authentication,
            active: self.active.clone(),
            events: Events::new(
                self.key_sets.clone(),
                (self.store.clone(), self.writer.clone()),
                (self.metrics.clone(), self.aggregates.clone()),
                (clock.clone(), self.random.clone()),
            ),
            introspection: Introspection::new(issuer, keys.clone(), self.store.clone(), clock),
            revocation: self.revocation(),
            tasks: self.tasks(),
            approvals: self.approvals(),
            keys,
            exchange,
            readiness: self.readiness(),
            aggregates: self.aggregates.clone(),
            status: self.status.clone(),
            limits: self.limits.clone(),
            takes_certificates: self.config.takes_certificates(),
            admin_url: self.config.admin.public_url.as_deref().map(Into::into),
        }
    }

    fn readiness(&self) -> Arc<Readiness> {
        Arc::new(Readiness {
            stopping: AtomicBool::new(false),
            store: StoreProbe::new(self.store.clone()),
            writer: self.writer.clone(),
            time: self.time.clone(),
            standing: self.standing.clone(),
            active: self.active.clone(),
            on_error: self.config.policy.on_error,
            clock: self.clock.clone(),
            lockdowns: self.lockdowns.clone(),
            key_sets: self.key_sets.clone(),
        })
    }

    /// Binds the public listener.
    pub fn listen(&self) -> Result<TcpListener, StartFault> {
        bind(self.config.listen)
    }

    /// Serves the public endpoints on `listener`, and the admin API on its socket, until `stop`; then answers what
    /// is under way, and ends once the writer has committed all that waits.
    pub async fn serve(
        self,
        listener: TcpListener,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), StartFault> {
        self.serve_with(listener, Router::new(), stop).await
    }

    /// The same with `extra` routes beside the public ones.
    pub async fn serve_with(
        self,
        listener: TcpListener,
        extra: Router,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), StartFault> {
        let (ops_listener, admin_listener) = (self.listen_for_ops()?, self.listen_for_admin()?);
        let (public, connections) = (self.public(), Connections::new());
        let readiness = public.readiness.clone();
        let recorder = Arc::new(self.recorder());
        let counting = tokio::spawn(recorder.clone().record_every_minute());
        let watching = tokio::spawn(tls::watch(self.tls.clone()));
        let tending = tokio::spawn(tend::tend(tend::Tended {
            rotation: self.rotation.clone(),
            time: self.time.clone(),
            lockdowns: self.lockdowns.clone(),
            store: self.store.clone(),
            configuration: self.configuration.clone(),
        }));
        let following = tokio::spawn(self.follower().run(self.store.clone()));
        let bundles = self.config.policy.bundles.clone();
        let reading = tokio::spawn(folders::watch(self.configuration(), bundles, self.found.clone()));
        let publishing = tokio::spawn(self.status.clone().publish());
        let pruning = tokio::spawn(self.pruning().run());
        let expiring = tokio::spawn(self.approvals().expire_always());
        let telling =
            tokio::spawn(self.configuration.tell_as(replica_of(&listener, &self.random, &self.clock)));
        let (ended, admin_stop) = oneshot::channel::<()>();
        let admin = tokio::spawn(self.admin()?.serve(self.admin_router(), async { drop(admin_stop.await) }));
        let (unserved, https_stop) = oneshot::channel::<()>();
        let https = self.admin_front();
        let https = tokio::spawn(async move {
            if let Some(listener) = admin_listener {
                https.serve(listener, async { drop(https_stop.await) }, OPS_DRAIN).await;
            }
        });
        let (over, ops_stop) = oneshot::channel::<()>();
        let ops = self.ops(readiness.clone(), connections.clone());
        let ops = tokio::spawn(async move {
            if let Some(listener) = ops_listener {
                ops.serve(listener, async { drop(ops_stop.await) }, OPS_DRAIN).await;
            }
        });
        let stop = async move {
            stop.await;
            readiness.stopping.store(true, Ordering::Relaxed);
            info!("stopping: no more connections are accepted, what is under way is answered");
        };
        self.approvals().remind().await;
        info!(listen = %self.config.listen, issuer = self.config.public_url, "serving");
        if !self.front(public, extra, connections).serve(listener, stop, DRAIN).await {
            warn!("requests were cut off: they were not answered in time");
        }
        [counting, tending, watching, following, reading, publishing, pruning, expiring]
            .iter()
            .for_each(JoinHandle::abort);
        recorder.record().await;
        drop(recorder);
        drop((ended, over, unserved));
        if tokio::time::timeout(DRAIN, async { tokio::join!(admin, https, ops) }).await.is_err() {
            warn!("the admin API did not end in time");
        }
        self.close(telling).await;
        Ok(())
    }

    /// Ends what is told of this server, lets the writer commit all that waits, and closes the store.
    async fn close(self, telling: JoinHandle<()>) {
        // It must have ended before the row goes, or it might write another one.
        telling.abort();
        drop(telling.await);
        self.configuration.leave().await;
        let Self { writer, active, configuration, rotation, lockdowns, status, writer_task, store, .. } =
            self;
        if status.close().await.is_err() {
            warn!("it could not be recorded until when the tokens of the status lists live");
        }
        drop((writer, active, configuration, rotation, lockdowns, status));
        if tokio::time::timeout(DRAIN, writer_task).await.is_err() {
            warn!("the writer did not end in time");
        }
        store.close().await;
        info!("stopped");
    }

    /// What people decide. It holds the writer: drop it before the end is waited for.
    fn approvals(&self) -> Approvals {
        Approvals::new(approvals::Parts {
            store: self.store.clone(),
            writer: self.writer.clone(),
            active: self.active.clone(),
            configuration: self.configuration(),
            issuers: Arc::new(Issuers::new(self.key_sets.clone(), 0)),
            clock: self.clock.clone(),
            random: self.random.clone(),
            notifier: self.notifier.clone(),
            metrics: self.metrics.clone(),
        })
    }

    fn follower(&self) -> Follower {
        Follower {
            configuration: self.configuration(),
            rotation: self.rotation.clone(),
            keys: self.keys.clone(),
            time: self.time.clone(),
            clock: self.clock.clone(),
            standing: self.standing.clone(),
        }
    }

    fn listen_for_ops(&self) -> Result<Option<TcpListener>, StartFault> {
        match self.config.metrics.listen {
            Some(at) => Ok(Some(bind(at)?)),
            None => Ok(None),
        }
    }

    /// The listener for operators. It has the same limits on connections and time, and ends after the
    /// public one.
    fn ops(&self, readiness: Arc<Readiness>, connections: Arc<Connections>) -> Front {
        let count: Arc<dyn Fn() -> usize + Send + Sync> = Arc::new(move || connections.len());
        let router = ops_router(Ops {
            readiness,
            metrics: self.metrics.clone(),
            status: self.status.clone(),
            connections: count,
        });
        let connections = Connections::new();
        Front { router, limits: self.limits.clone(), connections, metrics: self.metrics.clone(), tls: None }
    }

    /// The public listener's connections and what they are answered with.
    fn front(&self, public: Public, extra: Router, connections: Arc<Connections>) -> Front {
        let router = guarded(crate::http::router(public).merge(extra), self.guard(Bodies::First));
        let (limits, metrics) = (self.limits.clone(), self.metrics.clone());
        Front { router, limits, connections, metrics, tls: self.tls.clone() }
    }

    fn guard(&self, bodies: Bodies) -> Guard {
        let forwarding = Forwarding {
            hops: self.config.behind_proxy.clone(),
            header: self.config.proxy_header,
            client_cert: self.config.proxy_client_cert,
        };
        let (limits, metrics) = (self.limits.clone(), self.metrics.clone());
        Guard { limits, metrics, forwarding: Arc::new(forwarding), bodies }
    }

    /// What re-reads the configuration `file` and the signing keys while the server runs. It holds the writer: drop it
    /// before the end is waited for.
    pub fn reload(&self, file: &Path) -> Reload {
        Reload::new(
            file.to_owned(),
            self.config.clone(),
            self.limits.clone(),
            self.configuration(),
            (self.rotation.clone(), self.tls.clone()),
        )
    }

    /// The use case behind `apply`. It holds the writer: drop it before the end is waited for.
    pub fn configuration(&self) -> Configuration {
        self.configuration.clone()
    }

    /// The use case behind every revocation.
    pub fn revocation(&self) -> Revocation {
        Revocation::new(revocation::Parts {
            store: self.store.clone(),
            writer: self.writer.clone(),
            active: self.active.clone(),
            clock: self.clock.clone(),
            random: self.random.clone(),
            aggregates: self.aggregates.clone(),
            metrics: self.metrics.clone(),
        })
    }

    /// The use case that has go what has ended. It holds the writer, as the others do.
    pub fn pruning(&self) -> Pruning {
        Pruning::new(pruning::Parts {
            store: self.store.clone(),
            writer: self.writer.clone(),
            active: self.active.clone(),
            clock: self.clock.clone(),
            metrics: self.metrics.clone(),
            retention: TimeDelta::seconds(i64::from(self.config.retention.ended_tasks)),
        })
    }

    /// The use cases of tasks.
    pub fn tasks(&self) -> Tasks {
        Tasks::new(tasks::Parts {
            issuer: self.config.public_url.clone(),
            store: self.store.clone(),
            writer: self.writer.clone(),
            active: self.active.clone(),
            clock: self.clock.clone(),
            random: self.random.clone(),
            aggregates: self.aggregates.clone(),
            metrics: self.metrics.clone(),
        })
    }

    fn recorder(&self) -> Recorder {
        Recorder {
            aggregates: self.aggregates.clone(),
            writer: self.writer.clone(),
            clock: self.clock.clone(),
            random: self.random.clone(),
        }
    }
}

/// Says at a start that faults of policy are let pass, if so.
fn warn_of_faults(on_error: OnError) {
    if on_error != OnError::Deny {
        warn!(on_error = on_error.as_str(), "what policy fails on is granted within the ceilings");
    }
}
