//! What an operator knows of a driver and puts up with, for a reason and for a time.

use jiff::{civil::Date, tz::TimeZone};

/// A deviation that is expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowance {
    pub iommu_driver: String,
    /// The check whose violations are expected.
    pub check: String,
    pub reason: String,
    /// The last day of it, UTC.
    pub until: Date,
    /// The end of that day, in CLOCK_MONOTONIC ns of the host that is watched; 0 if it was over at its boot.
    pub until_mono_ns: u64,
}

impl Allowance {
    /// The same on a host whose CLOCK_REALTIME less its CLOCK_MONOTONIC is so many ns.
    pub fn on_clock(self, offset_ns: i64) -> Allowance {
        let mono = end_of(self.until).saturating_sub(i128::from(offset_ns));
        Allowance { until_mono_ns: u64::try_from(mono.max(0)).unwrap_or(u64::MAX), ..self }
    }

    pub fn covers(&self, driver: &str, check: &str, mono_ns: u64) -> bool {
        self.iommu_driver == driver && self.check == check && mono_ns < self.until_mono_ns
    }
}

/// The end of a day, UTC, in ns since the epoch.
pub fn end_of(day: Date) -> i128 {
    let next = day.tomorrow().unwrap_or(day).to_zoned(TimeZone::UTC);
    next.map_or(i128::MAX, |zoned| zoned.timestamp().as_nanosecond())
}
