//! Whether what a submission took was its waiting for the hardware.

/// What a task had done at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Moment {
    /// Descriptors: that its CPU has counted, of all types, or that were counted in its window.
    pub descriptors: u64,
    /// How often it has left its CPU for a time that `delayed_ns` has not, or not all: see [`away`]. Where the CPU keeps the
    /// clock, also how often it was moved to another one: a clock that was left behind would run on.
    pub away: u64,
    /// How long it has been able to run, and had no CPU to run on, ns.
    pub delayed_ns: u64,
}

/// A submission that is timed in a task's window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Clock {
    /// When it began, ns; 0: none is timed.
    pub began_ns: u64,
    pub began: Moment,
    /// Of one that was slow, and before whose return something else was submitted in its task's place: what it had taken
    /// by then, ns; 0: there is none.
    pub held_ns: u64,
    /// Descriptors since, whose return has not been seen.
    pub since: u64,
}

/// How often a task has left a CPU for a time that is not known: `nvcsw`, `nivcsw` and `sched_info.pcount`.
///
/// One that is preempted stays able to run, which is timed (`sched_info_depart`, kernel/sched/stats.h): it is counted as
/// preempted, and in `pcount` when it runs again. One that sleeps is counted as asleep, and when it runs again, which
/// leaves one; so does preemption of one that is about to sleep, which is not timed. No count of these makes it less.
#[inline(always)]
pub fn away(slept: u64, preempted: u64, runs: u64) -> u64 {
    slept.wrapping_mul(2).wrapping_add(preempted).wrapping_sub(runs)
}

/// What a submission took, ns, without the time for which its task was kept from its CPU; 0: that isn't known.
///
/// Between its descriptor and the return of the call that waits for it the task did not sleep, and no descriptor was
/// counted but the call's own, of which it has `own`. One of them is counted at the begin. An interrupt that submits
/// something, a return that was not seen, and the driver's submitting the same again (`-EAGAIN`) are told by the count.
#[inline(always)]
pub fn spent(began: &Moment, now: &Moment, own: u64, took_ns: u64) -> u64 {
    if now.descriptors.wrapping_sub(began.descriptors) >= own {
        return 0;
    }
    on_cpu(began, now, took_ns)
}

/// The same of whatever was submitted meanwhile.
///
/// The scheduler's clock is another one than ours. Where it is slow it is by less than a thousandth (`MAXFREQ` of adjtimex
/// is half of that): so much more is left out.
#[inline(always)]
pub fn on_cpu(began: &Moment, now: &Moment, took_ns: u64) -> u64 {
    if now.away != began.away {
        return 0;
    }
    let delayed_ns = now.delayed_ns.wrapping_sub(began.delayed_ns);
    took_ns.saturating_sub(delayed_ns).saturating_sub(delayed_ns >> 10)
}

impl Clock {
    pub const STOPPED: Clock =
        Clock { began_ns: 0, began: Moment { descriptors: 0, away: 0, delayed_ns: 0 }, held_ns: 0, since: 0 };

    /// A descriptor is submitted in the task's place before one that is timed has returned. Either that has returned
    /// unseen, or it is in the same call, or this is an interrupt's: VT-d waits with interrupts off, so what it waited
    /// for is done. Which of them it was is known when its call returns.
    #[inline(always)]
    pub fn hold(&mut self, now: &Moment, now_ns: u64, limit_ns: u64) {
        if self.held_ns != 0 {
            self.since = self.since.wrapping_add(1);
        } else if self.began_ns != 0 {
            let spent_ns = on_cpu(&self.began, now, now_ns.wrapping_sub(self.began_ns));
            if spent_ns > limit_ns {
                (self.held_ns, self.since) = (spent_ns, 1);
            }
        }
    }

