//! A deviation that an operator knows of and puts up with, for a reason and for a time.

use jiff::{civil::Date, tz::TimeZone};

use super::violation::Violation;

/// Violations that are expected: those of one check, on what is named of driver, group and device. At least one of them
/// is: what is expected everywhere is a check that is off.
#[derive(Clone, Debug)]
pub struct Expectation {
    pub check: &'static str,
    pub iommu_driver: Option<String>,
    pub group: Option<u32>,
    pub device: Option<String>,
    pub reason: String,
    /// The last day of it, UTC.
    pub until: Date,
    /// The end of that day, in CLOCK_MONOTONIC ns of the host that is watched; 0 if it was over at its boot.
    pub until_mono_ns: u64,
}

/// By what was written. On another clock it is the same.
impl PartialEq for Expectation {
    fn eq(&self, other: &Expectation) -> bool {
        let written = |one: &Expectation| (one.check, one.group, one.until);
        written(self) == written(other)
            && (&self.iommu_driver, &self.device, &self.reason)
                == (&other.iommu_driver, &other.device, &other.reason)
    }
}

impl Eq for Expectation {}

impl Expectation {
    /// The same on a host whose CLOCK_REALTIME less its CLOCK_MONOTONIC is so many ns.
    pub fn on_clock(self, offset_ns: i64) -> Expectation {
        let mono = self.end_ns().saturating_sub(i128::from(offset_ns));
        Expectation { until_mono_ns: u64::try_from(mono.max(0)).unwrap_or(u64::MAX), ..self }
    }

    /// The end of its last day, in ns since the epoch.
    pub fn end_ns(&self) -> i128 {
        let next = self.until.tomorrow().unwrap_or(self.until).to_zoned(TimeZone::UTC);
        next.map_or(i128::MAX, |zoned| zoned.timestamp().as_nanosecond())
    }

    pub fn is_over(&self, mono_ns: u64) -> bool {
        mono_ns >= self.until_mono_ns
    }

    /// Whether what this check finds is expected where this violation is; of the violation's own check, and of those
    /// that it implies.
    pub fn covers(&self, check: &str, violation: &Violation) -> bool {
        let names = |wanted: &Option<String>, has: &dyn Fn(&String) -> bool| wanted.as_ref().is_none_or(has);
        self.check == check
            && self.group.is_none_or(|group| violation.group == Some(group))
            && names(&self.iommu_driver, &|driver| violation.iommu_driver.as_ref() == Some(driver))
            && names(&self.device, &|device| violation.devices.contains(device))
    }

    /// Whether the check's violations are expected of this driver wherever it is.
    pub fn covers_driver(&self, driver: &str, check: &str) -> bool {
        let everywhere = self.group.is_none() && self.device.is_none();
        everywhere && self.check == check && self.iommu_driver.as_deref() == Some(driver)
    }

    /// What it is of, for a person.
    pub fn object(&self) -> String {
        let driver = self.iommu_driver.as_ref().map(|driver| format!("IOMMU driver {driver}"));
        let group = self.group.map(|group| format!("group {group}"));
        let device = self.device.as_ref().map(|device| format!("device {device}"));
        [driver, group, device].into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}
