//! Whether what a submission took was its waiting for the hardware.

/// What a CPU and its task had done at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Moment {
    /// Descriptors that this CPU has counted, of all types.
    pub descriptors: u64,
    /// How often the task has left a CPU, by sleep or preemption.
    pub switches: u64,
}

/// Between a descriptor's submission and the return of the call that waits for it nothing else of this CPU was timed with
/// it: the task stayed on the CPU, and no descriptor was submitted but the call's own, of which it has `own`. One of them
/// is counted at the begin.
///
/// An interrupt that submits something, a return that was not seen, and the driver's submitting the same again (`-EAGAIN`)
/// are told by the count; sleep and preemption by the switches.
#[inline(always)]
pub fn is_of_one(began: &Moment, now: &Moment, own: u64) -> bool {
    now.switches == began.switches && now.descriptors.wrapping_sub(began.descriptors) < own
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGAN: Moment = Moment { descriptors: 1000, switches: 7 };

    #[test]
    fn a_task_that_waits_is_timed() {
        assert!(is_of_one(&BEGAN, &BEGAN, 1));
        // The first of a batch of three.
        assert!(is_of_one(&BEGAN, &Moment { descriptors: 1002, ..BEGAN }, 3));
    }

    #[test]
    fn one_that_left_the_cpu_is_not() {
        assert!(!is_of_one(&BEGAN, &Moment { switches: 8, ..BEGAN }, 1));
    }

    #[test]
    fn one_in_which_something_else_was_submitted_is_not() {
        // An interrupt's, or the next one of the same task's, where the return of the first was not seen.
        assert!(!is_of_one(&BEGAN, &Moment { descriptors: 1001, ..BEGAN }, 1));
        // The same again, after a time-out.
        assert!(!is_of_one(&BEGAN, &Moment { descriptors: 1003, ..BEGAN }, 3));
    }
}
