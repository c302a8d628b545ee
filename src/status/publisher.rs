//! The bits of every live list, kept up with the revocations in the background: no exchange waits for it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::{Instant, MissedTickBehavior};
use tracing::warn;

use super::StatusLists;
use super::served::Signed;
use crate::domain::ids::{Jti, StatusListId};
use crate::domain::status::Bits;
use crate::store::error::StoreError;
use crate::store::status::{Since, StatusListRow};

/// How long the publisher rests between two rounds: what its work takes comes on top.
const PUBLISH_EVERY: Duration = Duration::from_secs(1);
/// Hand-over tokens live a minute; those issued before this are dead anyway.
const HAND_OVERS: TimeDelta = TimeDelta::minutes(2);
/// How often a failure is told.
const TELL_EVERY: Duration = Duration::from_mins(1);

/// What this process knows of the lists.
#[derive(Default)]
pub(super) struct Published {
    /// All that was revoked until then is in the bits; none before the first round.
    as_of: Option<DateTime<Utc>>,
    lists: BTreeMap<StatusListId, List>,
}

/// One list.
pub(super) struct List {
    pub(super) bits: Bits,
    /// As it was last signed.
    pub(super) signed: Option<Signed>,
}

impl Published {
    pub(super) fn as_of(&self) -> Option<DateTime<Utc>> {
        self.as_of
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = StatusListId> {
        self.lists.keys().copied()
    }

    pub(super) fn revoked(&self) -> u64 {
        self.lists.values().map(|list| u64::from(list.bits.count())).sum()
    }

    /// The list `id`, and the moment that its bits tell of.
    pub(super) fn list(&mut self, id: StatusListId) -> Option<&mut List> {
        self.lists.get_mut(&id)
    }

    /// Takes in a list that another process has opened meanwhile. Nothing of it is dead as far as was read: what was
    /// read to be dead would have brought the list with it.
    pub(super) fn add(&mut self, row: &StatusListRow) {
        let new = || List { bits: Bits::new(row.size), signed: None };
        self.lists.entry(row.id).or_insert_with(new);
    }

    /// Tells nothing until the next round has ended.
    fn withhold(&mut self) {
        self.as_of = None;
    }

    /// Keeps the lists `live` and no others, sets the bits of what has died, and tells that they are as of `as_of`.
    fn update(&mut self, live: &[StatusListRow], places: &[(String, i64)], as_of: Option<DateTime<Utc>>) {
        let ids: BTreeSet<StatusListId> = live.iter().map(|row| row.id).collect();
        self.lists.retain(|id, _| ids.contains(id));
        for row in live {
            self.add(row);
        }
        for (list, index) in places {
            let list = list.parse().ok().and_then(|id: StatusListId| self.lists.get_mut(&id));
            // A place of a list that is gone is that of a token that has expired meanwhile.
            if let (Some(list), Ok(index)) = (list, u32::try_from(*index))
                && list.bits.set(index)
            {
                list.signed = None;
            }
        }
        self.as_of = as_of.or(self.as_of);
    }
}

/// How far one process has read; only its publisher has it.
#[derive(Default)]
struct Reader {
    since: Since,
    /// The latest time of a round.
    latest: Option<DateTime<Utc>>,
    /// Spent hand-over tokens whose bits are set.
    hand_overs: BTreeSet<Jti>,
}

impl StatusLists {
    /// Goes on until it is aborted. While a round fails, the lists stay as they were and run out: whoever verifies by
    /// them refuses then (L7).
    pub async fn publish(self) {
        let mut reader = Reader::default();
        let mut every = tokio::time::interval(PUBLISH_EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told: Option<Instant> = None;
        loop {
            every.tick().await;
            let opened = self.tend().await.map_err(|fault| fault.to_string());
            let read = self.round(&mut reader).await.map_err(|fault| fault.to_string());
            let Err(error) = read.and(opened) else { continue };
            if told.is_none_or(|at| at.elapsed() >= TELL_EVERY) {
                warn!(error, "the status lists could not be brought up to date");
                told = Some(Instant::now());
            }
        }
    }

    /// Brings the bits up to now. Reads the lists last: each was recorded before its first token, so all are there in
    /// which something has died.
    async fn round(&self, reader: &mut Reader) -> Result<(), StoreError> {
        let store = &self.0.parts.store;
        loop {
            let now = self.0.parts.clock.now();
            if reader.latest.is_some_and(|latest| now < latest) {
                // By a clock that was ahead what lives seemed to have ended, and its bits were left out: all is read again.
                *reader = Reader::default();
                self.published().withhold();
            }
            reader.latest = Some(now);
            let mut since = reader.since.clone();
            let revoked = store.revoked_since(&mut since, now).await?;
            let mut places = Vec::new();
            if !revoked.is_empty() {
                let oldest = store.status_lists(now).await?.iter().map(|row| row.opened_at).min();
                let tasks = store.tasks_touched(&revoked, now, oldest.unwrap_or(now)).await?;
                places.extend(store.places_of_dead(&revoked, &tasks, now).await?);
            }
            let spent = store.hand_overs_spent(now - HAND_OVERS, now).await?;
            let new: Vec<Jti> =
                spent.iter().filter(|jti| !reader.hand_overs.contains(jti)).copied().collect();
            places.extend(store.places_of(&new).await?);
            let live = store.status_lists(now).await?;
            self.published().update(&live, &places, (!revoked.more).then_some(now));
            // Only what is in the bits has been read.
            (reader.since, reader.hand_overs) = (since, spent.into_iter().collect());
            if !revoked.more {
                return Ok(());
            }
        }
    }
}