    /// A call that has submitted so many descriptors returns: what the one that is held took, if it is that one's return,
    /// else 0. Each descriptor since then is of a call that returns before it. One whose return is not seen only makes
    /// that this one's is never told. A call of none (a wait alone) may be anyone's.
    #[inline(always)]
    pub fn let_go(&mut self, own: u64) -> u64 {
        if self.held_ns == 0 || own == 0 {
            return 0;
        }
        if self.since != 0 {
            self.since = self.since.saturating_sub(own);
            return 0;
        }
        core::mem::take(&mut self.held_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const BEGAN: Moment = Moment { descriptors: 1000, away: 7, delayed_ns: 5 * MS };

    #[test]
    fn a_task_that_waits_is_timed() {
        assert_eq!(spent(&BEGAN, &BEGAN, 1, 12 * MS), 12 * MS);
        // The first of a batch of three.
        assert_eq!(spent(&BEGAN, &Moment { descriptors: 1002, ..BEGAN }, 3, 12 * MS), 12 * MS);
    }

    #[test]
    fn time_in_which_it_was_kept_from_its_cpu_is_left_out() {
        let kept = Moment { delayed_ns: 105 * MS, ..BEGAN };
        let spent_ns = spent(&BEGAN, &kept, 1, 112 * MS);
        assert!(spent_ns < 12 * MS && spent_ns > 11 * MS, "{spent_ns}");
        // Of another clock, which may be the faster one.
        assert_eq!(spent(&BEGAN, &kept, 1, 99 * MS), 0);
    }

    #[test]
    fn one_that_left_the_cpu_and_nobody_knows_for_how_long_is_not_timed() {
        assert_eq!(spent(&BEGAN, &Moment { away: 8, ..BEGAN }, 1, 12 * MS), 0);
    }

    #[test]
    fn one_that_was_preempted_is_not_away_and_one_that_slept_is() {
        let before = away(3, 4, 8);
        assert_eq!(away(3, 6, 10), before, "preempted twice");
        assert_ne!(away(4, 4, 9), before, "asleep");
        assert_ne!(away(3, 5, 8), before, "preempted, and not timed: it was about to sleep");
        assert_ne!(away(4, 5, 9), before, "and then asleep");
        assert_ne!(away(3, 5, 0), away(3, 4, 0), "a kernel without these statistics");
    }

    #[test]
    fn one_in_which_something_else_was_submitted_is_not_timed() {
        // An interrupt's, or the next one of the same task's, where the return of the first was not seen.
        assert_eq!(spent(&BEGAN, &Moment { descriptors: 1001, ..BEGAN }, 1, 12 * MS), 0);
        // The same again, after a time-out.
        assert_eq!(spent(&BEGAN, &Moment { descriptors: 1003, ..BEGAN }, 3, 12 * MS), 0);
    }

    /// A descriptor is submitted at that time; its return is seen or not.
    fn submit(clock: &mut Clock, at_ns: u64) {
        clock.hold(&BEGAN, at_ns, 10 * MS);
        (clock.began_ns, clock.began) = (at_ns, BEGAN);
    }

    fn back(clock: &mut Clock, own: u64) -> u64 {
        clock.began_ns = 0;
        clock.let_go(own)
    }

    #[test]
    fn a_slow_one_is_told_after_what_an_interrupt_has_submitted_in_it() {
        let mut clock = Clock::STOPPED;
        submit(&mut clock, MS);
        // Two of an interrupt's, one of them of three descriptors.
        submit(&mut clock, 201 * MS);
        assert_eq!(back(&mut clock, 1), 0);
        for _ in 0..3 {
            submit(&mut clock, 202 * MS);
        }
        assert_eq!(back(&mut clock, 3), 0);
        assert_eq!(back(&mut clock, 0), 0, "of a wait alone it isn't known whose it is");
        assert_eq!(back(&mut clock, 1), 200 * MS);
        assert_eq!(back(&mut clock, 1), 0, "once");
    }

    #[test]
    fn one_that_was_not_slow_is_not_held() {
        let mut clock = Clock::STOPPED;
        submit(&mut clock, MS);
        submit(&mut clock, 11 * MS);
        assert_eq!((back(&mut clock, 1), back(&mut clock, 1)), (0, 0));
    }

    #[test]
    fn one_that_returned_unseen_is_never_told() {
        let mut clock = Clock::STOPPED;
        submit(&mut clock, MS);
        for at in [500, 1000, 1001] {
            submit(&mut clock, at * MS);
            assert_eq!(back(&mut clock, 1), 0);
        }
        // Nor is one that the driver submits again, and returns from once.
        let mut again = Clock::STOPPED;
        submit(&mut again, MS);
        submit(&mut again, 500 * MS);
        assert_eq!(back(&mut again, 1), 0);
    }
}
