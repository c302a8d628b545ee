//! All open connections of the public listener: how many there may be, and who gives way.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::http::link::{Link, Patience};

/// The open connections.
pub(super) struct Connections {
    epoch: Instant,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    next: u64,
    links: HashMap<u64, Arc<Link>>,
}

/// One of the open connections; it is one no more when this is dropped.
pub(super) struct Entry {
    id: u64,
    link: Arc<Link>,
    all: Arc<Connections>,
}

impl Entry {
    pub(super) fn link(&self) -> &Arc<Link> {
        &self.link
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.all.lock().links.remove(&self.id);
    }
}

impl Connections {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { epoch: Instant::now(), open: Mutex::default() })
    }

    /// Enters a connection that was accepted.
    pub(super) fn enter(self: &Arc<Self>, peer: SocketAddr) -> Entry {
        let link = Arc::new(Link::new(peer, self.epoch));
        let mut open = self.lock();
        open.next += 1;
        let id = open.next;
        open.links.insert(id, link.clone());
        Entry { id, link, all: self.clone() }
    }

    /// How many are open.
    pub(super) fn len(&self) -> usize {
        self.lock().links.len()
    }

    /// Makes room for one more by cutting the one that has kept us waiting longest: an attacker who opens many pushes out
    /// his own first. False if we are working for all of them, or have yet to look at them.
    pub(super) fn evict(&self) -> bool {
        let mut open = self.lock();
        loop {
            let waiting = open.links.iter().filter_map(|(id, link)| Some((link.waits_since()?, *id)));
            let Some((_, id)) = waiting.min() else { return false };
            // It may have begun to work since: then another one goes.
            if open.links.get(&id).is_some_and(|link| link.cut()) {
                open.links.remove(&id);
                return true;
            }
        }
    }

    /// Cuts those that have used up our patience; tells how many.
    pub(super) fn sweep(&self, patience: Patience) -> usize {
        self.lock().links.values().filter(|link| link.cut_if_late(patience)).count()
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_one_that_waits_longest_gives_way() {
        let all = Connections::new();
        let peer = "127.0.0.1:1".parse().unwrap();
        let first = all.enter(peer);
        std::thread::sleep(Duration::from_millis(3));
        let second = all.enter(peer);
        assert!(!all.evict(), "nobody has looked yet at what they sent");
        for entry in [&first, &second] {
            entry.link().looked();
        }
        assert!(all.evict());
        assert!(!first.link().cut() && all.len() == 1, "the first is cut already");
        drop(first);
        assert_eq!(all.len(), 1);
        drop(second);
        assert!(all.len() == 0 && !all.evict());
    }
}
