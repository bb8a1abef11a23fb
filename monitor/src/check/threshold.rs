//! The thresholds of checks, as data: what the configuration can set, in which bounds, and where it goes.

use std::time::Duration;

use crate::model::{Host, SVA_GRACE};

/// A number that a check judges by. To add one is a row in [`THRESHOLDS`].
#[derive(Debug)]
pub struct Threshold {
    pub check: &'static str,
    /// The key in the check's table of the configuration; it ends with the unit.
    pub key: &'static str,
    pub what: &'static str,
    pub default: u64,
    /// The least and the greatest that is allowed.
    pub bounds: (u64, u64),
    pub(crate) set: fn(&mut Host, u64),
}

const DAY: u64 = 24 * 60 * 60;

/// Every threshold.
pub static THRESHOLDS: [Threshold; 1] = [Threshold {
    check: "sva-outlives-mm",
    key: "grace_seconds",
    what: "how long a process that has exited may stay bound to a device",
    default: SVA_GRACE.as_secs(),
    bounds: (0, 30 * DAY),
    set: |host, seconds| host.set_sva_grace(Duration::from_secs(seconds)),
}];

/// The thresholds of one check.
pub fn of(check: &str) -> impl Iterator<Item = &'static Threshold> {
    THRESHOLDS.iter().filter(move |threshold| threshold.check == check)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_threshold_is_of_a_check_and_has_its_default_in_its_bounds() {
        for threshold in &THRESHOLDS {
            assert!(crate::check::find(threshold.check).is_some(), "{}", threshold.check);
            assert!(
                (threshold.bounds.0..=threshold.bounds.1).contains(&threshold.default),
                "{}",
                threshold.key
            );
        }
    }
}
