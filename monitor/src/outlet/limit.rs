//! How many violations are told at a time, in lines and in pushes. What is held back is counted, and told in one line
//! after a while; metrics and pages have all of it.

use std::collections::{BTreeMap, HashSet};

use crate::{
    check::Fingerprint,
    config,
    watcher::{Report, Suppressed, SuppressedBy},
};

/// How long is gathered what was held back, in ns, before a line tells of it.
const GATHERED_NS: u64 = 10_000_000_000;
const MINUTE_NS: u64 = 60_000_000_000;

/// So many at once, and so many a minute after that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub burst: u64,
    pub per_minute: u64,
}

/// The bounds of what is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of each check.
    pub check: Rate,
    /// Of all checks together.
    pub total: Rate,
}

impl Default for Limits {
    /// A storm of one check is some hundred lines of some KiB, and then one a second: a journal holds days of that.
    fn default() -> Limits {
        Limits { check: Rate { burst: 300, per_minute: 60 }, total: Rate { burst: 1000, per_minute: 300 } }
    }
}

impl Limits {
    pub fn new(output: &config::Output) -> Limits {
        let Limits { check, total } = Limits::default();
        let rate = |burst: Option<u64>, per_minute: Option<u64>, default: Rate| Rate {
            burst: burst.unwrap_or(default.burst),
            per_minute: per_minute.unwrap_or(default.per_minute),
        };
        Limits {
            check: rate(output.check_burst, output.check_per_minute, check),
            total: rate(output.burst, output.per_minute, total),
        }
    }
}

/// A bucket that is full of tokens at first, and fills again as time passes.
#[derive(Debug)]
struct Bucket {
    rate: Rate,
    /// Tokens, in parts of which [`MINUTE_NS`] are one.
    parts: u128,
    filled_ns: u64,
}

impl Bucket {
    fn full(rate: Rate, now_ns: u64) -> Bucket {
        Bucket { rate, parts: u128::from(rate.burst) * u128::from(MINUTE_NS), filled_ns: now_ns }
    }

    /// Whether there is a token now.
    fn has_one(&mut self, now_ns: u64) -> bool {
        let passed = now_ns.saturating_sub(self.filled_ns);
        self.filled_ns = self.filled_ns.max(now_ns);
        let most = u128::from(self.rate.burst) * u128::from(MINUTE_NS);
        self.parts = most.min(self.parts + u128::from(passed) * u128::from(self.rate.per_minute));
        self.parts >= u128::from(MINUTE_NS)
    }

    fn take(&mut self) {
        self.parts = self.parts.saturating_sub(MINUTE_NS.into());
    }
}

/// Lets violations through within the bounds, each with what becomes of it, or holds back both.
#[derive(Debug)]
pub struct Limiter {
    limits: Limits,
    total: Bucket,
    checks: BTreeMap<&'static str, Bucket>,
    /// Those that were held back and stand: their end is no news to anybody. No more than can be open.
    held_back: HashSet<Fingerprint>,
    /// What was held back since the start, and since a line told of it.
    counts: BTreeMap<&'static str, u64>,
    untold: BTreeMap<&'static str, u64>,
    /// When the first of those was.
    untold_since: u64,
}

impl Limiter {
    pub fn new(limits: Limits, now_ns: u64) -> Limiter {
        Limiter {
            limits,
            total: Bucket::full(limits.total, now_ns),
            checks: BTreeMap::new(),
            held_back: HashSet::new(),
            counts: BTreeMap::new(),
            untold: BTreeMap::new(),
            untold_since: 0,
        }
    }

    /// Whether this is told.
    pub fn lets_through(&mut self, report: &Report, now_ns: u64) -> bool {
        match report {
            Report::Violation(found) => self.take(found.check.name, found.fingerprint, now_ns),
            // What was told comes to its end, and is set right; there is no more of that than was let through.
            Report::Restated(found) => {
                !self.held_back.contains(&found.fingerprint)
                    || self.take(found.check.name, found.fingerprint, now_ns)
            }
            Report::Resolved(over) => !self.held_back.remove(&over.fingerprint),
            _ => true,
        }
    }

    fn take(&mut self, check: &'static str, fingerprint: Fingerprint, now_ns: u64) -> bool {
        let of_check = self.checks.entry(check).or_insert_with(|| Bucket::full(self.limits.check, now_ns));
        if of_check.has_one(now_ns) && self.total.has_one(now_ns) {
            of_check.take();
            self.total.take();
            self.held_back.remove(&fingerprint);
            return true;
        }
        self.held_back.insert(fingerprint);
        if self.untold.is_empty() {
            self.untold_since = now_ns;
        }
        *self.counts.entry(check).or_default() += 1;
        *self.untold.entry(check).or_default() += 1;
        false
    }

