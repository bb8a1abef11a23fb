//! Looks for what a call did: at once, and not at every call of a storm.

use std::collections::BTreeMap;

use super::{ASKED, Error, Live};
use crate::{input::Resync, watcher::Report};

/// Between two such looks at one group, in ns.
const GAP: u64 = 250_000_000;

/// When groups were last looked at for what a call did.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    last: BTreeMap<u32, u64>,
}

impl Wanted {
    /// The groups to look at now, of those at which a look is wanted.
    fn due(&mut self, mut wanted: Vec<u32>, now: u64) -> Vec<u32> {
        if wanted.is_empty() {
            return wanted;
        }
        self.last.retain(|_, last| now.saturating_sub(*last) < GAP);
        wanted.retain(|group| !self.last.contains_key(group));
        wanted.truncate(ASKED);
        self.last.extend(wanted.iter().map(|&group| (group, now)));
        wanted
    }
}

impl Live {
    /// Looks at groups where a call did what only a look tells. What is not due yet comes later.
    pub(super) fn look_where_wanted(&mut self, now: u64) -> Result<Vec<Report>, Error> {
        let due = self.wanted.due(self.watcher.wanted_looks(), now);
        if due.is_empty() { Ok(Vec::new()) } else { self.resync(&due, Resync::Call) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_on_one_group_is_looked_at_now_and_then_and_others_at_once() {
        let mut wanted = Wanted::default();
        assert_eq!(wanted.due(vec![7], 0), [7]);
        assert_eq!(wanted.due(vec![7, 8], GAP - 1), [8]);
        assert_eq!(wanted.due(vec![7], GAP), [7]);
        assert_eq!(wanted.due((0..100).collect(), 3 * GAP).len(), ASKED);
    }
}
