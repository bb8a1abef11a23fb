//! Whether the loop that watches still comes around: what /-/healthy says, and what the service manager's watchdog is fed by.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use crate::kernel::clock;

/// The loop comes around each second. What takes it longest is some seconds: to read the kernel's symbols for a violation,
/// on an emulated machine, or a journal of a storm. Its watchdog in the systemd unit has the same patience.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is looked whether somebody else is done.
const MOMENT: Duration = Duration::from_micros(500);

/// When the loop came around last, in ns of CLOCK_MONOTONIC, which stands still while the machine sleeps.
pub struct Pulse(AtomicU64);

impl Pulse {
    /// The loop begins now.
    pub fn new() -> Pulse {
        Pulse(AtomicU64::new(clock::monotonic_ns()))
    }

    /// It has come around.
    pub fn beat(&self) {
        self.0.store(clock::monotonic_ns(), Relaxed);
    }

    /// `Err` with what there is to say where it doesn't any more.
    pub fn check(&self) -> Result<(), String> {
        self.check_at(clock::monotonic_ns())
    }

    fn check_at(&self, now_ns: u64) -> Result<(), String> {
        let silent = Duration::from_nanos(now_ns.saturating_sub(self.0.load(Relaxed)));
        if silent <= PATIENCE {
            return Ok(());
        }
        Err(format!("the loop that watches has not come around for {} s", silent.as_secs()))
    }

    /// What the loop shares, in its turn. Whoever waits for a loop that hangs waits no longer than until that is known.
    pub fn lock<'a, T>(&self, shared: &'a Mutex<T>) -> Result<MutexGuard<'a, T>, String> {
        loop {
            match shared.try_lock() {
                Ok(guard) => return Ok(guard),
                Err(TryLockError::Poisoned(poisoned)) => return Ok(PoisonError::into_inner(poisoned)),
                Err(TryLockError::WouldBlock) => self.check()?,
            }
            thread::sleep(MOMENT);
        }
    }
}

#[cfg(test)]
impl Pulse {
    /// Of a loop that hangs.
    fn of_one_that_hangs() -> Pulse {
        let pulse = Pulse::new();
        let long_ago = 2 * PATIENCE.as_nanos() as u64;
        pulse.0.store(clock::monotonic_ns().saturating_sub(long_ago), Relaxed);
        pulse
    }

    /// When it beat last.
    pub fn last(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_hangs_is_told_of_until_it_comes_around_again() {
        let pulse = Pulse::new();
        let (start, patience) = (pulse.last(), PATIENCE.as_nanos() as u64);
        assert_eq!(pulse.check_at(start + patience), Ok(()));
        let silent = pulse.check_at(start + patience + 1_000_000_000).unwrap_err();
        assert!(silent.ends_with("has not come around for 31 s"), "{silent}");
        let pulse = Pulse::of_one_that_hangs();
        assert!(pulse.check().is_err());
        pulse.beat();
        assert_eq!(pulse.check(), Ok(()));
    }

    #[test]
    fn nobody_waits_for_what_a_loop_that_hangs_holds() {
        let shared = Mutex::new(7);
        let held = shared.lock().expect("nobody panics");
        assert!(Pulse::of_one_that_hangs().lock(&shared).is_err());
        drop(held);
        // What it doesn't hold is there to be shown.
        assert_eq!(Pulse::of_one_that_hangs().lock(&shared).map(|guard| *guard), Ok(7));
    }

    #[test]
    fn whoever_waits_for_a_loop_that_is_busy_gets_his_turn() {
        let (shared, pulse) = (Mutex::new(0), Pulse::new());
        let held = shared.lock().expect("nobody panics");
        thread::scope(|scope| {
            let waits = scope.spawn(|| pulse.lock(&shared).map(|guard| *guard));
            thread::sleep(Duration::from_millis(5));
            drop(held);
            assert_eq!(waits.join().expect("it doesn't panic"), Ok(0));
        });
    }
}
