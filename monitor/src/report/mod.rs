//! The renderers: one report in, text or JSON out; the watcher's counters in, metrics out.

pub mod advisories;
pub mod conformance;
pub mod explain;
pub mod json;
pub mod metrics;
pub mod openmetrics;
pub mod status;
pub mod text;

use jiff::Timestamp;
use monitor_ebpf::wire::Phase;

/// Frames of kernel stacks, by the id that an event carries.
pub trait Stacks {
    /// The frames, innermost first; `None` if the stack is not known (any more).
    fn frames(&self, id: u32) -> Option<Vec<String>>;
}

/// No stacks at all.
pub struct NoStacks;

impl Stacks for NoStacks {
    fn frames(&self, _: u32) -> Option<Vec<String>> {
        None
    }
}

/// Turns the kernel's time into the world's.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    /// CLOCK_REALTIME less CLOCK_MONOTONIC, in ns, on the host and at the boot that the events are of.
    pub offset_ns: i64,
}

impl Clock {
    /// RFC 3339, UTC, to the ns.
    pub fn rfc3339(self, mono_ns: u64) -> String {
        let nanoseconds = i128::from(mono_ns) + i128::from(self.offset_ns);
        let timestamp = Timestamp::from_nanosecond(nanoseconds).unwrap_or(Timestamp::UNIX_EPOCH);
        format!("{timestamp:.9}")
    }
}

/// What every line is told with.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    pub host: &'a str,
    /// The kernel's release.
    pub kernel: &'a str,
    /// It comes from a recording that was written by hand: no kernel has said it.
    pub synthetic: bool,
    pub clock: Clock,
    pub stacks: &'a dyn Stacks,
}

/// The name of a phase in output.
fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Point => "point",
        Phase::Begin => "begin",
        Phase::End => "end",
    }
}
