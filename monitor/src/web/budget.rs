//! What making the pages may cost the watching: a page holds up what is watched while it is made, however often it is asked
//! for. So a share of the processor is set aside for it; when that is used up, what was made last is shown again.

use std::time::{Duration, Instant};

/// One part in so many of the time.
const SHARE: u32 = 4;
/// What is saved up at most: whoever asks now and then, also of a machine on which a page takes long, gets what is so now.
const SAVED: Duration = Duration::from_secs(1);

pub struct Budget {
    left: Duration,
    /// When something was last added to it.
    at: Instant,
}

impl Budget {
    pub fn new(now: Instant) -> Budget {
        Budget { left: SAVED, at: now }
    }

    /// Whether a page may be made now.
    pub fn allows(&mut self, now: Instant) -> bool {
        self.left = (self.left + now.duration_since(self.at) / SHARE).min(SAVED);
        self.at = self.at.max(now);
        !self.left.is_zero()
    }

    /// What one has cost. More than what was left makes the next one wait for it.
    pub fn spend(&mut self, cost: Duration) {
        match self.left.checked_sub(cost) {
            Some(left) => self.left = left,
            None => {
                let owed = cost - self.left;
                self.left = Duration::ZERO;
                // What is added from here on counts.
                self.at += owed * SHARE;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// How many pages of this cost are made of those asked for once in `every`, in `time`.
    fn made(cost: Duration, every: Duration, time: Duration) -> u32 {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        let (mut now, mut made) = (start, 0);
        while now < start + time {
            if budget.allows(now) {
                budget.spend(cost);
                now += cost;
                made += 1;
            }
            now += every;
        }
        made
    }

    #[test]
    fn who_asks_now_and_then_gets_what_is_so_now() {
        assert_eq!(made(2 * MS, 1000 * MS, 60_000 * MS), 60);
        // Also several at once.
        assert_eq!(made(2 * MS, Duration::ZERO, 60 * MS), 30);
    }

    #[test]
    fn a_flood_takes_a_share_of_the_time_and_no_more() {
        for cost in [MS / 10, MS, 40 * MS, 300 * MS] {
            let time = 20_000 * MS;
            let taken = made(cost, MS / 100, time) * cost;
            let allowed = time / SHARE + SAVED + cost;
            assert!(taken <= allowed, "{cost:?}: {taken:?} of {allowed:?}");
            assert!(taken >= time / SHARE - cost, "{cost:?}: {taken:?}");
        }
    }
}
