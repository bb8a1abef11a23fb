//! The slow cycle: every group is read again now and then, whatever the events say.

use std::{
    collections::VecDeque,
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use super::{ASKED, Error, Live};
use crate::{
    input::{Input, Resync},
    kernel::{clock, heap},
    watcher::Report,
};

/// How long after a look that found something the next one is taken, in ns.
const SECOND_LOOK: u64 = 1_000_000_000;

/// When groups are read again.
#[derive(Debug, Default)]
pub(super) struct Audit {
    /// Between two cycles, in ns, on the average; `None`: never.
    every: Option<u64>,
    /// When the next cycle begins; `None`: it isn't set yet.
    next: Option<u64>,
    /// The groups that this cycle has not come to.
    queue: VecDeque<u32>,
    /// When what was found is looked at again.
    again_at: Option<u64>,
}

impl Audit {
    pub fn new(every: Option<Duration>) -> Audit {
        let every = every.map(|every| u64::try_from(every.as_nanos()).unwrap_or(u64::MAX));
        Audit { every, ..Audit::default() }
    }

    /// There are groups that this cycle has to read still.
    pub fn under_way(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Says whether a cycle begins now. The hosts of a fleet that were started together don't stay in step.
    fn begins(&mut self, now: u64) -> bool {
        let Some(every) = self.every else { return false };
        let due = *self.next.get_or_insert_with(|| now.saturating_add(jitter(every)));
        if now < due || self.under_way() {
            return false;
        }
        self.next = Some(now.saturating_add(jitter(every)));
        true
    }

    /// Says whether what was found is to be looked at again now.
    fn looks_again(&mut self, found: bool, now: u64) -> bool {
        if !found {
            self.again_at = None;
            return false;
        }
        let at = *self.again_at.get_or_insert(now.saturating_add(SECOND_LOOK));
        if now < at {
            return false;
        }
        self.again_at = None;
        true
    }
}

/// Nine to eleven tenths of it.
fn jitter(every: u64) -> u64 {
    let tenth = every / 10;
    let random = RandomState::new().hash_one(every) % (2 * tenth + 1);
    every.saturating_sub(tenth).saturating_add(random)
}

impl Live {
    /// Reads some groups again, if it is time.
    pub(super) fn audit(&mut self) -> Result<Vec<Report>, Error> {
        let now = clock::monotonic_ns();
        let mut reports = Vec::new();
        if self.audit.begins(now) {
            heap::tidy();
            let groups = self.groups_in_sysfs()?;
            // A group that sysfs has no more is asked for, too: that tells that it is gone.
            let known = self.watcher.host().groups().map(|group| group.id);
            let mut all: Vec<u32> = groups.into_iter().chain(known).collect();
            all.sort_unstable();
            all.dedup();
            self.audit.queue = all.into();
            reports.extend(self.tell(Input::Resync(Resync::Audit)));
        }
        let share = self.audit.queue.len().min(ASKED);
        let next: Vec<u32> = self.audit.queue.drain(..share).collect();
        reports.extend(self.ask(&next)?);
        let found = self.watcher.second_looks();
        if self.audit.looks_again(!found.is_empty(), now) {
            reports.extend(self.resync(&found, Resync::Audit)?);
        }
        Ok(reports)
    }

    /// Takes the second look at once, for who can't wait for the cycle.
    pub fn look_again(&mut self) -> Result<Vec<Report>, Error> {
        let found = self.watcher.second_looks();
        if found.is_empty() {
            return Ok(Vec::new());
        }
        std::thread::sleep(SOON);
        let mut reports = self.resync(&found, Resync::Request)?;
        reports.extend(self.drain_out()?);
        Ok(reports)
    }
}

/// Longer than a switch of domains takes, and shorter than a person waits.
const SOON: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_cycle_begins_about_every_period() {
        let mut audit = Audit::new(Some(Duration::from_secs(60)));
        assert!(!audit.begins(0));
        assert!(!audit.begins(53 * SECOND));
        assert!(audit.begins(67 * SECOND));
        assert!(!audit.begins(67 * SECOND));
        audit.queue.push_back(7);
        assert!(!audit.begins(500 * SECOND), "the last one is not over");
        assert!(!Audit::new(None).begins(u64::MAX));
    }

    #[test]
    fn periods_differ_and_stay_near_the_mean() {
        let periods: Vec<u64> = (0..64).map(|_| jitter(60 * SECOND)).collect();
        assert!(periods.iter().all(|period| (54 * SECOND..=66 * SECOND).contains(period)), "{periods:?}");
        assert!(periods.iter().any(|period| period != &periods[0]));
    }

    #[test]
    fn what_was_found_is_looked_at_again_after_a_while() {
        let mut audit = Audit::new(None);
        assert!(!audit.looks_again(true, 10 * SECOND));
        assert!(!audit.looks_again(true, 10 * SECOND + SECOND / 2));
        assert!(audit.looks_again(true, 11 * SECOND));
        assert!(!audit.looks_again(false, 12 * SECOND));
        assert!(!audit.looks_again(true, 13 * SECOND), "it is another one");
    }
}
