//! The walk over the page requests of a device that wait for their response (`iommu_fault_param::faults`,
//! drivers/iommu/io-pgfault.c): a group of requests each, by its last one.

use super::{Memory, Step, half};

/// Requests after which a walk is given up as incomplete.
pub const STEPS: u32 = 1 << 10;

/// `IOMMU_FAULT_PAGE_REQUEST_PASID_VALID` (include/linux/iommu.h).
pub const PASID_VALID: u32 = 1;

/// Where the members of `struct iopf_group` lie.
#[derive(Clone, Copy, Debug)]
pub struct Members {
    /// `list_head.next`
    pub next: u32,
    /// `pending_node`, its place in the list.
    pub node: u32,
    /// `fault_param`, whose list it is in.
    pub owner: u32,
    /// `last_fault.fault.prm.flags`
    pub flags: u32,
    /// `last_fault.fault.prm.pasid`
    pub pasid: u32,
}

/// Where a walk is. Small, since it lives on the stack.
#[derive(Clone, Copy, Debug, Default)]
pub struct Walk {
    head: u64,
    /// The link to be looked at.
    at: u64,
    /// The `struct iommu_fault_param` that the list hangs off.
    owner: u64,
    /// 1 if something could not be read, or led astray.
    failed: u32,
}

impl Walk {
    /// Sets out from the list's head, which is a member of `owner`.
    #[inline(always)]
    pub fn start(memory: &impl Memory, members: Members, owner: u64, head: u64) -> Walk {
        let first = memory.word(head.wrapping_add(u64::from(members.next)));
        Walk { head, at: first.unwrap_or(0), owner, failed: u32::from(first.is_none()) }
    }

    /// Everything so far could be read.
    #[inline(always)]
    pub fn sound(&self) -> bool {
        self.failed == 0
    }

    /// Looks at one group of requests: gives its PASID, if it has one.
    #[inline(always)]
    pub fn step(&mut self, memory: &impl Memory, members: Members) -> Step<u32> {
        if self.at == self.head || self.failed != 0 {
            return Step::Done;
        }
        let base = self.at.wrapping_sub(u64::from(members.node));
        let member = |offset: u32| base.wrapping_add(u64::from(offset));
        let read = (
            memory.word(member(members.owner)),
            half(memory, member(members.flags)),
            half(memory, member(members.pasid)),
            memory.word(self.at.wrapping_add(u64::from(members.next))),
        );
        // Nobody keeps the list as it is for us: who is answered meanwhile is taken off it and points to itself
        // (`list_del_init`), and his memory may be another's by now. All that are in it point to what it hangs off.
        let (Some(owner), Some(flags), Some(pasid), Some(next)) = read else {
            self.failed = 1;
            return Step::Done;
        };
        if owner != self.owner || next == self.at {
            self.failed = 1;
            return Step::Done;
        }
        self.at = next;
        if flags & PASID_VALID != 0 && pasid != 0 { Step::Found(pasid) } else { Step::Next }
    }
}

#[cfg(test)]
mod tests {
    use std::{vec, vec::Vec};

    use super::*;
    use crate::table::testing::Ram;

    const MEMBERS: Members = Members { next: 0, node: 64, owner: 128, flags: 4, pasid: 8 };
    const OWNER: u64 = 0xffff_8880_0100_0000;
    const HEAD: u64 = OWNER + 0x40;

    fn at(index: usize) -> u64 {
        0xffff_8880_0200_0000 + index as u64 * 4096
    }

    /// A list of requests: flags and PASID.
    fn list(requests: &[(u32, u32)]) -> Ram {
        let mut ram = Ram::default();
        for (index, &(flags, pasid)) in requests.iter().enumerate() {
            let next = if index + 1 == requests.len() { HEAD } else { at(index + 1) + 64 };
            ram.put(at(index), u64::from(flags) << 32 | 1);
            ram.put(at(index) + 8, u64::from(pasid) | 0xdead << 32);
            ram.put(at(index) + 64, next);
            ram.put(at(index) + 128, OWNER);
        }
        ram.put(HEAD, if requests.is_empty() { HEAD } else { at(0) + 64 });
        ram
    }

    /// The PASIDs in the list, and whether all of it was read.
    fn walk(ram: &Ram) -> (Vec<u32>, bool) {
        let mut walk = Walk::start(ram, MEMBERS, OWNER, HEAD);
        let mut found = Vec::new();
        for _ in 0..STEPS {
            match walk.step(ram, MEMBERS) {
                Step::Next => {}
                Step::Found(pasid) => found.push(pasid),
                Step::Done => return (found, walk.sound()),
            }
        }
        (found, false)
    }

    #[test]
    fn requests_with_a_pasid_are_found_and_no_others() {
        assert_eq!(walk(&list(&[(3, 5), (2, 6), (1, 0), (5, 7)])), (vec![5, 7], true));
        assert_eq!(walk(&list(&[])), (vec![], true));
    }

    #[test]
    fn what_cannot_be_read_is_not_taken_for_the_end() {
        let mut ram = list(&[(1, 5), (1, 6)]);
        ram.lose(at(1) + 64);
        assert_eq!(walk(&ram), (vec![5], false));
        assert_eq!(walk(&Ram::default()), (vec![], false));
    }

    /// It was answered while the list was walked.
    #[test]
    fn a_request_that_left_the_list_gives_the_walk_up() {
        let mut ram = list(&[(1, 5), (1, 6)]);
        ram.put(at(1) + 64, at(1) + 64);
        assert_eq!(walk(&ram), (vec![5], false));
    }

    /// And its memory is used again.
    #[test]
    fn what_points_to_no_owner_gives_the_walk_up() {
        let mut ram = list(&[(1, 5), (1, 6)]);
        ram.put(at(1) + 128, OWNER + 8);
        assert_eq!(walk(&ram), (vec![5], false));
    }

    #[test]
    fn a_walk_that_got_into_another_list_is_given_up() {
        let mut ram = list(&[(1, 5), (1, 6)]);
        ram.put(at(1) + 64, at(0) + 64);
        assert!(!walk(&ram).1);
    }
}
