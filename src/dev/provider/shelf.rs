//! What waits to be fetched once: a page for its form, a code for its exchange.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Most things that wait; the oldest makes place.
const MOST: usize = 64;

/// Things under names that nobody guesses. What has been fetched, or has lain too long, is gone.
pub(super) struct Shelf<T> {
    life: Duration,
    /// Name, steady time at which it was put there, and thing; the oldest first.
    kept: Mutex<Vec<(String, Duration, T)>>,
}

impl<T> Shelf<T> {
    /// An empty one, whose things last so long.
    pub(super) fn new(life: Duration) -> Self {
        Self { life, kept: Mutex::default() }
    }

    /// Puts `thing` there at the steady time `now`.
    pub(super) fn put(&self, now: Duration, name: String, thing: T) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(_, since, _)| now.saturating_sub(*since) <= self.life);
        if kept.len() >= MOST {
            kept.remove(0);
        }
        kept.push((name, now, thing));
    }

    /// Takes what lies under `name`, if it is not too old.
    pub(super) fn take(&self, now: Duration, name: &str) -> Option<T> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().position(|(known, ..)| known == name)?;
        let (_, since, thing) = kept.remove(at);
        (now.saturating_sub(since) <= self.life).then_some(thing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thing_is_taken_once_and_in_time_and_the_oldest_makes_place() {
        let shelf = Shelf::new(Duration::from_mins(1));
        let at = Duration::from_secs;
        for (number, name) in ["a", "b", "c"].into_iter().enumerate() {
            shelf.put(at(0), name.to_owned(), number);
        }
        assert_eq!((shelf.take(at(60), "a"), shelf.take(at(60), "a")), (Some(0), None));
        assert_eq!((shelf.take(at(61), "b"), shelf.take(at(60), "b")), (None, None));
        for number in 0..MOST {
            shelf.put(at(60), number.to_string(), number);
        }
        assert_eq!((shelf.take(at(60), "c"), shelf.take(at(60), "0")), (None, Some(0)));
    }
}
