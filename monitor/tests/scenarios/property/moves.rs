//! The moves that programs are made of: what can happen between two others.
//!
//! # Every legal skew
//! What the watcher gets is what the programs put into the ring, and that is not the order in which the calls held
//! `group->mutex`. A [`Move`] is one step of one task, so that everything between two steps can happen:
//! - A program at a function's entry or return runs outside the mutex. It counts, then reserves its record (under the
//!   ring's spinlock: that gives the order of the ring), then reads the group, then the time, then `pasid_array`, then
//!   submits. It can be preempted, and others can act, between any two of these: what a record says of its group can
//!   be newer than its place, its members can be of different moments, and times don't ascend with places.
//! - Between the entry's record and the taking of the mutex, and between the dropping of the mutex and the return's
//!   record, anything can happen: of two calls that overlap the records say nothing of which came first.
//! - Who reads without the mutex sees a call's work half done: the owner without the domain, a reserved entry.
//! - Records that are made under the mutex come in the order of the mutex, and say what is so.
//! - A task's own records keep their order: a program has submitted before the function it is attached to goes on.
//! - The consumer stops at a record that is reserved and not submitted. What stands behind such a record can't be read
//!   before it; that there is one, the ring's positions tell.
//! - A task moves between CPUs, and CPUs count on their own.
//! - A full ring drops a record and the program counts that afterwards, before its task goes on. A program that does
//!   not run (a recursion) is counted by the kernel at once; then neither end of the call is reported.
//! - A call that is under way when records get lost has returned within the watcher's time of grace.

use crate::kernel::{Call, Faults};

use super::going::Going;
use super::world::Member;

/// One step of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Move {
    /// A task enters a function of a kernel that is right, or has these faults.
    Begin {
        task: usize,
        call: Call,
        faults: Faults,
    },
    /// A task goes on: with its record, with its work, or to its return.
    Go {
        task: usize,
    },
    /// The scheduler moves a task.
    Migrate {
        task: usize,
        cpu: u32,
    },
    /// The watcher reads the ring until it finds it empty.
    Read,
    /// Somebody reads a group's `reserved_regions`.
    Snapshot {
        group: u32,
    },
    /// Somebody else begins to read it, or goes on with what he reads.
    Look {
        group: u32,
    },
    Unplug {
        device: &'static str,
    },
    Plug {
        group: u32,
        device: Member,
    },
    /// A driver gives a device another's PASID table.
    Share {
        device: &'static str,
        with: &'static str,
    },
    /// The culprits begin: these groups see no device come or go any more. If they are alone, nobody else takes hold of
    /// the first group any more, but as their guest, if they have guests.
    Plant {
        groups: Vec<u32>,
        alone: bool,
        guests: bool,
    },
    /// A task lets something go that attachments stand on.
    Goes {
        task: usize,
        what: Going,
    },
    /// Nothing happens for longer than any call takes.
    Sleep,
    /// From now on one record in so many gets lost; none, if it is 0.
    Lose {
        one_in: u64,
    },
}
