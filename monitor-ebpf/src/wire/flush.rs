//! What was told to a command queue: the part of a record that says so, what is counted, and what the kernel side
//! remembers from the begin of a window to its end.
//!
//! A *window* is open while a task is between begin and end of clearing a PASID entry, or of switching a RID's domain.
//! Only in windows is it kept what was flushed; outside of them descriptors are counted and that is all.

#[cfg(not(target_arch = "bpf"))]
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::Operation;
use crate::descriptor::timed::{Clock, Moment};

/// A window's flushes, or what an entry is still owed. A record that has this part is an [`Operation`] followed by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "bpf"), derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[repr(C)]
pub struct Flush {
    /// Identity of the IOMMU instance; 0: not known.
    pub iommu: u64,
    /// When the entry was torn down that is still owed a flush, ns; 0: none is.
    pub owed_since_ns: u64,
    /// A [`super::TableKind`] by number: whose descriptors they are.
    pub vendor: u32,
    /// The entry at the window's begin, as [`Entry`](crate::descriptor::Entry).
    pub kind: u32,
    pub tag: u32,
    pub pasid: u32,
    pub source: u32,
    /// Bits of [`condition`](crate::descriptor::condition): which hold, and which are known.
    pub set: u32,
    pub known: u32,
    /// Bits of [`cache`](crate::descriptor::cache): what descriptors covered the entry.
    pub submitted: u32,
    /// Of those, whose submission returned 0.
    pub completed: u32,
    /// What an earlier teardown of the entry left out, and nothing has flushed since.
    pub owed: u32,
    /// What the first failed submission returned, 0 if none failed.
    pub failed: i32,
    /// Bits of [`Scope`](crate::descriptor::Scope), by number: what the failed submission asked for, or the slow one that
    /// the record is about.
    pub failed_scopes: u32,
    /// Descriptors in the window, whatever they covered.
    pub descriptors: u32,
    /// How many windows of the task are around this one.
    pub outer: u32,
}

/// A call with what was flushed in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "bpf"), derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[repr(C)]
pub struct Flushing {
    pub operation: Operation,
    pub flush: Flush,
}

/// CPUs that count by themselves, a power of two. On a larger machine some share their counters, and lose a count
/// now and then.
pub const FEED_CPUS: usize = 1024;
/// Counters of a CPU: one for each type of descriptor.
pub const FEED_TYPES: usize = 16;
/// Buckets of the histogram: bucket n has what took less than 2^n ns, and not less than half of it.
pub const LATENCY_BUCKETS: usize = 40;
/// Failures outside every window are sent at most once in this time, ns; all are counted. So are slow submissions.
pub const FAILURE_SENT_EVERY_NS: u64 = 100_000_000;
/// A submission that takes longer is slow, ns, where nobody says otherwise.
pub const SLOW_NS: u64 = 10_000_000;
/// One in so many submissions of a type of descriptor is timed; a power of two.
pub const SAMPLED: u64 = 256;
/// How many arguments `qi_submit_sync` has, 5.15 to 7.3: the program at its return finds the result behind them.
pub const SUBMIT_ARGUMENTS: usize = 4;

/// What can come of a flush of a range in one cache.
pub const RANGE_VERDICTS: usize = 3;

/// What one CPU counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct CpuFeed {
    /// Descriptors, by type.
    pub descriptors: [u64; FEED_TYPES],
    /// Of a submission that is timed: when it began, ns, and by which task; 0: none is.
    pub began_ns: u64,
    pub began_tid: u64,
    /// All that the timed submissions took, ns.
    pub sum_ns: u64,
    /// Submissions that failed.
    pub failed: u64,
    /// Of the submission that is timed: what this CPU had counted when it began, and what its task had done.
    pub began: Moment,
    /// Flushes of a range: of caches that were covered, of those that were not, and those that could not be decided.
    pub ranges: [u64; RANGE_VERDICTS],
    /// I/O page faults.
    pub faults: u64,
    pub reserved: [u64; 5],
}

/// Everything that is counted, and the switch that every descriptor looks at. One map value that programs reach
/// without a helper.
#[repr(C)]
pub struct Feed {
    /// Windows that are open, and entries that are owed a flush: 0, and a descriptor is counted and no more.
    pub watched: u64,
    /// Of those: entries that are owed a flush.
    pub owed: u64,
    /// When a failure outside every window was last sent, ns.
    pub failure_sent_ns: u64,
    /// 1: returns from waiting for the queue are seen, where that is a function of its own (AMD).
    pub waits: u64,
    /// When a slow submission outside every window was last sent, ns.
    pub slow_sent_ns: u64,
    /// Records that were made, on all CPUs: of whatever is attached or detached there are some.
    pub records: u64,
    /// When a range that was not flushed was last sent, ns.
    pub range_sent_ns: u64,
    /// 1: the programs on the flushes of a range see what is submitted.
    pub range_queue: u64,
    /// The histogram of what the timed submissions took.
    pub latency: [u64; LATENCY_BUCKETS],
    pub cpus: [CpuFeed; FEED_CPUS],
}

