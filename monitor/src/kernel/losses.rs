//! What the kernel side lost, and of which groups: its counters, held against what was read before.
//!
//! No loss may be hidden by a race with the programs that count. They count a loss at its place first (its
//! group, or elsewhere) and then in the sum (`monitor-ebpf/src/probe/loss.rs`), each fully ordered; here the
//! sums are read first, then the places. So a loss that the sums show is found at its place. One that comes
//! in between may be found at its place alone: it is told then, and its sum is no news later. Were a sum ever
//! more than its places, something would be lost of nobody knows whom: that is every group.

use std::collections::HashMap;

use monitor_ebpf::wire::{LossKind, Losses};

use crate::event::Key;

/// What was lost since it was last asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    pub count: u64,
    /// The groups that it may concern; `None`: every one.
    pub groups: Option<Vec<Key>>,
}

/// The losses that were told, by place.
#[derive(Debug, Default)]
pub(super) struct Account {
    groups: HashMap<u64, Losses>,
    elsewhere: Losses,
    sums: Losses,
    told: Losses,
}

impl Account {
    /// The sums have changed since the last time: something was lost.
    pub fn moved(&self, sums: &Losses) -> bool {
        self.sums != *sums
    }

    /// All that was told so far, by [`LossKind`].
    pub fn told(&self) -> Losses {
        self.told
    }

    /// Takes in what was read, the sums before the places, and says what is new of a kind, by [`LossKind`].
    /// `groups` are all that there are, once each; nothing is ever taken out in the kernel.
    pub fn take(
        &mut self,
        sums: Losses,
        elsewhere: Losses,
        groups: &[(u64, Losses)],
    ) -> [Loss; LossKind::COUNT] {
        let mut places = elsewhere;
        let mut changed = [const { Vec::new() }; LossKind::COUNT];
        for &(group, losses) in groups {
            let before = self.groups.insert(group, losses).unwrap_or_default();
            for what in LossKind::ALL.map(|what| what as usize) {
                places[what] = places[what].saturating_add(losses[what]);
                if losses[what] != before[what] {
                    changed[what].extend(Key::new(group));
                }
            }
        }
        let before = std::mem::replace(&mut self.elsewhere, elsewhere);
        self.sums = sums;
        LossKind::ALL.map(|what| {
            let what = what as usize;
            let nobody_knows = elsewhere[what] != before[what] || sums[what] > places[what];
            let total = sums[what].max(places[what]);
            let count = total.saturating_sub(self.told[what]);
            self.told[what] = self.told[what].max(total);
            Loss { count, groups: (!nobody_knows).then(|| std::mem::take(&mut changed[what])) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(groups: &[u64]) -> Option<Vec<Key>> {
        Some(groups.iter().filter_map(|&group| Key::new(group)).collect())
    }

    #[test]
    fn a_loss_is_told_once_and_of_its_group() {
        let mut account = Account::default();
        assert!(account.moved(&[3, 0]));
        let [records, calls] = account.take([3, 0], [0, 0], &[(7, [3, 0])]);
        assert_eq!(records, Loss { count: 3, groups: keys(&[7]) });
        assert_eq!(calls, Loss { count: 0, groups: keys(&[]) });
        assert!(!account.moved(&[3, 0]));
        let [records, calls] = account.take([5, 1], [0, 0], &[(7, [3, 1]), (8, [2, 0])]);
        assert_eq!(records, Loss { count: 2, groups: keys(&[8]) });
        assert_eq!(calls, Loss { count: 1, groups: keys(&[7]) });
    }

    #[test]
    fn what_is_lost_of_no_group_is_lost_of_every_one() {
        let mut account = Account::default();
        let [records, calls] = account.take([2, 1], [1, 0], &[(7, [1, 1])]);
        assert_eq!(records, Loss { count: 2, groups: None });
        assert_eq!(calls, Loss { count: 1, groups: keys(&[7]) });
        // What was told as of every group is none again.
        let [records, _] = account.take([3, 1], [1, 0], &[(7, [2, 1])]);
        assert_eq!(records, Loss { count: 1, groups: keys(&[7]) });
    }

    #[test]
    fn a_loss_whose_sum_comes_late_is_told_with_its_group() {
        let mut account = Account::default();
        account.take([1, 0], [0, 0], &[(7, [1, 0])]);
        // 8 is counted at its place, and 9 is in the sum too: the sum of 8 is to come.
        let [records, _] = account.take([2, 0], [0, 0], &[(7, [1, 0]), (8, [1, 0]), (9, [1, 0])]);
        assert_eq!(records, Loss { count: 2, groups: keys(&[8, 9]) });
        let [records, _] = account.take([3, 0], [0, 0], &[(7, [1, 0]), (8, [1, 0]), (9, [1, 0])]);
        assert_eq!(records, Loss { count: 0, groups: keys(&[]) });
    }

    #[test]
    fn a_sum_without_its_place_is_of_every_group_and_told_once() {
        let mut account = Account::default();
        let [records, _] = account.take([2, 0], [0, 0], &[(7, [1, 0])]);
        assert_eq!(records, Loss { count: 2, groups: None });
        // One place has come, and another is missing.
        let [records, _] = account.take([3, 0], [0, 0], &[(7, [2, 0])]);
        assert_eq!(records, Loss { count: 1, groups: None });
        let [records, _] = account.take([3, 0], [0, 0], &[(7, [2, 0]), (8, [1, 0])]);
        assert_eq!(records, Loss { count: 0, groups: keys(&[8]) });
    }

    #[test]
    fn numbers_from_outside_do_not_overflow() {
        let mut account = Account::default();
        let most = [u64::MAX; LossKind::COUNT];
        let [records, calls] = account.take(most, most, &[(0, most), (7, most)]);
        assert_eq!(records, Loss { count: u64::MAX, groups: None });
        assert_eq!(calls.count, u64::MAX);
        let [records, _] = account.take([0, 0], [0, 0], &[]);
        assert_eq!(records.count, 0);
    }
}
