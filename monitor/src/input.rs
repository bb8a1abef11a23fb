//! What the watcher is told, in order. A running kernel and a recording of one come in by this one door.

use crate::coverage::Coverage;
use crate::event::{Event, Key};
use crate::inventory::Inventory;

/// One thing that the watcher is told, at a time in CLOCK_MONOTONIC ns.
#[derive(Clone, Debug)]
pub enum Input {
    /// Every hook that can listen does so from now on.
    Start,
    /// One record, in the order of the ring.
    Event(Box<Event>),
    /// What sysfs says, anew.
    Inventory(Inventory),
    /// The hooks' state has changed.
    Coverage(Coverage),
    /// Events were lost: what they could have told is not known until it is read again.
    Lost(Lost),
    /// Groups are about to be read, again or for the first time.
    Resync(Resync),
    /// The kernel has no group of this number any more.
    Gone(u32),
    /// The ring was found empty, with nothing on its way into it, and every loss up to now was told: whatever could
    /// explain what the checks found has been seen. So it is here that violations are raised.
    Settled,
}

/// Events that were lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    pub stage: Stage,
    pub count: u64,
    /// The groups that they were about; `None`: any group.
    pub groups: Option<Vec<Key>>,
}

/// Where events were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// A program did not run (recursion, too many returns at once), or came to no end in time, or a call could not be
    /// remembered.
    Kernel,
    /// The ring was full.
    Ring,
    /// Userspace did not keep up with what it read.
    Queue,
    /// A recording has a gap.
    Recording,
}

impl Stage {
    pub const ALL: [Stage; 4] = [Stage::Kernel, Stage::Ring, Stage::Queue, Stage::Recording];

    pub fn name(self) -> &'static str {
        match self {
            Stage::Kernel => "kernel",
            Stage::Ring => "ring",
            Stage::Queue => "queue",
            Stage::Recording => "recording",
        }
    }
}

/// Why groups are read from the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resync {
    Start,
    Loss,
    Audit,
    Request,
    /// A call did what only a look tells.
    Call,
}

impl Resync {
    pub const ALL: [Resync; 5] = [Resync::Start, Resync::Loss, Resync::Audit, Resync::Request, Resync::Call];

    pub fn name(self) -> &'static str {
        match self {
            Resync::Start => "start",
            Resync::Loss => "loss",
            Resync::Audit => "audit",
            Resync::Request => "request",
            Resync::Call => "call",
        }
    }
}
