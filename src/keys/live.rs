//! The key ring that serves at this moment: replaced whole, by the clock, by a reload or by an operator.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use ring::rand::SystemRandom;
use serde::Serialize;

use super::fault::JwsFault;
use super::jws::{Jws, VerifiedJws};
use super::keyring::{Fresh, KeyRing, KeyRingFault, Known, SignFault};
use super::signing::KeySpec;
use crate::clock::Clock;
use crate::domain::claims::TokenClaims;

/// A signed token and the key that signed it.
pub struct Signed {
    /// The compact JWS.
    pub compact: String,
    /// The key's `kid`.
    pub kid: String,
}

/// The server's keys; clones share them.
#[derive(Clone)]
pub struct LiveKeys(Arc<Inner>);

struct Inner {
    folder: PathBuf,
    spec: KeySpec,
    clock: Arc<dyn Clock>,
    rng: SystemRandom,
    ring: ArcSwap<KeyRing>,
    /// Whether other replicas sign by the same store.
    shared: bool,
    /// Whether nothing may be signed now.
    withheld: AtomicBool,
    /// Held from looking at the ring until what replaces it serves.
    turn: Mutex<()>,
}

impl Inner {
    /// The ring as it should be by now. Whoever asks holds the turn.
    fn up_to_date(&self) -> Arc<KeyRing> {
        let ring = self.ring.load_full();
        ring.promoted(self.clock.as_ref()).map_or(ring, Arc::new)
    }
}

impl LiveKeys {
    /// Opens the folder; `known` is what the store remembers of the keys.
    pub fn open(
        folder: PathBuf,
        spec: KeySpec,
        known: &Known,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, KeyRingFault> {
        let rng = SystemRandom::new();
        let first = KeyRing::load(&folder, spec, rng.clone(), known, clock.as_ref())?;
        let (turn, withheld, shared) = (Mutex::new(()), AtomicBool::new(false), known.shared);
        let inner =
            Inner { folder, spec, clock, rng, ring: ArcSwap::from_pointee(first), shared, withheld, turn };
        Ok(Self(Arc::new(inner)))
    }

    /// The ring at this moment: a key whose time has come has taken over in it.
    pub fn ring(&self) -> Arc<KeyRing> {
        let inner = &self.0;
        let ring = inner.ring.load_full();
        if !ring.is_due(inner.clock.as_ref(), Duration::ZERO) {
            return ring;
        }
        // Whoever is at it already will put the key in its place: one token more by the old one does no harm.
        let Ok(_turn) = inner.turn.try_lock() else { return ring };
        if let Some(promoted) = inner.ring.load().promoted(inner.clock.as_ref()) {
            tracing::info!(kid = promoted.kid(), before = ring.kid(), "another key signs from now on");
            inner.ring.store(Arc::new(promoted));
        }
        inner.ring.load_full()
    }

    /// Has nothing signed, or lets it be: a replica that does not know which key signs must not sign by another.
    pub fn withhold(&self, withheld: bool) {
        self.0.withheld.store(withheld, Ordering::Relaxed);
    }

    /// Signs `claims`; see [`KeyRing::sign`].
    pub fn sign(&self, typ: &str, claims: &impl Serialize) -> Result<Signed, SignFault> {
        if self.0.withheld.load(Ordering::Relaxed) {
            return Err(SignFault::Withheld);
        }
        let ring = self.ring();
        Ok(Signed { compact: ring.sign(typ, claims)?, kid: ring.kid().to_owned() })
    }

    /// See [`KeyRing::own_claims`].
    pub fn own_claims(&self, compact: &str) -> Option<TokenClaims> {
        self.ring().own_claims(compact)
    }

    /// See [`KeyRing::verify_own`].
    pub fn verify_own(&self, jws: Jws<'_>) -> Result<VerifiedJws, JwsFault> {
        self.ring().verify_own(jws)
    }

    /// The folder of the key files.
    pub fn folder(&self) -> &Path {
        &self.0.folder
    }

    /// Makes a key and its file, which nothing looks at before a [reload](Self::reload). RSA takes seconds: not for an
    /// async thread.
    pub fn make(&self) -> Result<Fresh, KeyRingFault> {
        Fresh::make(&self.0.folder, self.0.spec, &self.0.rng)
    }

    /// Reads the folder again. On a fault the ring that serves goes on serving. Reads files: not for an async thread.
    pub fn reload(&self) -> Result<Arc<KeyRing>, KeyRingFault> {
        let inner = &self.0;
        let _turn = inner.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let known = Known { shared: inner.shared, ..inner.up_to_date().known() };
        let ring = KeyRing::load(&inner.folder, inner.spec, inner.rng.clone(), &known, inner.clock.as_ref())?;
        inner.ring.store(Arc::new(ring));
        Ok(inner.ring.load_full())
    }

    /// Reads the folder again, knowing what the store says: its signer signs, unless ours took over from that and the
    /// store does not say so yet. On a fault the ring that serves goes on serving. Not for an async thread.
    pub fn follow(&self, stored: &Known) -> Result<Arc<KeyRing>, KeyRingFault> {
        let inner = &self.0;
        let _turn = inner.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let ring = inner.up_to_date();
        let own = ring.known();
        let is_behind = |kid: &str| ring.took_over_from(kid) || stored.stopped.contains(kid);
        let adopted = stored.signer.clone().filter(|kid| kid != ring.kid() && !is_behind(kid));
        let stopped = &own.stopped | &stored.stopped;
        let known = if adopted.is_some() {
            let since = Some(inner.clock.now());
            Known { signer: adopted, since, before: None, next: own.next, stopped, shared: inner.shared }
        } else {
            let before = own.before.filter(|kid| stored.signer.as_ref() == Some(kid));
            Known { before, stopped, shared: inner.shared, ..own }
        };
        let ring = KeyRing::load(&inner.folder, inner.spec, inner.rng.clone(), &known, inner.clock.as_ref())?;
        inner.ring.store(Arc::new(ring));
        Ok(inner.ring.load_full())
    }

    /// Publishes the keys `kids` no more; see [`KeyRing::without`].
    pub fn drop_keys(&self, kids: &BTreeSet<String>, stop: bool, fresh: Option<Fresh>) -> Arc<KeyRing> {
        let inner = &self.0;
        let _turn = inner.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = fresh.map(|fresh| (fresh, inner.clock.now()));
        let ring = inner.up_to_date().without(kids, stop, fresh);
        inner.ring.store(Arc::new(ring));
        inner.ring.load_full()
    }
}