impl Feed {
    pub const EMPTY: Feed = Feed {
        watched: 0,
        owed: 0,
        failure_sent_ns: 0,
        waits: 0,
        slow_sent_ns: 0,
        records: 0,
        range_sent_ns: 0,
        range_queue: 0,
        latency: [0; LATENCY_BUCKETS],
        cpus: [CpuFeed {
            descriptors: [0; FEED_TYPES],
            began_ns: 0,
            began_tid: 0,
            sum_ns: 0,
            failed: 0,
            began: Moment { descriptors: 0, away: 0, delayed_ns: 0 },
            ranges: [0; RANGE_VERDICTS],
            faults: 0,
            reserved: [0; 5],
        }; FEED_CPUS],
    };
    /// How many 64-bit words it is.
    pub const WORDS: usize = size_of::<Feed>() / 8;
    /// Where in them the histogram is, and the first CPU.
    pub const LATENCY_AT: usize = 8;
    pub const CPUS_AT: usize = Self::LATENCY_AT + LATENCY_BUCKETS;
    /// Words of a CPU, and where in them some members are.
    pub const CPU_WORDS: usize = size_of::<CpuFeed>() / 8;
    pub const CPU_SUM_AT: usize = core::mem::offset_of!(CpuFeed, sum_ns) / 8;
    pub const CPU_RANGES_AT: usize = core::mem::offset_of!(CpuFeed, ranges) / 8;
    pub const CPU_FAULTS_AT: usize = core::mem::offset_of!(CpuFeed, faults) / 8;
    pub const CPU_FAILED_AT: usize = core::mem::offset_of!(CpuFeed, failed) / 8;
}

/// Windows of one task that are kept apart; a power of two. Two are known: a switch of a RID's domain, and in it the
/// teardown of entry 0.
pub const WINDOW_DEPTH: usize = 4;

/// A window that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Frame {
    pub device: u64,
    pub group: u64,
    pub flush: Flush,
    /// A [`super::Hook`] by number.
    pub hook: u32,
    /// Bits of [`cache`](crate::descriptor::cache): submitted, and not returned yet.
    pub pending: u32,
    /// Bits of [`Scope`](crate::descriptor::Scope), by number: what they asked for, whatever they covered.
    pub pending_scopes: u32,
    /// Of `pending`: what the driver asked to be told the end of.
    pub waited: u32,
    /// The submission in it that is timed.
    pub clock: Clock,
}

/// The windows of one task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Windows {
    /// How many are open; more than [`WINDOW_DEPTH`] are counted and not kept.
    pub depth: u64,
    pub frames: [Frame; WINDOW_DEPTH],
}

impl Windows {
    pub const NONE: Windows = Windows {
        depth: 0,
        frames: [Frame {
            device: 0,
            group: 0,
            flush: Flush::NONE,
            hook: 0,
            pending: 0,
            pending_scopes: 0,
            waited: 0,
            clock: Clock::STOPPED,
        }; WINDOW_DEPTH],
    };
}

impl Flush {
    pub const NONE: Flush = Flush {
        iommu: 0,
        owed_since_ns: 0,
        vendor: 0,
        kind: 0,
        tag: 0,
        pasid: 0,
        source: 0,
        set: 0,
        known: 0,
        submitted: 0,
        completed: 0,
        owed: 0,
        failed: 0,
        failed_scopes: 0,
        descriptors: 0,
        outer: 0,
    };
}

/// A PASID entry by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Place {
    pub device: u64,
    pub pasid: u64,
}

/// A teardown that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Teardown {
    pub began_ns: u64,
    pub tid: u32,
    /// 1: another task tears the same entry down meanwhile.
    pub contested: u32,
}

/// Without padding, their sizes are the sums of their members'.
const _: () = {
    assert!(size_of::<Flush>() == 2 * 8 + 14 * 4);
    assert!(size_of::<Flushing>() == size_of::<Operation>() + size_of::<Flush>());
    // A power of two, so that a slot is found by a shift.
    assert!(size_of::<CpuFeed>() == 32 * 8);
    assert!(size_of::<Feed>() == (8 + LATENCY_BUCKETS) * 8 + FEED_CPUS * size_of::<CpuFeed>());
    assert!(size_of::<Frame>() == 2 * 8 + size_of::<Flush>() + 4 * 4 + size_of::<Clock>());
    assert!(size_of::<Windows>() == 8 + WINDOW_DEPTH * size_of::<Frame>());
    assert!(FEED_CPUS.is_power_of_two() && FEED_TYPES.is_power_of_two() && WINDOW_DEPTH.is_power_of_two());
};
