//! Status lists: whoever verifies offline learns from them which tokens are dead (SL-01…03, T27).
//!
//! A process draws places only from lists that it opened itself (`draw.rs`), so that replicas need not agree; each keeps
//! the bits of every live list (`publisher.rs`), so that any of them serves any list (`served.rs`).

mod draw;
mod publisher;
mod served;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};

use crate::clock::{Clock, Random};
use crate::config::StatusConfig;
use crate::domain::ids::StatusListId;
use crate::domain::record::LONGEST_TASK;
use crate::domain::status::{StatusClaim, StatusListRef};
use crate::keys::live::LiveKeys;
use crate::store::Store;
use crate::store::change::CommitFault;
use crate::store::status::StatusListRow;
use crate::store::writer::Writer;

use draw::{Drawer, Opened};
use publisher::Published;
pub use served::{NotServed, Served};

/// Entries of a list: 16 KiB before they are packed.
const SIZE: u32 = 1 << 17;
/// How long a list is drawn from at most; after that it lives for as long as its tokens do.
const MAX_OPEN: TimeDelta = TimeDelta::days(1);

/// What status lists are made of.
pub struct Parts {
    /// Whether tokens get a place, and how fresh the lists are.
    pub config: StatusConfig,
    /// Our `iss`, the base of the lists' URIs.
    pub issuer: Arc<str>,
    /// Our keys, which sign the lists.
    pub keys: LiveKeys,
    /// Where revocations and tokens are read.
    pub store: Store,
    /// Records the lists.
    pub writer: Writer,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness for places.
    pub random: Random,
}

/// The status lists of one process. Cheap to clone.
#[derive(Clone)]
pub struct StatusLists(Arc<Inner>);

struct Inner {
    parts: Parts,
    began: DateTime<Utc>,
    drawer: Mutex<Drawer>,
    published: Mutex<Published>,
}

/// Why a token gets no place: lists could not be recorded for so long that none has room left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom;

/// What operators watch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Seconds since the moment that the published bits tell of.
    pub age: i64,
    /// Lists that are served.
    pub lists: usize,
    /// Bits that are set in them.
    pub revoked: u64,
}

impl StatusLists {
    /// Wires the lists; nothing is drawn before [`Self::tend`] has opened one.
    pub fn new(parts: Parts) -> Self {
        let began = parts.clock.now();
        let (drawer, published) = (Mutex::default(), Mutex::default());
        Self(Arc::new(Inner { parts, began, drawer, published }))
    }

    /// Whether tokens get a place.
    pub fn enabled(&self) -> bool {
        self.0.parts.config.enabled
    }

    /// A place for a token that lives until `exp`; none where lists are switched off. Never the same place twice.
    pub fn draw(&self, exp: DateTime<Utc>) -> Result<Option<StatusClaim>, NoRoom> {
        if !self.enabled() {
            return Ok(None);
        }
        let (now, random) = (self.0.parts.clock.now(), &self.0.parts.random);
        let (id, idx) = self.drawer().draw(now, exp, || u32::from_ne_bytes(random.bytes())).ok_or(NoRoom)?;
        Ok(Some(StatusClaim { status_list: StatusListRef { idx, uri: self.uri(id) } }))
    }

    /// Opens the next list in good time, and has it known of those that are full until when their tokens live. On a fault
    /// it is tried again with the next call.
    pub async fn tend(&self) -> Result<(), CommitFault> {
        let parts = &self.0.parts;
        self.tell_full().await?;
        if !self.enabled() || !self.drawer().needs_another(parts.clock.now()) {
            return Ok(());
        }
        let row = self.new_row();
        parts.writer.put_list(row.clone()).await?;
        self.drawer().add(Opened::new(row));
        Ok(())
    }

    /// Has it known until when the tokens of the open lists live: no more are drawn after this.
    pub async fn close(&self) -> Result<(), CommitFault> {
        self.drawer().end();
        self.tell_full().await
    }

    async fn tell_full(&self) -> Result<(), CommitFault> {
        loop {
            let full = self.drawer().first_full();
            let Some(full) = full else { return Ok(()) };
            self.0.parts.writer.put_list(full.clone()).await?;
            self.drawer().forget_full(full.id);
        }
    }

    /// Where the lists are served of which a token may live.
    pub fn uris(&self) -> Vec<String> {
        self.published().ids().map(|id| self.uri(id)).collect()
    }

    /// What operators watch.
    pub fn state(&self) -> State {
        let published = self.published();
        let as_of = published.as_of().unwrap_or(self.0.began);
        let age = (self.0.parts.clock.now() - as_of).num_seconds();
        State { age, lists: published.ids().count(), revoked: published.revoked() }
    }

    fn new_row(&self) -> StatusListRow {
        let (opened_at, random) = (self.0.parts.clock.now(), &self.0.parts.random);
        // Longer than anything drawn from it can live: a process that is killed tells nobody.
        let keep_until = opened_at + MAX_OPEN + LONGEST_TASK;
        StatusListRow { id: StatusListId::new(opened_at, random.bytes()), size: SIZE, opened_at, keep_until }
    }

    fn uri(&self, id: StatusListId) -> String {
        format!("{}/oauth/status/{id}", self.0.parts.issuer)
    }

    fn drawer(&self) -> MutexGuard<'_, Drawer> {
        self.0.drawer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn published(&self) -> MutexGuard<'_, Published> {
        self.0.published.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The list of a status claim and the index in it, as a token's record keeps them.
pub fn record_of(claim: &StatusClaim) -> (String, i64) {
    let StatusListRef { idx, uri } = &claim.status_list;
    (uri.rsplit('/').next().unwrap_or_default().to_owned(), i64::from(*idx))
}
