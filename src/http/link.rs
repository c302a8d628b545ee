//! One connection of the public listener as the limits see it: what it is doing, and since when.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::keys::certificate::Chain;

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It has begun, or sent a part of a request's head.
    Head = 0,
    /// It was answered, and nothing more has come.
    Idle = 1,
    /// It sends the body of a request.
    Body = 2,
    /// We work on its request.
    Work = 3,
    /// It shall be closed.
    Cut = 4,
    /// It was accepted, and we have not looked yet at what it may have sent.
    New = 5,
}

impl Stage {
    const BITS: u32 = 3;

    fn of(word: u64) -> Self {
        match word & ((1 << Self::BITS) - 1) {
            0 => Self::Head,
            1 => Self::Idle,
            2 => Self::Body,
            3 => Self::Work,
            5 => Self::New,
            _ => Self::Cut,
        }
    }
}

/// How long a connection may keep us waiting.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For the head of a request, from its first byte or the connection's beginning.
    pub head: Duration,
    /// For the first byte of a further request.
    pub idle: Duration,
}

/// A connection, shared by whoever serves it and whoever may cut it. While we work on a request it is never cut: the
/// answer would be lost of something that may be committed.
#[derive(Debug)]
pub struct Link {
    peer: SocketAddr,
    epoch: Instant,
    /// The stage, and milliseconds from `epoch` to its beginning.
    word: AtomicU64,
    cut: Notify,
    certificate: OnceLock<Arc<Chain>>,
}

impl Link {
    /// A connection that begins now. `epoch` is an instant before all connections.
    pub fn new(peer: SocketAddr, epoch: Instant) -> Self {
        let link =
            Self { peer, epoch, word: AtomicU64::new(0), cut: Notify::new(), certificate: OnceLock::new() };
        link.word.store(link.word_of(Stage::New), Ordering::Relaxed);
        link
    }

    /// Who is at the other end: a client, or a proxy.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The handshake, or the one that it resumes, has proved that the other end has the key of this certificate.
    pub fn shows(&self, certificate: Chain) {
        self.certificate.get_or_init(|| Arc::new(certificate));
    }

    /// The certificate that the other end has shown.
    pub(super) fn certificate(&self) -> Option<&Arc<Chain>> {
        self.certificate.get()
    }

    /// We look at what has come. Before that nobody can say that the client keeps us waiting: where many come at once, those
    /// who have sent their request would be pushed out by the ones behind them.
    pub fn looked(&self) {
        let word = self.word.load(Ordering::Relaxed);
        if Stage::of(word) == Stage::New {
            self.change(word, Stage::Head);
        }
    }

    /// Bytes have come.
    pub fn heard(&self) {
        let word = self.word.load(Ordering::Relaxed);
        if Stage::of(word) == Stage::Idle {
            self.change(word, Stage::Head);
        }
    }

    /// A head was read, a body may follow. False if the connection is being closed.
    fn takes_body(&self) -> bool {
        self.enter(Stage::Body)
    }

    /// The request is here in full. False if the connection is being closed: then nothing may be begun.
    pub(super) fn works(&self) -> bool {
        self.enter(Stage::Work)
    }

    /// The request is answered.
    fn rests(&self) {
        self.enter(Stage::Idle);
    }

    /// Since when the connection has kept us waiting, in milliseconds of its own time; none where we have not looked yet, or
    /// work.
    pub fn waits_since(&self) -> Option<u64> {
        let word = self.word.load(Ordering::Relaxed);
        match Stage::of(word) {
            Stage::Head | Stage::Idle | Stage::Body => Some(word >> Stage::BITS),
            Stage::New | Stage::Work | Stage::Cut => None,
        }
    }

    /// Cuts the connection unless we work on its request or have not looked yet; tells whether it did.
    pub fn cut(&self) -> bool {
        let word = self.word.load(Ordering::Relaxed);
        match Stage::of(word) {
            Stage::Head | Stage::Idle | Stage::Body => self.change(word, Stage::Cut) && self.tell(),
            Stage::New | Stage::Work | Stage::Cut => false,
        }
    }

    /// Cuts the connection if it has used up our patience. What sends a body has the request's own time limit.
    pub fn cut_if_late(&self, patience: Patience) -> bool {
        let word = self.word.load(Ordering::Relaxed);
        let allowed = match Stage::of(word) {
            Stage::New | Stage::Head => patience.head,
            Stage::Idle => patience.idle,
            Stage::Body | Stage::Work | Stage::Cut => return false,
        };
        let waited = self.millis().saturating_sub(word >> Stage::BITS);
        u128::from(waited) > allowed.as_millis() && self.change(word, Stage::Cut) && self.tell()
    }

    /// Waits until the connection is cut.
    pub async fn is_cut(&self) {
        self.cut.notified().await;
    }

    fn tell(&self) -> bool {
        self.cut.notify_one();
        true
    }

    fn enter(&self, stage: Stage) -> bool {
        let word = self.word.load(Ordering::Relaxed);
        Stage::of(word) != Stage::Cut && self.change(word, stage)
    }

    /// False if somebody else was faster: only a cut can be.
    fn change(&self, from: u64, to: Stage) -> bool {
        let next = self.word_of(to);
        self.word.compare_exchange(from, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    fn word_of(&self, stage: Stage) -> u64 {
        self.millis() << Stage::BITS | stage as u64
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX >> Stage::BITS)
    }
}

/// One request of a connection, from the end of its head: the connection rests again when it is dropped, however the request
/// ends.
pub struct Busy(Arc<Link>);

impl Busy {
    /// The head was read.
    pub fn begin(link: Arc<Link>) -> Self {
        // A connection that is being closed goes no further: whoever serves it drops this at once.
        link.takes_body();
        Self(link)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.rests();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link() -> Link {
        let link = Link::new("127.0.0.1:1".parse().unwrap(), Instant::now());
        assert!(!link.cut() && link.waits_since().is_none(), "nobody has looked yet");
        link.looked();
        link
    }

    #[test]
    fn a_connection_is_cut_at_any_stage_but_before_we_look_and_while_we_work() {
        let one = link();
        assert!(one.cut() && !one.cut() && !one.takes_body() && !one.works());
        let one = link();
        assert!(one.takes_body() && one.cut() && !one.works());
        let one = link();
        assert!(one.takes_body() && one.works() && !one.cut() && one.waits_since().is_none());
        one.rests();
        assert!(one.waits_since().is_some() && one.cut());
    }

    #[test]
    fn patience_ends_for_a_head_and_for_idleness_each_in_its_own_time() {
        let hasty = Patience { head: Duration::ZERO, idle: Duration::from_mins(1) };
        let one = link();
        std::thread::sleep(Duration::from_millis(5));
        assert!(one.takes_body() && !one.cut_if_late(hasty), "a body has the request's time");
        assert!(one.works() && !one.cut_if_late(hasty));
        one.rests();
        assert!(!one.cut_if_late(hasty), "idle");
        one.heard();
        std::thread::sleep(Duration::from_millis(5));
        assert!(one.cut_if_late(hasty));
    }
}
