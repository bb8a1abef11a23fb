//! The wire: every byte that crosses from the kernel side to userspace, and the constants that cross
//! the other way. This is the single source of truth for both sides.
//!
//! Plain data only: `#[repr(C)]`, no padding (padding would leak kernel memory), no pointer that
//! is dereferenced. It knows neither aya nor the userspace.

mod arguments;
mod call;
mod flush;
mod hook;
mod layout;
mod loss;
mod range;
mod record;
mod request;
mod snapshot;

pub use arguments::{Arguments, NO_ARGUMENT};
pub use call::{Call, Subject};
pub use flush::{
    CpuFeed, FAILURE_SENT_EVERY_NS, FEED_CPUS, FEED_TYPES, Feed, Flush, Flushing, Frame, LATENCY_BUCKETS,
    Place, RANGE_VERDICTS, SAMPLED, SLOW_NS, SUBMIT_ARGUMENTS, Teardown, WINDOW_DEPTH, Windows,
};
pub use hook::Hook;
pub use layout::{
    ABSENT, AmdLayout, Bit, FlushLayout, Layout, Process, SmmuLayout, Symbols, TagLayout, Variable,
};
pub use loss::{LOSS_GROUPS, LossKind, Losses, count};
pub use range::{Asked, RANGE_TAGS, Range, RangeLayout, Ranging, Tag};
pub use record::{
    ARRAY_CAPACITY, ArrayEntry, Device, Domain, Encoding, Group, Header, Inventory, NAME_LEN, Operation,
    PasidArray, Phase, Task, entry, known, tags,
};
pub use request::RequestLayout;
pub use snapshot::{
    Part, SNAPSHOT_CAPACITY, Snapshot, SnapshotHead, State, TableEntry, TableKind, is_shaped_so, is_snapshot,
    state,
};

/// Version of the wire format: a recording or a pinned ring of another version is not read as this one.
pub const WIRE_VERSION: u32 = 3;
