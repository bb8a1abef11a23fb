//! How many invalidations the kernel side has counted, and how long they took, and I/O page faults: plain data, read at a
//! scrape.

use monitor_ebpf::descriptor::Scope;
use monitor_ebpf::wire::{LATENCY_BUCKETS, RANGE_VERDICTS};

/// One in so many submissions of a scope is timed.
pub const SAMPLED: u64 = monitor_ebpf::wire::SAMPLED;

/// What was counted since the start, over all CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invalidations {
    /// The IOMMU driver whose queue is watched; `None`: none is.
    pub driver: Option<&'static str>,
    /// Descriptors, by [`Scope`].
    scopes: [u64; Scope::ALL.len()],
    /// Submissions that failed.
    pub failed: u64,
    /// Flushes of a range, by cache: covered, short, undecided; `None`: they are not watched.
    pub ranges: Option<[u64; RANGE_VERDICTS]>,
    /// I/O page faults, with the driver that tells of them; `None`: none does.
    pub faults: Option<(&'static str, u64)>,
    /// How many timed submissions took less than 2^n ns, and not less than half of it.
    latency: [u64; LATENCY_BUCKETS],
    /// What they took together, ns.
    pub latency_ns: u64,
}

impl Default for Invalidations {
    fn default() -> Invalidations {
        Invalidations {
            driver: None,
            scopes: [0; Scope::ALL.len()],
            failed: 0,
            ranges: None,
            faults: None,
            latency: [0; LATENCY_BUCKETS],
            latency_ns: 0,
        }
    }
}

impl Invalidations {
    /// Nothing yet, by this driver.
    pub fn of_driver(driver: Option<&'static str>) -> Invalidations {
        Invalidations { driver, ..Invalidations::default() }
    }

    pub fn of(&self, scope: Scope) -> u64 {
        self.scopes.get(scope as usize).copied().unwrap_or_default()
    }

    pub fn add(&mut self, scope: Scope, count: u64) {
        if let Some(known) = self.scopes.get_mut(scope as usize) {
            *known = known.wrapping_add(count);
        }
    }

    /// Takes over the histogram.
    pub fn set_latency(&mut self, buckets: [u64; LATENCY_BUCKETS]) {
        self.latency = buckets;
    }

    /// How many submissions were timed.
    pub fn timed(&self) -> u64 {
        self.latency.iter().sum()
    }

    /// The histogram with upper bounds in seconds, each with how many took no longer: from 1 µs to 17 s.
    pub fn latency(&self) -> impl Iterator<Item = (f64, u64)> {
        (10..35).map(|bits| {
            let count = self.latency.iter().take(bits + 1).sum();
            ((1u64 << bits) as f64 / 1e9, count)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_what_took_no_longer() {
        let mut counted = Invalidations::default();
        let mut buckets = [0; LATENCY_BUCKETS];
        // 600 ns, 5 µs, 20 s.
        (buckets[10], buckets[13], buckets[35]) = (1, 2, 1);
        counted.set_latency(buckets);
        let told: Vec<(f64, u64)> = counted.latency().collect();
        assert_eq!(told[0], (1.024e-6, 1));
        assert_eq!(told[2], (4.096e-6, 1));
        assert_eq!(told[3], (8.192e-6, 3));
        assert_eq!(told.last().map(|&(_, count)| count), Some(3));
        assert_eq!(counted.timed(), 4);
    }
}
