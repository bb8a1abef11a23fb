//! What the watcher of a run was told, kept for replays that lose more than it did.

use monitor::event::{Event, Task};

use crate::kernel::task;

/// What the watcher was told at one go.
pub struct Batch {
    /// With what it would have been told, had it asked at the end of an earlier batch: see [`ghost`].
    pub events: Vec<Event>,
    /// The ring was empty then, and held no record that is not filled.
    pub drained: bool,
    pub now: u64,
}

/// The reader of a look that the watcher would have taken at the end of the batch of this number, had a group been
/// unknown to it: whoever loses more than it did asks then, and gets this answer.
pub fn ghost(batch: usize) -> Task {
    task(FIRST_GHOST + batch as u32, "iommu-watch")
}

const FIRST_GHOST: u32 = 1_000_000;

pub fn is_ghost(reader: u32) -> bool {
    reader >= FIRST_GHOST
}
