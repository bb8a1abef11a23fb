//! What the operator says while a kernel is watched, and the wall clock by which what he expects ends.

use super::Live;
use crate::{check::Settings, kernel::clock, watcher::Report};

/// The clock is set, not slewed, if it is off by more than this, in ns.
const SET: u64 = 1_000_000_000;

impl Live {
    /// The operator says something else from now on. What is known of the kernel stays.
    pub fn configure(&mut self, settings: &Settings) -> Vec<Report> {
        let settings = settings.clone().on_clock(self.clock_offset_ns);
        let reports = self.watcher.configure(settings, clock::monotonic_ns());
        self.account();
        reports
    }

    /// An expectation ends by the wall clock, and a host may have learnt the time only after it was booted.
    pub(super) fn look_at_the_clock(&mut self) -> Vec<Report> {
        let offset_ns = clock::wall_offset_ns();
        if offset_ns.abs_diff(self.clock_offset_ns) < SET {
            return Vec::new();
        }
        self.clock_offset_ns = offset_ns;
        self.watcher.clock_set(offset_ns, clock::monotonic_ns())
    }
}
