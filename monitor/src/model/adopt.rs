//! What was read of a group's `pasid_array` becomes what is known of its PASIDs.

use crate::event::{ArrayEntry, PasidArray, Slot};

use super::group::{Attachment, Group};
use super::touches::Overlap;

impl Group {
    /// Takes over a read `pasid_array`, but for the PASIDs that a call under way may be changing.
    /// What it shows and we did not know was attached before we watched.
    ///
    /// A reading that was not made under the mutex can be newer than its place in the ring, by what calls did whose
    /// records come after it. Where it contradicts what is known, either may be right: that PASID is in doubt,
    /// and another such reading takes the doubt from none.
    pub(super) fn adopt(&mut self, array: &PasidArray, room: usize, changing: &Overlap, locked: bool) {
        let mut room = room;
        let certain = self.doubtful.is_empty() && self.contests.is_empty();
        for entry in array.pasids().filter(|entry| !changing.pasid(entry.pasid)) {
            // Nearly all of them.
            if certain
                && self.pasids.get(&entry.pasid).is_some_and(|known| names_known(entry, known) == Some(true))
            {
                continue;
            }
            if !locked && (self.doubtful.contains(&entry.pasid) || self.contradicts(entry)) {
                self.doubtful.insert(entry.pasid);
                continue;
            }
            if !self.adopt_entry(entry, &mut room) {
                return;
            }
        }
        if array.complete {
            let there = |pasid: u32| array.has(pasid);
            if locked {
                self.pasids.retain(|&pasid, _| changing.pasid(pasid) || there(pasid));
                self.doubtful.retain(|&pasid| changing.pasid(pasid));
                self.contested.retain(|&pasid| there(pasid));
                self.contests.retain(|&pasid, _| changing.pasid(pasid));
            } else {
                let gone = self.pasids.keys().filter(|&&pasid| !changing.pasid(pasid) && !there(pasid));
                self.doubtful.extend(gone);
            }
            self.pasids_known = true;
        }
    }

    /// Whether what was read of a PASID is not what is known.
    fn contradicts(&self, entry: &ArrayEntry) -> bool {
        match self.pasids.get(&entry.pasid) {
            Some(known) => names_known(entry, known) == Some(false),
            None => self.synced && self.pasids_known,
        }
    }

    /// Takes over what a call on a PASID read of it, without the mutex: what contradicts what is known takes nothing from
    /// it, and leaves it in doubt.
    pub(super) fn adopt_slot(&mut self, pasid: u32, slot: &Slot, room: usize) {
        let in_doubt = self.doubtful.contains(&pasid);
        match (slot, self.pasids.get(&pasid)) {
            (Slot::Taken(entry), Some(known)) if !in_doubt && names_known(entry, known) == Some(false) => {
                self.doubtful.insert(pasid);
            }
            (Slot::Taken(entry), _) => drop(self.adopt_entry(entry, &mut { room })),
            (Slot::Empty, Some(_)) => {
                self.doubtful.insert(pasid);
            }
            (Slot::Empty, None) => {
                self.doubtful.remove(&pasid);
                self.contested.remove(&pasid);
                self.contests.remove(&pasid);
            }
        }
    }

    /// `false`: there was no room for it, and the group's PASIDs are not all known any more.
    fn adopt_entry(&mut self, entry: &ArrayEntry, room: &mut usize) -> bool {
        let in_doubt = self.doubtful.remove(&entry.pasid);
        let contest = self.contests.remove(&entry.pasid);
        match self.pasids.get_mut(&entry.pasid) {
            Some(known) if let Some(contest) = contest => {
                *known = contest.outcome(entry.domain);
                if known.attached_by.is_none() {
                    self.contested.insert(entry.pasid);
                }
            }
            Some(known) => match (entry.domain, known.domain) {
                (Some(read), Some(had)) if read.key == had.key => {}
                (Some(read), None) => known.domain = Some(read),
                (Some(read), Some(_)) => {
                    *known = Attachment { domain: Some(read), attached_by: None };
                    if in_doubt {
                        self.contested.insert(entry.pasid);
                    }
                }
                (None, _) => {}
            },
            None if *room == 0 => {
                self.pasids_known = false;
                return false;
            }
            None => {
                *room -= 1;
                let attachment = Attachment { domain: entry.domain, attached_by: None };
                self.pasids.insert(entry.pasid, attachment);
            }
        }
        true
    }
}

/// Whether what was read names the domain that is known; `None`: one of the two is not known.
fn names_known(entry: &ArrayEntry, known: &Attachment) -> Option<bool> {
    known.domain.zip(entry.domain).map(|(had, read)| had.key == read.key)
}

#[cfg(test)]
mod tests {
    use monitor_ebpf::wire::Encoding;

    use super::*;
    use crate::event::Key;
    use crate::model::Presence;

    fn array(pasids: &[u32]) -> PasidArray {
        let entry =
            |&pasid| ArrayEntry { pasid, encoding: Encoding::Reserved, domain: None, mm_exited: false };
        PasidArray { entries: pasids.iter().map(entry).collect(), complete: true }
    }

    fn group() -> Group {
        let mut group = Group::new(Key::new(1).expect("an address"), 7, 1);
        group.synced = true;
        group
    }

    #[test]
    fn without_room_for_a_pasid_the_groups_pasids_are_unknown() {
        let mut group = group();
        group.adopt(&array(&[1, 2]), 2, &Overlap::default(), true);
        assert_eq!(group.pasids().map(Iterator::count), Some(2));
        group.adopt(&array(&[1, 2, 3]), 0, &Overlap::default(), true);
        assert!(group.pasids().is_none());
        assert_eq!(group.presence(3), Presence::Unknown);
        assert!(matches!(group.presence(2), Presence::Attached(_)));
    }

    #[test]
    fn what_a_call_under_way_may_change_is_not_taken_over() {
        let mut group = group();
        group.adopt(&array(&[1]), 9, &Overlap::default(), true);
        group.adopt(&array(&[2]), 9, &Overlap::everything(), true);
        assert!(matches!(group.presence(1), Presence::Attached(_)));
        assert!(!matches!(group.presence(2), Presence::Attached(_)));
    }
}
