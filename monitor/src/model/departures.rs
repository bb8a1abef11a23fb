//! Devices that left: what was read before they did shows none of them alive.
//!
//! A group's members are also read without its mutex. Who reads them may find a device, be held up, and report it when
//! its leaving has been reported. A reading carries the time at which it began, and a device is out of its group's list
//! before its leaving is reported (`iommu_group_remove_device`, drivers/iommu/iommu.c, up to 6.3;
//! `__iommu_group_remove_device` from 6.4): a reading that began later can't have found it.

use std::collections::VecDeque;

use crate::event::Key;

/// How many are kept by name.
const MAX_KEPT: usize = 256;

#[derive(Clone, Debug, Default)]
pub(super) struct Departures {
    /// With when it was reported, in CLOCK_MONOTONIC ns.
    kept: VecDeque<(Key, u64)>,
    /// The latest of all.
    latest_ns: u64,
    /// The latest of those that are not kept any more.
    forgotten_ns: Option<u64>,
}

impl Departures {
    pub fn note(&mut self, device: Key, mono_ns: u64) {
        if self.kept.len() == MAX_KEPT
            && let Some((_, oldest)) = self.kept.pop_front()
        {
            self.forgotten_ns = self.forgotten_ns.max(Some(oldest));
        }
        self.kept.push_back((device, mono_ns));
        self.latest_ns = self.latest_ns.max(mono_ns);
    }

    /// Whether a device that was read at this time may have left since. It is asked at each event that shows one: most came
    /// after all departures.
    pub fn since(&self, device: Key, mono_ns: u64) -> bool {
        if mono_ns >= self.latest_ns {
            return false;
        }
        let left = self.kept.iter().any(|&(known, left_ns)| known == device && mono_ns < left_ns);
        left || self.forgotten_ns.is_some_and(|left_ns| mono_ns < left_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(address: u64) -> Key {
        Key::new(address).expect("not 0")
    }

    #[test]
    fn what_was_read_before_a_device_left_is_outdated_and_what_was_read_after_it_is_not() {
        let mut departures = Departures::default();
        departures.note(key(7), 100);
        assert!(departures.since(key(7), 99));
        assert!(!departures.since(key(7), 100), "the address is used again");
        assert!(!departures.since(key(8), 99), "another device");
    }

    #[test]
    fn of_more_than_are_kept_none_comes_back() {
        let mut departures = Departures::default();
        for device in 1..=MAX_KEPT as u64 + 1 {
            departures.note(key(device), 100 * device);
        }
        assert_eq!(departures.kept.len(), MAX_KEPT);
        assert!(departures.since(key(1), 99) && departures.since(key(2), 199));
        assert!(!departures.since(key(1), 100));
    }
}
