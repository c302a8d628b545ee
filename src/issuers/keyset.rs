//! The key set of one issuer or client: kept fresh, replaced whole, refused when stale (DESIGN §7).

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use chrono::{DateTime, Utc};
use serde_json::Value;
use thiserror::Error;
use tokio::sync::{Mutex, OwnedMutexGuard, Semaphore};

use super::discovery::{self, DiscoveryFault};
use super::outbound::{FetchFault, Outbound};
use crate::clock::Clock;
use crate::keys::jwk::JwkFault;
use crate::keys::jwks::JwkSet;
use crate::metrics::Metrics;

/// Bounds of a `max-age` that an issuer asks for.
const MAX_AGE_BOUNDS: (Duration, Duration) = (Duration::from_mins(1), Duration::from_hours(1));

/// Wait after the first failure, doubled with each further one up to `max_age`; also the shortest time between two
/// fetches that tokens with an unknown `kid` can cause [JW-03].
pub(super) const SHORTEST_WAIT: Duration = Duration::from_secs(10);

/// Longest time for one refresh: discovery and key set together.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest time from the beginning of a fetch for which requests wait for it; it goes on without them. While they wait their
/// connections cannot be cut, so a source that is slow must not hold them all.
pub(super) const LONGEST_AWAITED: Duration = Duration::from_secs(3);
/// Most requests that wait for one key set; the others are refused at once.
pub(super) const MOST_WAITING: usize = 64;
/// The same for all key sets together.
pub(super) const MOST_WAITING_FOR_ALL: usize = 256;

/// Why a refresh failed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum KeyFault {
    /// The key set's address is not known.
    #[error(transparent)]
    Discovery(#[from] DiscoveryFault),
    /// The key set could not be fetched.
    #[error("key set: {0}")]
    Fetch(#[from] FetchFault),
    /// What was fetched is not a key set that can be believed.
    #[error("key set: {0}")]
    Set(#[from] JwkFault),
    /// Discovery and key set together took too long.
    #[error("no key set within {} s", REFRESH_TIMEOUT.as_secs())]
    Timeout,
}

/// How long key sets are good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// Time between two fetches where the issuer does not say by `Cache-Control: max-age`.
    pub max_age: Duration,
    /// Age at which a key set is no longer believed, and the issuer refused.
    pub max_stale: Duration,
}

impl Default for Freshness {
    fn default() -> Self {
        Self { max_age: Duration::from_mins(5), max_stale: Duration::from_hours(1) }
    }
}

/// What a refresh needs; the same for all issuers.
pub(super) struct Means {
    pub(super) outbound: Outbound,
    pub(super) freshness: Freshness,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Arc<Metrics>,
    /// A permit for each request that may wait for any key set.
    pub(super) waiting: Semaphore,
}

/// Where keys come from: `jwks` itself, else `jwks_uri`, else discovery of `issuer`. When it changes, what was fetched
/// before is forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    /// The `iss` whose keys they are; for keys of clients the address.
    pub(super) issuer: String,
    pub(super) jwks_uri: Option<String>,
    pub(super) jwks: Option<Value>,
    /// How a set is read: a platform's bundle, or plain keys.
    pub(super) is_bundle: bool,
}

impl Source {
    fn read(&self, bytes: &[u8]) -> Result<JwkSet, JwkFault> {
        if self.is_bundle { JwkSet::parse_bundle(bytes) } else { JwkSet::parse(bytes) }
    }
}

/// An instant on both clocks. The wall clock may be set back, which must not keep a withdrawn key alive; the steady
/// one begins anew with the machine. So an age is the longer of the two.
#[derive(Clone, Copy)]
struct Moment {
    wall: DateTime<Utc>,
    steady: Duration,
}

impl Moment {
    fn now(clock: &dyn Clock) -> Self {
        Self { wall: clock.now(), steady: clock.steady() }
    }

    fn age(&self, clock: &dyn Clock) -> Duration {
        let wall = (clock.now() - self.wall).to_std().unwrap_or_default();
        wall.max(clock.steady().saturating_sub(self.steady))
    }
}

