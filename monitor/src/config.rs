//! The configuration file: TOML, read as a whole, all that is wrong with it told at once.

use std::{fmt, fs, ops::Range, path::Path};

use jiff::{Timestamp, civil::Date};
use serde::Deserialize;
use toml::Spanned;

use crate::{
    advisory, check,
    conformance::{Allowance, end_of},
};

/// More than this of a file is not read.
const MOST: u64 = 1 << 20;

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    pub expected: Vec<Expected>,
}

/// A deviation that is expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    pub iommu_driver: String,
    pub check: String,
    pub reason: String,
    /// The last day of it, UTC.
    pub until: Date,
}

/// All that is wrong with a file, each with its line.
#[derive(Debug, PartialEq, Eq)]
pub struct Faults(pub Vec<String>);

impl std::error::Error for Faults {}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default)]
    expected: Vec<RawExpected>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawExpected {
    iommu_driver: Spanned<String>,
    check: Spanned<String>,
    reason: Spanned<String>,
    #[serde(deserialize_with = "advisory::date")]
    until: Date,
}

impl Config {
    pub fn read(path: &Path) -> Result<Config, Faults> {
        let wrong = |what: String| Faults(vec![what]);
        let about = fs::metadata(path).map_err(|error| wrong(error.to_string()))?;
        if !about.is_file() || about.len() > MOST {
            return Err(wrong("it is larger than 1 MiB, or no regular file".into()));
        }
        Config::parse(&fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?)
    }

    pub fn parse(text: &str) -> Result<Config, Faults> {
        let line = |span: Range<usize>| text.get(..span.start).unwrap_or_default().matches('\n').count() + 1;
        let raw: Raw = toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(String::new(), |span| format!("line {}: ", line(span)));
            Faults(vec![format!("{at}{}", error.message())])
        })?;
        let mut faults = Vec::new();
        let mut wrong = |key: &str, value: &Spanned<String>, allowed: &str| {
            let value_text = value.get_ref().escape_default();
            faults.push(format!("line {}: {key} = \"{value_text}\": {allowed}", line(value.span())));
        };
        let mut expected = Vec::new();
        for one in raw.expected {
            if check::find(one.check.get_ref()).is_none() {
                wrong("check", &one.check, "no such check; `iommu-watch checks` lists them");
            }
            if one.iommu_driver.get_ref().trim().is_empty() {
                wrong("iommu_driver", &one.iommu_driver, "a driver's name, as in intel, amd or arm-smmu-v3");
            }
            if one.reason.get_ref().trim().is_empty() {
                wrong("reason", &one.reason, "why it is expected, in words for whoever reads the report");
            }
            expected.push(Expected {
                iommu_driver: one.iommu_driver.into_inner(),
                check: one.check.into_inner(),
                reason: one.reason.into_inner(),
                until: one.until,
            });
        }
        if faults.is_empty() { Ok(Config { expected }) } else { Err(Faults(faults)) }
    }

    /// What is expected, on a host whose CLOCK_REALTIME less its CLOCK_MONOTONIC is so many ns.
    pub fn allowances(&self, clock_offset_ns: i64) -> Vec<Allowance> {
        let allowance = |expected: &Expected| Allowance {
            iommu_driver: expected.iommu_driver.clone(),
            check: expected.check.clone(),
            reason: expected.reason.clone(),
            until: expected.until,
            until_mono_ns: 0,
        };
        self.expected.iter().map(allowance).map(|one| one.on_clock(clock_offset_ns)).collect()
    }

    /// What was expected until some day before.
    pub fn expected_until(&self, now: Timestamp) -> impl Iterator<Item = &Expected> {
        let now = now.as_nanosecond();
        self.expected.iter().filter(move |expected| end_of(expected.until) <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "[[expected]]\niommu_driver = \"amd\"\ncheck = \"pasid-lost-on-detach\"\n\
                       reason = \"it has no PASIDs here\"\nuntil = 2027-03-31\n";

    #[test]
    fn what_is_expected_has_a_reason_and_an_end() {
        let config = Config::parse(ONE).expect("well-formed");
        let [expected] = config.expected.as_slice() else { panic!("{config:?}") };
        assert_eq!(
            (expected.check.as_str(), expected.until.to_string()),
            ("pasid-lost-on-detach", "2027-03-31".into())
        );
        assert!(Config::parse(&ONE.replace("reason = \"it has no PASIDs here\"\n", "")).is_err());
        assert!(Config::parse(&ONE.replace("until = 2027-03-31\n", "")).is_err());
        assert_eq!(Config::parse(""), Ok(Config::default()));
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once_with_its_line() {
        let text = ONE.replace("\"amd\"", "\" \"").replace("pasid-lost-on-detach", "pasid-lost");
        let Faults(faults) = Config::parse(&text).expect_err("it is wrong");
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(faults[0].starts_with("line 3: check = \"pasid-lost\": no such check"), "{faults:?}");
        assert!(faults[1].starts_with("line 2: iommu_driver"), "{faults:?}");
        let told = |text: &str| Config::parse(text).expect_err("it is wrong").to_string();
        assert!(told(&format!("{ONE}color = 1\n")).starts_with("line 6: unknown field `color`"));
        assert!(told(&ONE.replace("2027-03-31", "\"soon\"")).starts_with("line 5: "));
        assert!(told("[[expected]\n").starts_with("line 1: "));
    }

    #[test]
    fn the_last_day_counts_to_its_end() {
        let config = Config::parse(ONE).expect("well-formed");
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        assert_eq!(config.expected_until(at("2027-03-31T23:59:59Z")).count(), 0);
        assert_eq!(config.expected_until(at("2027-04-01T00:00:00Z")).count(), 1);
        // A host that was booted on the last day at 23:00, and one that was booted after it.
        let offset = |text: &str| at(text).as_nanosecond() as i64;
        let end = |booted: &str| config.allowances(offset(booted))[0].until_mono_ns;
        assert_eq!(end("2027-03-31T23:00:00Z"), 3_600_000_000_000);
        assert_eq!(end("2027-04-02T00:00:00Z"), 0);
    }
}
