//! From the kernel's monotonic clock to the wall clock.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now, in ns of CLOCK_MONOTONIC; what `bpf_ktime_get_ns` counts.
pub fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// What to add to a monotonic time to get ns since the Unix epoch. It moves when the wall clock is set,
/// so it is asked anew for each report.
pub fn wall_offset_ns() -> i64 {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i64);
    wall - monotonic_ns() as i64
}