/// All that is known of an issuer's keys; replaced whole.
#[derive(Clone)]
struct State {
    keys: Arc<JwkSet>,
    /// When `keys` was fetched; never, at first.
    fetched: Option<Moment>,
    /// When the last fetch began, whatever became of it.
    attempted: Option<Moment>,
    /// Time from `attempted` until the next fetch is due.
    wait: Duration,
    /// Failures since the last success.
    failures: u32,
    last_error: Option<KeyFault>,
}

/// Keeps the keys of one issuer.
///
/// Only the holder of `flight` fetches and stores; everybody else reads `state`.
pub(super) struct Keeper {
    pub(super) source: Source,
    /// Keys that were declared and not fetched: these never age.
    declared: Option<Arc<JwkSet>>,
    state: ArcSwap<State>,
    flight: Arc<Mutex<()>>,
    /// A permit for each request that may wait for this key set.
    waiting: Semaphore,
}

/// The right to fetch for one issuer.
pub(super) type Flight = OwnedMutexGuard<()>;

/// What [`Keeper::report`] tells.
pub(super) struct Report {
    pub(super) age: Option<Duration>,
    pub(super) usable_keys: usize,
    pub(super) last_error: Option<KeyFault>,
}

impl Keeper {
    pub(super) fn new(source: Source) -> Self {
        let state = State {
            keys: Arc::default(),
            fetched: None,
            attempted: None,
            wait: SHORTEST_WAIT,
            failures: 0,
            last_error: None,
        };
        // Apply has refused a set that cannot be read; what gets by it verifies nothing.
        let read = |jwks: &Value| Arc::new(source.read(jwks.to_string().as_bytes()).unwrap_or_default());
        let declared = source.jwks.as_ref().map(read);
        let (state, waiting) = (ArcSwap::from_pointee(state), Semaphore::new(MOST_WAITING));
        Self { source, declared, state, flight: Arc::default(), waiting }
    }

    /// The keys, unless they were never fetched or are too old to be believed.
    pub(super) fn keys(&self, means: &Means) -> Option<Arc<JwkSet>> {
        if let Some(declared) = &self.declared {
            return Some(declared.clone());
        }
        let state = self.state.load();
        let fresh = state.fetched.is_some_and(|at| at.age(means.clock.as_ref()) <= means.freshness.max_stale);
        fresh.then(|| state.keys.clone())
    }

    /// The right to fetch, if a fetch is due and nobody is at it.
    pub(super) fn claim_if_due(&self, clock: &dyn Clock) -> Option<Flight> {
        let due = |state: &State| {
            self.declared.is_none() && state.attempted.is_none_or(|at| at.age(clock) >= state.wait)
        };
        if !due(&self.state.load()) {
            return None;
        }
        // The last holder may have fetched between the two looks.
        self.flight.clone().try_lock_owned().ok().filter(|_| due(&self.state.load()))
    }

    /// Waits for the fetch that a token needs, as far as requests may wait. False if it is not known yet what it brings.
    pub(super) async fn await_fetch(self: &Arc<Self>, means: &Arc<Means>) -> bool {
        let clock = means.clock.as_ref();
        // One that began longer ago is over: then a new one begins.
        let since = self.state.load().attempted.map(|at| at.age(clock)).filter(|age| *age < SHORTEST_WAIT);
        if self.declared.is_some() || (since.is_some() && self.flight.try_lock().is_ok()) {
            return true;
        }
        let permits = (self.waiting.try_acquire(), means.waiting.try_acquire());
        let (Ok(_of_this), Ok(_of_all)) = permits else { return false };
        let left = LONGEST_AWAITED.saturating_sub(since.unwrap_or_default());
        let over = async {
            if let Some(flight) = self.claim_on_demand(clock).await {
                // A task of its own: a caller who goes away does not break off what others wait for.
                tokio::spawn(self.clone().refresh(flight, means.clone())).await.ok();
            }
        };
        tokio::time::timeout(left, over).await.is_ok()
    }

