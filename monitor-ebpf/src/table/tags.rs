//! The walk over the cache tags of a VT-d domain (`dmar_domain::cache_tags`, drivers/iommu/intel/cache.c, from 6.10).

use super::{Memory, Step, half};

/// Tags after which a walk is given up as incomplete. A domain has two for each device and PASID that it is attached to.
pub const STEPS: u32 = 1 << 12;

/// `CACHE_TAG_DEVTLB` (drivers/iommu/intel/iommu.h)
const DEVICE_TLB: u32 = 1;

/// Where the members of `struct cache_tag` lie.
#[derive(Clone, Copy, Debug)]
pub struct Tag {
    /// `node`
    pub node: u32,
    /// `list_head.next`
    pub next: u32,
    /// `type`
    pub kind: u32,
    /// `dev`
    pub device: u32,
    /// `pasid`
    pub pasid: u32,
    /// `users`
    pub users: u32,
}

/// What is looked for: the device-TLB tag of a device on a PASID (0: its RID).
#[derive(Clone, Copy, Debug)]
pub struct Sought {
    pub device: u64,
    pub pasid: u32,
}

/// Where a walk is. Small, since it lives on the stack.
#[derive(Clone, Copy, Debug, Default)]
pub struct Walk {
    head: u64,
    /// The link to be looked at.
    at: u64,
    /// 1 if something could not be read.
    failed: u32,
}

impl Walk {
    /// Sets out from the list's head.
    #[inline(always)]
    pub fn start(memory: &impl Memory, tag: Tag, head: u64) -> Walk {
        let first = memory.word(head.wrapping_add(u64::from(tag.next)));
        Walk { head, at: first.unwrap_or(0), failed: u32::from(first.is_none()) }
    }

    /// Everything so far could be read.
    #[inline(always)]
    pub fn sound(&self) -> bool {
        self.failed == 0
    }

    /// Looks at one tag: if it is the one that is sought, gives how often it was assigned.
    #[inline(always)]
    pub fn step(&mut self, memory: &impl Memory, tag: Tag, sought: Sought) -> Step<u32> {
        if self.at == self.head || self.failed != 0 {
            return Step::Done;
        }
        let base = self.at.wrapping_sub(u64::from(tag.node));
        let member = |offset: u32| base.wrapping_add(u64::from(offset));
        let read = (
            half(memory, member(tag.kind)),
            memory.word(member(tag.device)),
            half(memory, member(tag.pasid)),
            half(memory, member(tag.users)),
            memory.word(self.at.wrapping_add(u64::from(tag.next))),
        );
        // Who is taken off the list points nowhere (LIST_POISON1).
        let (Some(kind), Some(device), Some(pasid), Some(users), Some(next)) = read else {
            self.failed = 1;
            return Step::Done;
        };
        self.at = next;
        let same = kind == DEVICE_TLB && device == sought.device && pasid == sought.pasid;
        if same { Step::Found(users) } else { Step::Next }
    }
}

#[cfg(test)]
mod tests {
    use std::{vec, vec::Vec};

    use super::*;
    use crate::table::testing::Ram;

    const TAG: Tag = Tag { node: 0, next: 0, kind: 16, device: 32, pasid: 44, users: 48 };
    const HEAD: u64 = 0xffff_8880_0100_0040;
    const GPU: u64 = 0xffff_8880_4000_00d0;
    const NIC: u64 = 0xffff_8880_5000_00d0;

    /// A list of tags: type, device, PASID, users.
    fn list(tags: &[(u32, u64, u32, u32)]) -> Ram {
        let at = |index: usize| 0xffff_8880_0200_0000 + index as u64 * 4096;
        let mut ram = Ram::default();
        for (index, &(kind, device, pasid, users)) in tags.iter().enumerate() {
            ram.put(at(index), if index + 1 == tags.len() { HEAD } else { at(index + 1) });
            ram.put(at(index) + 16, u64::from(kind) | 0xdead << 32);
            ram.put(at(index) + 32, device);
            ram.put(at(index) + 40, u64::from(pasid) << 32 | 7);
            ram.put(at(index) + 48, u64::from(users) | 0xdead << 32);
        }
        ram.put(HEAD, if tags.is_empty() { HEAD } else { at(0) });
        ram
    }

    /// How often the GPU's tag on PASID 5 was assigned, each time that it is found; and whether all could be read.
    fn walk(ram: &Ram) -> (Vec<u32>, bool) {
        let mut walk = Walk::start(ram, TAG, HEAD);
        let mut found = Vec::new();
        for _ in 0..STEPS {
            match walk.step(ram, TAG, Sought { device: GPU, pasid: 5 }) {
                Step::Next => {}
                Step::Found(users) => found.push(users),
                Step::Done => return (found, walk.sound()),
            }
        }
        (found, false)
    }

    #[test]
    fn only_the_devices_own_tag_on_the_pasid_is_found() {
        let others = [(0, GPU, 5, 3), (1, NIC, 5, 4), (1, GPU, 6, 5), (3, GPU, 5, 6)];
        assert_eq!(walk(&list(&others)), (vec![], true));
        let mut all = others.to_vec();
        all.insert(2, (1, GPU, 5, 2));
        assert_eq!(walk(&list(&all)), (vec![2], true));
    }

    #[test]
    fn an_empty_list_is_read_as_a_whole() {
        assert_eq!(walk(&list(&[])), (vec![], true));
    }

    #[test]
    fn a_link_that_leads_nowhere_is_not_taken_for_the_end() {
        let mut ram = list(&[(1, NIC, 5, 1), (1, NIC, 6, 1)]);
        ram.lose(0xffff_8880_0200_1000);
        assert_eq!(walk(&ram), (vec![], false));
        assert_eq!(walk(&Ram::default()), (vec![], false));
    }

    #[test]
    fn a_walk_that_got_into_another_list_is_given_up() {
        let mut ram = list(&[(1, NIC, 5, 1), (1, NIC, 6, 1)]);
        // The last link leads back to the first tag, and never to the head.
        ram.put(0xffff_8880_0200_1000, 0xffff_8880_0200_0000);
        assert_eq!(walk(&ram), (vec![], false));
    }
}
