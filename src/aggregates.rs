//! Refusals that callers can cause at will, counted so that a flood of them does not fill the log (L12).

pub mod recorder;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::decision::Kind;

/// What is counted together: refusals of one kind, for one reason, to one client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Refused {
    /// What was refused.
    pub kind: Kind,
    /// The client id, or the `iss` of an event; none where client authentication failed, or nobody knows who sent an event.
    pub client: Option<String>,
    /// The reason's code.
    pub code: String,
}

/// The counts since they were last taken. Registered clients and our own codes are what they are kept by, so callers cannot
/// make them many.
#[derive(Debug, Default)]
pub struct Aggregates(Mutex<HashMap<Refused, u64>>);

impl Aggregates {
    /// Counts a failed client authentication.
    pub fn unauthenticated(&self) {
        let code = "client_authentication_failed".to_owned();
        self.put_back(Refused { kind: Kind::Exchange, client: None, code }, 1);
    }

    /// Counts an event that was refused and that anybody may have sent.
    pub fn unproved_event(&self) {
        self.put_back(Refused { kind: Kind::Admin, client: None, code: "event_refused".to_owned() }, 1);
    }

    /// Whether a refusal is to have a decision of its own: the first of its like since counts were last taken. Any further
    /// one is counted.
    pub fn is_first(&self, kind: Kind, client: &str, code: &str) -> bool {
        let refused = Refused { kind, client: Some(client.to_owned()), code: code.to_owned() };
        let mut open = self.lock();
        let count = open.get_mut(&refused).map(|count| *count += 1);
        if count.is_none() {
            open.insert(refused, 0);
        }
        count.is_none()
    }

    /// What was counted since the last call.
    pub fn take(&self) -> Vec<(Refused, u64)> {
        let counted = std::mem::take(&mut *self.lock());
        counted.into_iter().filter(|(_, count)| *count > 0).collect()
    }

    /// Counts again what was taken and could not be recorded.
    pub fn put_back(&self, refused: Refused, count: u64) {
        *self.lock().entry(refused).or_default() += count;
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Refused, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l12_the_first_of_its_like_has_its_own_decision_and_the_rest_are_counted() {
        let all = Aggregates::default();
        let refuse = |client, code| all.is_first(Kind::Exchange, client, code);
        assert!(refuse("a", "x") && !refuse("a", "x") && !refuse("a", "x"));
        assert!(refuse("b", "x") && refuse("a", "y") && all.is_first(Kind::Admin, "a", "x"));
        all.unauthenticated();
        let mut taken = all.take();
        taken.sort_by_key(|(_, count)| *count);
        let taken: Vec<_> = taken.iter().map(|(r, n)| (r.client.as_deref(), r.code.as_str(), *n)).collect();
        assert_eq!(taken, [(None, "client_authentication_failed", 1), (Some("a"), "x", 2)]);
        assert!(all.take().is_empty() && refuse("a", "x"), "a new minute");
    }

    #[test]
    fn l12_what_could_not_be_recorded_is_counted_again() {
        let all = Aggregates::default();
        all.unauthenticated();
        let [(refused, 1)] = &all.take()[..] else { panic!("not counted") };
        all.put_back(refused.clone(), 1);
        all.unauthenticated();
        assert_eq!(all.take(), [(refused.clone(), 2)]);
    }
}
