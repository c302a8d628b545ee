//! Limits in force, and the rates of callers: bounded in memory whatever keys attackers choose.

use std::hash::{BuildHasher as _, Hash, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use arc_swap::{ArcSwap, Guard};

use crate::config::LimitsConfig;
use crate::domain::principal::Principal;
use crate::domain::record::TreeLimits;
use crate::domain::refusal::{Limited, LimitedBy};
use crate::metrics::Metrics;

/// A caller may use as many seconds' worth of its rate at once.
const BURST_SECONDS: u64 = 10;
/// Cells of one row of a meter. A caller shares its buckets only with those that fall into the same cells of both rows.
const CELLS: usize = 1 << 15;
const NANOS: u64 = 1_000_000_000;

/// The limits in force, shared by all who keep them.
pub struct Limits {
    in_force: ArcSwap<LimitsConfig>,
    metrics: Arc<Metrics>,
    clients: Meter,
    principals: Meter,
    addresses: Meter,
    failures: Meter,
}

impl Limits {
    /// Limits as configured, with all buckets full.
    pub fn new(config: LimitsConfig, metrics: Arc<Metrics>) -> Self {
        let [clients, principals, addresses, failures] = std::array::from_fn(|_| Meter::new());
        let in_force = ArcSwap::from_pointee(config);
        Self { in_force, metrics, clients, principals, addresses, failures }
    }

    /// What is in force now.
    pub fn config(&self) -> Guard<Arc<LimitsConfig>> {
        self.in_force.load()
    }

    /// Puts other limits in force for all that comes; buckets keep what they hold in time.
    pub fn replace(&self, config: LimitsConfig) {
        self.in_force.store(Arc::new(config));
    }

    /// Counts a request of an authenticated client.
    pub fn client(&self, id: &str) -> Result<(), Limited> {
        let admitted = self.clients.admit(&id, self.config().client_rate);
        admitted.map_err(|after| self.limited(LimitedBy::Client, after))
    }

    /// Counts an exchange for a principal.
    pub fn principal(&self, principal: &Principal) -> Result<(), Limited> {
        let rate = self.config().principal_rate;
        self.principals.admit(principal, rate).map_err(|after| self.limited(LimitedBy::Principal, after))
    }

    /// Counts a request from a source address.
    pub fn address(&self, address: IpAddr) -> Result<(), Limited> {
        let rate = self.config().address_rate;
        self.addresses.admit(&network(address), rate).map_err(|after| self.limited(LimitedBy::Address, after))
    }

    /// Counts a failed client authentication from a source address.
    pub fn failure(&self, address: IpAddr) -> Result<(), Limited> {
        let rate = self.config().failure_rate;
        self.failures.admit(&network(address), rate).map_err(|after| self.limited(LimitedBy::Failures, after))
    }

    /// How far a tree may grow: the commit counts.
    pub fn tree(&self) -> TreeLimits {
        let config = self.config();
        TreeLimits {
            task_tokens: config.task_tokens,
            token_children: config.token_children,
            task_rate: config.task_rate,
        }
    }

    fn limited(&self, by: LimitedBy, retry_after: u32) -> Limited {
        self.metrics.rate_limited(by.as_str());
        Limited { by, retry_after }
    }
}

/// What one host has to itself: an IPv4 address, or the /64 of an IPv6 one, in which it may choose as it likes.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        v4 @ IpAddr::V4(_) => v4,
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
    }
}

/// Token buckets for any number of keys in a fixed number of cells: two rows, each key in one cell of each. A key is
/// refused when both cells are empty, so that strangers who emptied one of them do it no harm. Which keys share a cell
/// is random, and nobody outside can find out.
///
/// A cell holds the instant at which its bucket will be full again (the generic cell rate algorithm).
struct Meter {
    epoch: Instant,
    rows: [Row; 2],
}

struct Row {
    hasher: RandomState,
    cells: Box<[AtomicU64]>,
}