    /// The right to fetch because a token needs it: none if a fetch began within [`SHORTEST_WAIT`], which is waited
    /// for. However many tokens ask, they cause one fetch [JW-03].
    async fn claim_on_demand(&self, clock: &dyn Clock) -> Option<Flight> {
        let flight = self.flight.clone().lock_owned().await;
        let rested = self.state.load().attempted.is_none_or(|at| at.age(clock) >= SHORTEST_WAIT);
        rested.then_some(flight)
    }

    /// Fetches. From the moment it succeeds, keys that the issuer has withdrawn verify nothing.
    pub(super) async fn refresh(self: Arc<Self>, flight: Flight, means: Arc<Means>) {
        let attempted = Moment::now(means.clock.as_ref());
        let before = State { attempted: Some(attempted), ..(**self.state.load()).clone() };
        self.state.store(Arc::new(before.clone()));
        let fetched = tokio::time::timeout(REFRESH_TIMEOUT, self.fetch(&means.outbound)).await;
        let fetched = fetched.unwrap_or(Err(KeyFault::Timeout));
        means.metrics.keys_fetched(fetched.is_ok());
        let after = match fetched {
            Ok(fetched) => before.succeeded(fetched, means.freshness),
            Err(fault) => {
                tracing::warn!(issuer = self.source.issuer, error = %fault, "key set not refreshed");
                before.failed(fault, means.freshness)
            }
        };
        self.state.store(Arc::new(after));
        drop(flight);
    }

    async fn fetch(&self, outbound: &Outbound) -> Result<(JwkSet, Option<Duration>), KeyFault> {
        // Discovery is repeated each time: an issuer may move its key set.
        let uri = match &self.source.jwks_uri {
            Some(uri) => uri.clone(),
            None => discovery::jwks_uri(outbound, &self.source.issuer).await?,
        };
        let fetched = outbound.get(&uri).await?;
        Ok((self.source.read(&fetched.body)?, fetched.cache_control.as_deref().and_then(max_age)))
    }

    pub(super) fn report(&self, clock: &dyn Clock) -> Report {
        let state = self.state.load();
        let keys = self.declared.as_ref().unwrap_or(&state.keys);
        Report {
            age: state.fetched.map(|at| at.age(clock)).or(self.declared.as_ref().map(|_| Duration::ZERO)),
            usable_keys: keys.usable(),
            last_error: state.last_error.clone(),
        }
    }
}

impl State {
    fn succeeded(self, (keys, asked): (JwkSet, Option<Duration>), freshness: Freshness) -> Self {
        let (shortest, longest) = MAX_AGE_BOUNDS;
        let wait = asked.map_or(freshness.max_age, |asked| asked.clamp(shortest, longest));
        // An unchanged set stays the same value, so that what was verified with it stays verified.
        let same = (keys.keys(), keys.authorities()) == (self.keys.keys(), self.keys.authorities());
        let keys = if same { self.keys } else { Arc::new(keys) };
        Self {
            keys,
            fetched: self.attempted,
            attempted: self.attempted,
            // A set is fetched again well before it would be refused.
            wait: wait.min(freshness.max_stale / 2),
            failures: 0,
            last_error: None,
        }
    }

    fn failed(self, fault: KeyFault, freshness: Freshness) -> Self {
        let doubled = SHORTEST_WAIT.saturating_mul(2_u32.saturating_pow(self.failures.min(16)));
        let wait = doubled.min(freshness.max_age).max(SHORTEST_WAIT);
        Self { wait, failures: self.failures.saturating_add(1), last_error: Some(fault), ..self }
    }
}

/// `max-age` of a `Cache-Control` header, in seconds (RFC 9111 §5.2.2.1).
fn max_age(header: &str) -> Option<Duration> {
    header.split(',').find_map(|directive| {
        let (name, value) = directive.trim().split_once('=')?;
        let seconds =
            value.trim_matches('"').parse().ok().filter(|_| name.eq_ignore_ascii_case("max-age"))?;
        Some(Duration::from_secs(seconds))
    })
}
