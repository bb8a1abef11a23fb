//! Which IOMMUs were slow of late: what happens once may have been an interrupt, or a hypervisor that took the CPU away.

use crate::event::Key;

/// What comes again within this time comes again, in ns.
const AGAIN_NS: u64 = 60_000_000_000;
/// How many IOMMUs are kept; more are told of late, and never wrongly.
const MAX_IOMMUS: usize = 64;

/// When each IOMMU was slow last; those of which that isn't known count as one.
#[derive(Clone, Debug, Default)]
pub struct Slow {
    last: Vec<(Option<Key>, u64)>,
}

impl Slow {
    /// One was slow. Returns `true` if it was so within the last minute, too.
    pub fn again(&mut self, iommu: Option<Key>, mono_ns: u64) -> bool {
        self.last.retain(|&(_, last_ns)| mono_ns.saturating_sub(last_ns) < AGAIN_NS);
        match self.last.iter_mut().find(|(known, _)| *known == iommu) {
            Some((_, last_ns)) => {
                *last_ns = mono_ns.max(*last_ns);
                true
            }
            None => {
                if self.last.len() < MAX_IOMMUS {
                    self.last.push((iommu, mono_ns));
                }
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn what_is_slow_twice_within_a_minute_is_slow_again() {
        let mut slow = Slow::default();
        assert!(!slow.again(Key::new(1), SECOND));
        assert!(slow.again(Key::new(1), 60 * SECOND));
        assert!(slow.again(Key::new(1), 119 * SECOND));
        assert!(!slow.again(Key::new(1), 179 * SECOND), "a minute later");
    }

    #[test]
    fn each_iommu_counts_by_itself() {
        let mut slow = Slow::default();
        assert!(!slow.again(Key::new(1), 0));
        assert!(!slow.again(Key::new(2), 0));
        assert!(!slow.again(None, 0));
        assert!(slow.again(None, 1));
    }

    #[test]
    fn a_recording_of_many_iommus_takes_no_more_room() {
        let mut slow = Slow::default();
        for iommu in 0..1000 {
            slow.again(Key::new(iommu + 1), 0);
        }
        assert_eq!(slow.last.len(), MAX_IOMMUS);
    }
}