    /// What was held back since the start, by check.
    pub fn counts(&self) -> &BTreeMap<&'static str, u64> {
        &self.counts
    }

    /// The line that tells what was held back, if it is time for it; at the end it is.
    pub fn untold(&mut self, now_ns: u64, end: bool) -> Option<Report> {
        let due = end || now_ns.saturating_sub(self.untold_since) >= GATHERED_NS;
        if self.untold.is_empty() || !due {
            return None;
        }
        let checks = std::mem::take(&mut self.untold);
        Some(Report::Suppressed(Suppressed {
            mono_ns: now_ns,
            by: SuppressedBy::Rate,
            lines: checks.values().sum(),
            total: self.counts.values().sum(),
            checks: checks.into_iter().collect(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        check::Severity,
        outlet::testing::{raised, resolved, violation},
    };

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn limits(check: (u64, u64), total: (u64, u64)) -> Limits {
        let rate = |(burst, per_minute)| Rate { burst, per_minute };
        Limits { check: rate(check), total: rate(total) }
    }

    /// How many of so many, of one cause each, are let through.
    fn through(limiter: &mut Limiter, check: &'static str, from: u64, count: u64, now_ns: u64) -> u64 {
        (from..from + count).filter(|&cause| limiter.take(check, Fingerprint(cause), now_ns)).count() as u64
    }

    #[test]
    fn a_burst_is_let_through_and_then_so_many_a_minute() {
        let mut limiter = Limiter::new(limits((300, 60), (1000, 600)), 0);
        assert_eq!(through(&mut limiter, "a", 0, 500, 0), 300);
        assert_eq!(through(&mut limiter, "a", 500, 5, SECOND), 1);
        assert_eq!(through(&mut limiter, "a", 600, 50, 11 * SECOND), 10);
        assert_eq!(
            through(&mut limiter, "a", 700, 500, 10_000 * SECOND),
            300,
            "no more than a burst is saved up"
        );
        assert_eq!(limiter.counts()["a"], 200 + 4 + 40 + 200);
    }

    #[test]
    fn a_storm_of_one_check_leaves_room_for_the_others_and_all_have_one_bound() {
        let mut limiter = Limiter::new(limits((300, 60), (1000, 600)), 0);
        assert_eq!(through(&mut limiter, "a", 0, 10_000, 0), 300);
        assert_eq!(
            through(&mut limiter, "b", 10_000, 100, 0),
            100,
            "what `a` was refused cost the others nothing"
        );
        let rest: u64 =
            ["c", "d", "e"].iter().map(|check| through(&mut limiter, check, 20_000, 1000, 0)).sum();
        assert_eq!(rest, 600);
    }

    /// Who was told of a violation is told of its end, and who wasn't isn't.
    #[test]
    fn a_violation_and_its_end_are_both_told_or_none_of_them() {
        let mut limiter = Limiter::new(limits((1, 60), (10, 600)), 0);
        assert!(limiter.lets_through(&raised(1), 0));
        assert!(!limiter.lets_through(&raised(2), 0));
        let restated = |cause| Report::Restated(Box::new(violation(cause, Severity::Warning)));
        assert!(limiter.lets_through(&restated(1), 0), "it was told");
        assert!(!limiter.lets_through(&restated(2), 0));
        assert!(!limiter.lets_through(&resolved(2), 0));
        assert!(limiter.lets_through(&resolved(1), 0));
        assert_eq!(limiter.counts()["pasid-left-on-release"], 2);
        // The same again is another one.
        assert!(limiter.lets_through(&raised(2), SECOND));
        assert!(limiter.lets_through(&resolved(2), SECOND));
        // One that was held back is told once there is room, and so is its end.
        assert!(!limiter.lets_through(&raised(3), SECOND));
        assert!(limiter.lets_through(&restated(3), 2 * SECOND));
        assert!(limiter.lets_through(&resolved(3), 2 * SECOND));
        assert!(limiter.held_back.is_empty());
    }

    /// A clock that is read twice in the wrong order gives nothing away.
    #[test]
    fn time_that_goes_back_fills_nothing() {
        let mut limiter = Limiter::new(limits((1, 60), (10, 600)), 100 * SECOND);
        assert_eq!(through(&mut limiter, "a", 0, 3, 100 * SECOND), 1);
        assert_eq!(through(&mut limiter, "a", 3, 3, 50 * SECOND), 0);
        assert_eq!(through(&mut limiter, "a", 6, 3, 100 * SECOND), 0);
    }

    #[test]
    fn what_was_held_back_is_told_in_one_line_after_a_while() {
        let mut limiter = Limiter::new(limits((1, 1), (2, 1)), 0);
        assert!(limiter.untold(SECOND, true).is_none(), "nothing was");
        through(&mut limiter, "a", 0, 3, SECOND);
        through(&mut limiter, "b", 3, 2, 2 * SECOND);
        assert!(limiter.untold(10 * SECOND, false).is_none());
        let told = |report| match report {
            Some(Report::Suppressed(told)) => (told.lines, told.total, told.checks),
            other => panic!("{other:?}"),
        };
        assert_eq!(told(limiter.untold(11 * SECOND, false)), (3, 3, vec![("a", 2), ("b", 1)]));
        assert!(limiter.untold(100 * SECOND, false).is_none(), "it is told");
        through(&mut limiter, "a", 5, 3, 100 * SECOND);
        assert_eq!(told(limiter.untold(100 * SECOND, true)), (2, 5, vec![("a", 2)]));
    }
}
