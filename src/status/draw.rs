//! Drawing places: at random, never one twice, and only from lists that this process opened (SL-02).

use chrono::{DateTime, TimeDelta, Utc};

use super::MAX_OPEN;
use crate::domain::ids::StatusListId;
use crate::domain::status::Bits;
use crate::store::status::StatusListRow;

/// How long before its end a list gets a successor.
const AHEAD: TimeDelta = TimeDelta::hours(1);

/// A list that is drawn from.
pub(super) struct Opened {
    row: StatusListRow,
    used: Bits,
    /// The latest expiry of what was drawn.
    lives_until: DateTime<Utc>,
}

impl Opened {
    pub(super) fn new(row: StatusListRow) -> Self {
        Self { used: Bits::new(row.size), lives_until: row.opened_at, row }
    }

    /// A place that was not drawn yet. At most seven of eight are: so eight draws on average at worst, and two until the
    /// list is half full, which is when another takes over.
    fn draw(&mut self, exp: DateTime<Utc>, mut random: impl FnMut() -> u32) -> Option<u32> {
        if self.used.count() >= self.row.size / 8 * 7 || exp > self.row.keep_until {
            return None;
        }
        self.lives_until = self.lives_until.max(exp);
        loop {
            // The size is a power of two: every place is as likely as any other.
            let index = random() & (self.row.size - 1);
            if self.used.set(index) {
                return Some(index);
            }
        }
    }

    /// Whether it has given so many places, of all, or is so old.
    fn is_beyond(&self, share: u32, now: DateTime<Utc>, age: TimeDelta) -> bool {
        self.used.count() >= share || now - self.row.opened_at >= age
    }

    fn is_full(&self, now: DateTime<Utc>) -> bool {
        self.is_beyond(self.row.size / 2, now, MAX_OPEN)
    }

    fn into_row(self) -> StatusListRow {
        StatusListRow { keep_until: self.lives_until, ..self.row }
    }
}

/// The list in use, the one that is to follow, and those that are full but not known to be.
#[derive(Default)]
pub(super) struct Drawer {
    current: Option<Opened>,
    next: Option<Opened>,
    full: Vec<StatusListRow>,
}

impl Drawer {
    /// A place for a token that lives until `exp`.
    pub(super) fn draw(
        &mut self,
        now: DateTime<Utc>,
        exp: DateTime<Utc>,
        random: impl FnMut() -> u32,
    ) -> Option<(StatusListId, u32)> {
        if self.next.is_some() && self.current.as_ref().is_none_or(|current| current.is_full(now)) {
            let full = std::mem::replace(&mut self.current, self.next.take());
            self.full.extend(full.map(Opened::into_row));
        }
        // Without a successor the list goes on beyond its time, for as long as it can.
        let current = self.current.as_mut()?;
        Some((current.row.id, current.draw(exp, random)?))
    }

    /// Whether a list should be opened: half of the places that the current one has to give are gone.
    pub(super) fn needs_another(&self, now: DateTime<Utc>) -> bool {
        let soon = |current: &Opened| current.is_beyond(current.row.size / 4, now, MAX_OPEN - AHEAD);
        self.next.is_none() && self.current.as_ref().is_none_or(soon)
    }

    /// Takes in a list that is recorded.
    pub(super) fn add(&mut self, list: Opened) {
        if self.current.is_none() { self.current = Some(list) } else { self.next = Some(list) }
    }

    /// A list of which it should be recorded until when its tokens live.
    pub(super) fn first_full(&self) -> Option<StatusListRow> {
        self.full.first().cloned()
    }

    /// It is recorded.
    pub(super) fn forget_full(&mut self, id: StatusListId) {
        self.full.retain(|row| row.id != id);
    }

    /// Draws no more: all lists count as full.
    pub(super) fn end(&mut self) {
        let open = [self.current.take(), self.next.take()];
        self.full.extend(open.into_iter().flatten().map(Opened::into_row));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::clock::Random;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000 + seconds, 0).unwrap()
    }

    fn list(size: u32, opened: i64) -> Opened {
        let (opened_at, keep_until) = (at(opened), at(opened) + TimeDelta::days(31));
        let id = StatusListId::new(opened_at, Random::default().bytes());
        Opened::new(StatusListRow { id, size, opened_at, keep_until })
    }

    fn random() -> u32 {
        u32::from_ne_bytes(Random::default().bytes())
    }

    #[test]
    fn sl_02_no_place_is_drawn_twice_and_the_order_tells_nothing() {
        let mut drawer = Drawer::default();
        drawer.add(list(1 << 12, 0));
        let drawn: Vec<u32> =
            (0..3584).map(|_| drawer.draw(at(1), at(60), random).expect("there is room").1).collect();
        assert_eq!(drawn.iter().collect::<BTreeSet<_>>().len(), drawn.len());
        assert!(drawn.iter().all(|index| *index < 1 << 12));
        // Neighbours in time are neighbours in the list no more often than chance has it: 2 in 4096.
        let close = drawn.windows(2).filter(|pair| pair[0].abs_diff(pair[1]) == 1).count();
        assert!(close < 30, "{close} of 3583");
        assert_eq!(drawer.draw(at(1), at(60), random), None, "seven of eight are gone");
    }

    #[test]
    fn a_list_that_is_half_full_or_a_day_old_gives_way_to_the_next() {
        let mut drawer = Drawer::default();
        assert!(drawer.needs_another(at(0)) && drawer.draw(at(0), at(60), random).is_none());
        drawer.add(list(16, 0));
        let first = drawer.draw(at(0), at(60), random).unwrap().0;
        assert!(!drawer.needs_another(at(0)));
        for exp in [at(900), at(70), at(80)] {
            assert_eq!(drawer.draw(at(0), exp, random).unwrap().0, first);
        }
        assert!(drawer.needs_another(at(0)), "a quarter is gone");
        drawer.add(list(16, 10));
        assert!(!drawer.needs_another(at(0)));
        for _ in 4..8 {
            assert_eq!(drawer.draw(at(0), at(60), random).unwrap().0, first);
        }
        let second = drawer.draw(at(0), at(60), random).unwrap().0;
        assert_ne!(second, first);
        let full = drawer.first_full().unwrap();
        assert_eq!((full.id, full.keep_until), (first, at(900)), "it lives as long as its longest token");
        drawer.forget_full(first);
        assert_eq!(drawer.first_full(), None);
        let tomorrow = at(10) + MAX_OPEN;
        assert!(drawer.needs_another(tomorrow));
        drawer.add(list(16, 86_400));
        assert_ne!(drawer.draw(tomorrow, tomorrow, random).unwrap().0, second);
    }

    #[test]
    fn nothing_is_drawn_that_outlives_what_is_recorded_of_the_list() {
        let mut drawer = Drawer::default();
        drawer.add(list(16, 0));
        assert_eq!(drawer.draw(at(0), at(32 * 86_400), random), None);
        drawer.end();
        assert!(drawer.draw(at(0), at(60), random).is_none());
        assert_eq!(drawer.first_full().unwrap().keep_until, at(0), "no token of it ever lived");
    }
}
