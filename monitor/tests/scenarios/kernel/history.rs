//! What truly happened, for who judges what was made of it.

use std::collections::{BTreeMap, BTreeSet};

use super::{Call, Dev, Faults};

/// A group as it truly was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub owner: u64,
    pub count: u32,
    pub domain: u64,
    pub default_domain: u64,
    pub blocking_domain: u64,
    pub recovery_cnt: u32,
    /// What is attached, index 0 included.
    pub array: BTreeMap<u32, Option<u64>>,
}

/// What whoever looked under the mutex truly saw.
#[derive(Clone, Debug)]
pub struct Sight {
    pub group: u32,
    pub state: State,
    pub devices: Vec<Dev>,
    /// The domains of processes that have exited.
    pub exited: BTreeSet<u64>,
    /// How many calls there had been.
    pub at: usize,
    pub reader: u32,
}

/// A reading without the mutex.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    pub what: Reads,
    /// It was made between these places in the ring.
    pub from: usize,
    pub to: usize,
}

/// What a record reads of its group at one go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reads {
    Holder {
        owner: u64,
        count: u32,
    },
    /// The indices of the array, but for those that an attach of 6.15 and later keeps reserved until it is done.
    Attached(BTreeSet<u32>),
}

/// A call that did its work. In the order of the mutex.
#[derive(Clone, Debug)]
pub struct Fact {
    pub call: Call,
    pub group: u32,
    /// The comm of who called.
    pub who: String,
    pub ret: i32,
    pub before: State,
    pub after: State,
    pub faults: Faults,
    /// Places in the ring of its first record and its last; an end that is not reported yet is at the end.
    pub began: usize,
    pub ended: usize,
    /// The place that was next when its last record was filled: until then it had not returned.
    pub returned: usize,
    /// What its records of its entry and its return read of its group.
    pub entry: Vec<Read>,
    pub exit: Vec<Read>,
    /// The places of the first and the last record that it made while it held the mutex.
    pub locked: Option<(usize, usize)>,
    /// PASIDs that a switch of its RID's domain took from a member, which has them no more.
    pub lost: Vec<u32>,
    /// PASIDs that a member would not give up.
    pub kept: Vec<u32>,
}
