//! PASIDs that were seen to be detached, of all groups: who had them last.
//!
//! It is asked for at a page request of a PASID that nobody has, which is rare, and told of each attach and detach, which
//! may be many: so it is a list in the order of time, and whoever asks reads it from its end.

use std::collections::VecDeque;

use super::group::{Actor, Attachment};
use super::host::GroupRef;

/// As many of the latest attaches and detaches of a host are kept: 2 MiB. A device that still asks for a page after so
/// many is not told from one that never had the PASID.
const MAX_KEPT: usize = 16_384;

/// A PASID that was attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detached {
    pub attachment: Attachment,
    /// Who detached it; when that had returned.
    pub by: Actor,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Former(VecDeque<Last>);

/// What became of a PASID.
#[derive(Clone, Debug)]
struct Last {
    tenure: Tenure,
    pasid: u32,
    /// `None`: it was attached, or it isn't known whether it was.
    detached: Option<Detached>,
}

/// A group, for as long as what was detached there counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tenure {
    pub group: GroupRef,
    /// Counts up when somebody else takes the group, or its state is forgotten.
    pub count: u32,
}

impl Former {
    pub fn note(&mut self, tenure: Tenure, pasid: u32, detached: Option<Detached>) {
        if self.0.len() == MAX_KEPT {
            self.0.pop_front();
        }
        self.0.push_back(Last { tenure, pasid, detached });
    }

    /// How a PASID was detached, if that is the last that became of it.
    pub fn last(&self, tenure: Tenure, pasid: u32) -> Option<Detached> {
        let mut from_the_end = self.0.iter().rev();
        from_the_end.find(|last| last.pasid == pasid && last.tenure == tenure)?.detached
    }
}

#[cfg(test)]
mod tests {
    use crate::event::{Comm, Key};

    use super::*;

    fn tenure(count: u32) -> Tenure {
        Tenure { group: GroupRef { key: Key::new(7).expect("not 0"), generation: 1 }, count }
    }

    fn detached(mono_ns: u64) -> Detached {
        let by = Actor { tid: 1, tgid: 1, comm: Comm::new(b"qemu"), mono_ns, stack: None };
        Detached { attachment: Attachment { domain: None, attached_by: None }, by }
    }

    #[test]
    fn the_last_that_became_of_a_pasid_counts_and_only_of_the_same_tenure() {
        let mut former = Former::default();
        former.note(tenure(0), 5, Some(detached(10)));
        former.note(tenure(0), 6, Some(detached(11)));
        assert_eq!(former.last(tenure(0), 5), Some(detached(10)));
        assert_eq!(former.last(tenure(1), 5), None);
        former.note(tenure(0), 5, None);
        assert_eq!(former.last(tenure(0), 5), None);
        former.note(tenure(0), 5, Some(detached(12)));
        assert_eq!(former.last(tenure(0), 5), Some(detached(12)));
        assert_eq!(former.last(tenure(0), 7), None);
    }

    #[test]
    fn of_too_many_the_oldest_are_forgotten() {
        let mut former = Former::default();
        for pasid in 0..=MAX_KEPT as u32 {
            former.note(tenure(0), pasid, Some(detached(10)));
        }
        assert_eq!(former.0.len(), MAX_KEPT);
        assert_eq!((former.last(tenure(0), 0), former.last(tenure(0), 1)), (None, Some(detached(10))));
    }
}
