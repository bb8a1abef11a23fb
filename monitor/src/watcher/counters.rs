//! What is counted for the metrics.

use std::collections::BTreeMap;

use monitor_ebpf::wire::{Hook, Phase};

use crate::errno::errno_name;
use crate::event::Event;
use crate::input::{Resync, Stage};
use crate::invalidations::Invalidations;

/// Calls of one kind, and how they failed.
#[derive(Clone, Debug, Default)]
pub struct Calls {
    /// Calls that returned, whatever came of them.
    pub total: u64,
    /// Those that failed, by the name of the errno.
    pub failures: BTreeMap<&'static str, u64>,
}

impl Calls {
    fn count(&mut self, ret: i32) {
        self.total += 1;
        if ret < 0 {
            *self.failures.entry(errno_name(ret)).or_default() += 1;
        }
    }
}

/// The upper bounds of the buckets of detection latency, in seconds.
pub const LATENCY_BOUNDS: [f64; 10] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 1.0, 10.0];

/// A histogram over [`LATENCY_BOUNDS`].
#[derive(Clone, Debug, Default)]
pub struct Latency {
    /// How many took at most the bound of the same index, and more than the one before.
    pub buckets: [u64; LATENCY_BOUNDS.len()],
    pub count: u64,
    pub seconds: f64,
}

/// A count for each hook, by its number.
#[derive(Clone, Debug)]
struct ByHook([u64; Hook::COUNT]);

impl Default for ByHook {
    fn default() -> ByHook {
        ByHook([0; Hook::COUNT])
    }
}

/// How the last reading of the configuration went.
#[derive(Clone, Copy, Debug, Default)]
pub struct Configured {
    /// It was bad: the one before is kept.
    pub failed: bool,
    /// So was that of the web configuration.
    pub web_failed: bool,
    /// When it was last good, in seconds since the epoch.
    pub read_at_seconds: f64,
}

/// What became of what there was to tell.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// Lines that were not written since whoever reads them did not keep up, or since they were damaged in the spool.
    pub dropped: u64,
    /// Violations that came faster than is let through, by check.
    pub suppressed: BTreeMap<&'static str, u64>,
    /// Lines that went to the spool, and the bytes that are in it; `None`: there is none.
    pub spool: Option<Spooled>,
    /// `None`: nothing is pushed.
    pub push: Option<Pushed>,
}

/// What there is of the spool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spooled {
    /// It takes lines.
    pub usable: bool,
    pub lines: u64,
    pub bytes: u64,
}

/// What became of pushes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pushed {
    /// Requests that were accepted, and those that failed.
    pub accepted: u64,
    pub failed: u64,
    /// Alerts or lines for which there was no room, or which were refused for good.
    pub dropped: u64,
    /// Those that wait for their turn, or to be sent again after a failure.
    pub waiting: u64,
}

/// Everything that is counted since the start.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    events: ByHook,
    lost: BTreeMap<Stage, u64>,
    resyncs: BTreeMap<Resync, u64>,
    leaks: BTreeMap<Hook, u64>,
    pub claims: Calls,
    pub attaches: Calls,
    pub binds: Calls,
    pub detection: Latency,
    /// What the kernel side has counted, when it was last read.
    pub invalidations: Invalidations,
    pub config: Configured,
    /// For how long nobody was reading before this process took over from another, in ns.
    pub unwatched_ns: u64,
    pub told: Told,
}

impl Counters {
    /// Calls seen on a hook.
    pub fn events(&self, hook: Hook) -> u64 {
        self.events.0[hook as usize]
    }

    pub fn lost(&self, stage: Stage) -> u64 {
        self.lost.get(&stage).copied().unwrap_or_default()
    }

    pub fn resyncs(&self, reason: Resync) -> u64 {
        self.resyncs.get(&reason).copied().unwrap_or_default()
    }

    pub(super) fn count(&mut self, event: &Event) {
        // A call counts once, when it has returned; of some only the return is seen, of others only the entry.
        if event.phase != Phase::Begin {
            self.events.0[event.hook as usize] += 1;
        }
        let Some(ret) = event.ret else { return };
        match event.hook {
            Hook::ClaimGroup | Hook::ClaimDevice => self.claims.count(ret),
            Hook::PasidAttach => self.attaches.count(ret),
            Hook::SvaBind => self.binds.count(ret),
            _ => {}
        }
    }

    pub(super) fn lose(&mut self, stage: Stage, count: u64) {
        let lost = self.lost.entry(stage).or_default();
        *lost = lost.saturating_add(count);
    }

    pub(super) fn resync(&mut self, reason: Resync) {
        *self.resyncs.entry(reason).or_default() += 1;
    }

    /// Calls that this hook should have reported and didn't, as reads of the kernel's state showed.
    pub fn leaks(&self, hook: Hook) -> u64 {
        self.leaks.get(&hook).copied().unwrap_or_default()
    }

    pub(super) fn leak(&mut self, hook: Hook) {
        *self.leaks.entry(hook).or_default() += 1;
    }

    pub(super) fn latency(&mut self, ns: u64) {
        let seconds = ns as f64 / 1e9;
        self.detection.count += 1;
        self.detection.seconds += seconds;
        if let Some(index) = LATENCY_BOUNDS.iter().position(|&bound| seconds <= bound) {
            self.detection.buckets[index] += 1;
        }
    }
}
