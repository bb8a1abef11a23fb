//! A record that is reserved and not submitted: what waits for it, and for how long.
//!
//! Its task was preempted in the program, or interrupted. All that stands behind it in the ring can't be read, be it
//! what explains a finding: until the ring is empty nothing is raised. Mostly that takes microseconds, and as long as the
//! scheduler lets the task wait where the kernel preempts. On a machine that starves it for longer than [`STALLED`],
//! nobody knows what goes on: then every group is unknown, until it is read behind that record.

use std::time::{Duration, Instant};

use super::{Error, Live};
use crate::{
    input::{Lost, Stage},
    watcher::Report,
};

/// How long a record may be awaited until nothing is known any more, in ns.
const STALLED: u64 = 10_000_000_000;
/// How long who ends waits for the last records.
const LAST: Duration = Duration::from_millis(200);

/// Where the reader of the ring stands, since when, and whether that was told as a loss.
#[derive(Debug, Default)]
pub(super) struct Stall {
    at: Option<(usize, u64)>,
    told: bool,
}

impl Stall {
    /// The reader stands before this record; `None`: the ring is empty. Says once when it has stood there for too long.
    fn stands(&mut self, at: Option<usize>, now: u64) -> bool {
        let same = self.at.filter(|&(before, _)| Some(before) == at);
        self.at = at.map(|at| same.unwrap_or((at, now)));
        self.told &= same.is_some();
        let stalled = self.at.is_some_and(|(_, since)| now.saturating_sub(since) >= STALLED);
        stalled && !std::mem::replace(&mut self.told, true)
    }
}

impl Live {
    /// Whether all that was reserved was read. Where that takes too long, it is told as lost.
    pub(super) fn is_drained(&mut self, now: u64, reports: &mut Vec<Report>) -> bool {
        let waiting = self.ring.waiting();
        if self.stall.stands(waiting, now) {
            reports.extend(self.tell_lost(Lost { stage: Stage::Kernel, count: 1, groups: None }));
        }
        waiting.is_none()
    }

    /// Takes in what is on its way still, for who takes in no more: what was found last is raised by that.
    pub fn drain_out(&mut self) -> Result<Vec<Report>, Error> {
        let until = Instant::now() + LAST;
        let (mut reports, mut more) = self.drain()?;
        while (more || self.ring.waiting().is_some()) && Instant::now() < until {
            if !more {
                std::thread::sleep(Duration::from_millis(1));
            }
            let (last, again) = self.drain()?;
            reports.extend(last);
            more = again;
        }
        Ok(reports)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_does_not_come_is_told_once() {
        let mut stall = Stall::default();
        assert!(!stall.stands(Some(720), 5));
        assert!(!stall.stands(Some(720), STALLED + 4));
        assert!(stall.stands(Some(720), STALLED + 5));
        assert!(!stall.stands(Some(720), 3 * STALLED));
        // Another one, for as long.
        assert!(!stall.stands(Some(1080), 3 * STALLED));
        assert!(stall.stands(Some(1080), 4 * STALLED));
    }

    #[test]
    fn a_ring_that_was_empty_or_moves_is_not_stalled() {
        let mut stall = Stall::default();
        assert!(!stall.stands(Some(0), 0));
        assert!(!stall.stands(None, STALLED));
        assert!(!stall.stands(Some(0), STALLED));
        assert!(!stall.stands(Some(360), 2 * STALLED));
        assert!(!stall.stands(None, 9 * STALLED));
    }
}