impl Meter {
    fn new() -> Self {
        let row = || Row {
            hasher: RandomState::new(),
            cells: std::iter::repeat_with(AtomicU64::default).take(CELLS).collect(),
        };
        Self { epoch: Instant::now(), rows: [row(), row()] }
    }

    /// Takes one from the buckets of `key`, or tells after how many seconds there will be one.
    fn admit(&self, key: &impl Hash, rate: u32) -> Result<(), u32> {
        // The first instant is late enough that all buckets have filled up.
        let now =
            NANOS * BURST_SECONDS + u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX / 2);
        self.admit_at(key, rate, now)
    }

    fn admit_at(&self, key: &impl Hash, rate: u32, now: u64) -> Result<(), u32> {
        if rate == 0 {
            return Ok(());
        }
        let each = NANOS / u64::from(rate).min(NANOS);
        match self.rows.each_ref().map(|row| row.take(key, each, now)) {
            [Err(one), Err(two)] => {
                Err(u32::try_from(one.min(two).div_ceil(NANOS)).unwrap_or(u32::MAX).max(1))
            }
            _ => Ok(()),
        }
    }
}

impl Row {
    /// Takes `each` nanoseconds from the cell of `key`, or tells for how many it must fill up first.
    fn take(&self, key: &impl Hash, each: u64, now: u64) -> Result<(), u64> {
        // CELLS is a power of two.
        let at = usize::try_from(self.hasher.hash_one(key) % CELLS as u64).unwrap_or_default();
        let Some(cell) = self.cells.get(at) else { return Ok(()) };
        let latest = now + NANOS * BURST_SECONDS;
        let take = |full: u64| Some(full.max(now) + each).filter(|full| *full <= latest);
        match cell.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
            Ok(_) => Ok(()),
            Err(full) => Err((full.max(now) + each).saturating_sub(latest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 100 * NANOS;

    #[test]
    fn ten_seconds_worth_may_come_at_once_and_then_one_at_a_time() {
        let meter = Meter::new();
        for _ in 0..50 {
            assert_eq!(meter.admit_at(&"a", 5, START), Ok(()));
        }
        assert_eq!(meter.admit_at(&"a", 5, START), Err(1));
        assert_eq!(meter.admit_at(&"b", 5, START), Ok(()), "another caller");
        assert_eq!(meter.admit_at(&"a", 5, START + NANOS / 5), Ok(()));
        assert_eq!(meter.admit_at(&"a", 5, START + NANOS / 5), Err(1));
        for _ in 0..50 {
            assert_eq!(meter.admit_at(&"a", 5, START + 11 * NANOS), Ok(()));
        }
    }

    #[test]
    fn a_slow_rate_tells_how_long_to_wait_and_none_is_no_limit() {
        let meter = Meter::new();
        for _ in 0..10 {
            assert_eq!(meter.admit_at(&"a", 1, START), Ok(()));
        }
        assert_eq!(meter.admit_at(&"a", 1, START), Err(1));
        assert_eq!(meter.admit_at(&"a", 0, START), Ok(()));
        assert_eq!(meter.admit_at(&"c", u32::MAX, START), Ok(()));
    }

    #[test]
    fn keys_that_empty_many_cells_do_not_empty_those_of_others() {
        let meter = Meter::new();
        for key in 0..1000 {
            while meter.admit_at(&key, 1, START).is_ok() {}
        }
        let refused = (1_000_000..1_010_000).filter(|key| meter.admit_at(key, 1, START).is_err()).count();
        assert!(refused < 50, "{refused} of 10,000");
    }

    #[test]
    fn an_ipv6_host_has_one_bucket_for_all_its_addresses() {
        let is_same = |one: &str, two: &str| network(one.parse().unwrap()) == network(two.parse().unwrap());
        assert!(is_same("2001:db8::1", "2001:db8::ffff:1"));
        assert!(!is_same("2001:db8::1", "2001:db8:0:1::1"));
        assert!(is_same("::ffff:10.0.0.1", "10.0.0.1") && !is_same("10.0.0.1", "10.0.0.2"));
    }
}
