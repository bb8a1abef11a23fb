//! Where to look for what is attached, found at once when it goes: the groups in which a PASID, or a domain, was
//! attached. It may name too many groups, since it isn't told of detaches; whoever asks looks there for himself.

use std::collections::BTreeSet;

use foldhash::HashMap;

use crate::event::Key;

/// PASIDs have 20 bits (PCIe 6.0, 10.5).
const PASIDS: usize = 1 << 20;
/// PASIDs in a page: 16 KiB.
const PAGE: usize = 4096;
/// Domains beyond this many are not kept: who frees one of them is not judged.
const MAX_DOMAINS: usize = 1 << 20;

/// Groups of PASIDs that several have: beyond it no more are kept, and what they have is not judged.
const MAX_SEVERAL: usize = 1 << 21;

/// No group; else a group's number and one.
const NOBODY: u32 = 0;
/// More than one group.
const SEVERAL: u32 = u32::MAX;

/// By PASID: the group in which it was attached to a process. A host has as many PASIDs as they have bits, and a
/// process mostly uses one device: 4 bytes for each.
#[derive(Clone, Debug, Default)]
pub(super) struct Bound {
    pages: Vec<Option<Box<[u32; PAGE]>>>,
    /// Of a PASID that several have: it and a group's number.
    several: BTreeSet<(u32, u32)>,
}

impl Bound {
    pub fn note(&mut self, pasid: u32, group: u32) {
        let Some(entry) = self.entry(pasid) else { return };
        let number = group.saturating_add(1);
        let known = *entry;
        if known == number {
            return;
        }
        *entry = if known == NOBODY { number } else { SEVERAL };
        if known != NOBODY && self.several.len() < MAX_SEVERAL {
            let before = (known != SEVERAL).then(|| (pasid, known - 1));
            self.several.extend(before.into_iter().chain([(pasid, group)]));
        }
    }

    /// The numbers of the groups that may have it attached to a process.
    pub fn groups(&self, pasid: u32) -> Vec<u32> {
        let (page, at) = place(pasid);
        match self.pages.get(page).and_then(Option::as_ref).map_or(NOBODY, |page| page[at]) {
            NOBODY => Vec::new(),
            SEVERAL => self.several.range((pasid, 0)..=(pasid, u32::MAX)).map(|&(_, group)| group).collect(),
            number => vec![number - 1],
        }
    }

    /// This group has it no more. The last one stays: it says where the PASID was.
    pub fn left(&mut self, pasid: u32, group: u32) {
        if self.groups(pasid) != [group] {
            self.several.remove(&(pasid, group));
        }
    }

    /// It is nobody's any more.
    pub fn clear(&mut self, pasid: u32) {
        let (page, at) = place(pasid);
        let Some(page) = self.pages.get_mut(page).and_then(Option::as_mut) else { return };
        if std::mem::replace(&mut page[at], NOBODY) == SEVERAL {
            let of_it: Vec<_> = self.several.range((pasid, 0)..=(pasid, u32::MAX)).copied().collect();
            of_it.iter().for_each(|one| {
                self.several.remove(one);
            });
        }
    }

    fn entry(&mut self, pasid: u32) -> Option<&mut u32> {
        let (page, at) = place(pasid);
        if pasid as usize >= PASIDS {
            return None;
        }
        if self.pages.len() <= page {
            self.pages.resize_with(page + 1, || None);
        }
        let page = self.pages.get_mut(page)?.get_or_insert_with(|| Box::new([NOBODY; PAGE]));
        page.get_mut(at)
    }
}

fn place(pasid: u32) -> (usize, usize) {
    (pasid as usize / PAGE, pasid as usize % PAGE)
}

/// By domain: the groups in which it was attached to a RID or to a PASID. Those of processes are found by their PASID.
#[derive(Clone, Debug, Default)]
pub(super) struct Sites(HashMap<Key, Site>);

#[derive(Clone, Debug)]
enum Site {
    One(Key),
    Several(BTreeSet<Key>),
}

impl Sites {
    pub fn note(&mut self, domain: Key, group: Key) {
        let room = self.0.len() < MAX_DOMAINS;
        match self.0.get_mut(&domain) {
            Some(Site::One(known)) if *known == group => {}
            Some(site) => {
                if let Site::One(known) = site {
                    *site = Site::Several(BTreeSet::from([*known]));
                }
                if let Site::Several(groups) = site {
                    groups.insert(group);
                }
            }
            None if room => drop(self.0.insert(domain, Site::One(group))),
            None => {}
        }
    }

    /// The groups that may have it attached. It is gone: the next one at this address is another.
    pub fn take(&mut self, domain: Key) -> Vec<Key> {
        match self.0.remove(&domain) {
            None => Vec::new(),
            Some(Site::One(group)) => vec![group],
            Some(Site::Several(groups)) => groups.into_iter().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pasid_leads_to_the_groups_that_had_it_and_a_domain_likewise() {
        let mut bound = Bound::default();
        assert!(bound.groups(5).is_empty());
        bound.note(5, 7);
        bound.note(5, 7);
        bound.note(PASIDS as u32 - 1, 9);
        bound.note(u32::MAX, 9);
        assert_eq!(
            (bound.groups(5), bound.groups(6), bound.groups(u32::MAX)),
            (vec![7], Vec::new(), Vec::new())
        );
        bound.note(5, 8);
        assert_eq!(bound.groups(5), [7, 8]);
        bound.note(5, 10);
        bound.left(5, 7);
        bound.left(5, 8);
        assert_eq!(bound.groups(5), [10]);
        bound.left(5, 10);
        assert_eq!(bound.groups(5), [10]);
        bound.note(5, 8);
        bound.clear(5);
        assert_eq!(bound.several.len(), 0);
        assert_eq!((bound.groups(5), bound.groups(PASIDS as u32 - 1)), (Vec::new(), vec![9]));

        let key = |raw| Key::new(raw).expect("an address");
        let mut sites = Sites::default();
        sites.note(key(1), key(10));
        sites.note(key(1), key(10));
        sites.note(key(2), key(10));
        sites.note(key(2), key(11));
        assert_eq!(sites.take(key(1)), [key(10)]);
        assert_eq!(sites.take(key(2)), [key(10), key(11)]);
        assert!(sites.take(key(2)).is_empty());
    }
}
