//! Which groups are to be read from the kernel, and why.

use super::Watcher;

impl Watcher {
    /// The ids of the groups whose state isn't known: those to read again.
    pub fn unknown_groups(&self) -> Vec<u32> {
        let mut ids: Vec<u32> =
            self.host.groups().filter(|group| !group.synced).map(|group| group.id).collect();
        ids.sort_unstable();
        ids
    }

    /// The ids of the groups at which a look found something that only a second one can prove.
    pub fn second_looks(&self) -> Vec<u32> {
        let groups = self.book.waiting().filter_map(|group| self.host.group(group));
        let mut ids: Vec<u32> = groups.map(|group| group.id).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// The ids of the groups at which a look is wanted for what a call did, the longest wanted first.
    pub fn wanted_looks(&self) -> Vec<u32> {
        match self.dispatch.wants_looks() {
            true => self.host.wanted_looks().collect(),
            // Where no table can be read, a look tells nothing new.
            false => Vec::new(),
        }
    }
}
