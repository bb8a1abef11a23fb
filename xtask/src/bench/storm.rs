//! A storm of invalidations in a guest: whether all are counted, and what the daemon takes for it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testbed::{Series, Vm};

use super::guest;
use crate::{build, ebpf};

const LIMIT: Duration = Duration::from_secs(900);

/// What was allowed of the storm's processor time.
const BOUND_PERCENT: f64 = 2.0;

/// What was measured on one kernel.
#[derive(Debug)]
struct Measured {
    kernel: String,
    /// Its time counts instructions, on one processor.
    icount: bool,
    submitted: u64,
    counted: u64,
    timed: u64,
    /// KiB, before and after.
    rss: [u64; 2],
    /// Processor time of the daemon and of the storm, in ns.
    daemon_ns: u64,
    storm_ns: u64,
    took_ns: u64,
}

/// Measures on the kernels, and gives the numbers and the lines of a table.
pub fn measure(kernels: &[Series], icount: bool) -> Result<(Value, String)> {
    ebpf::build()?;
    let iommu_watch = build::iommu_watch()?;
    let mut all = Vec::new();
    for &series in kernels {
        eprintln!("bench: a storm of invalidations on {series}");
        let vm = Vm::new(series)
            .test_module("caller")
            .add(&iommu_watch, "/bin/iommu-watch")
            .icount(icount)
            .timeout(LIMIT);
        let output = guest::output(vm, series, "storm.sh")?;
        all.push(Measured::of(&guest::told(&output)?, icount)?);
    }
    Ok((all.iter().map(Measured::json).collect(), table(&all)))
}

impl Measured {
    /// A count that isn't exact, and whatever is told of it, is an error and no number.
    fn of(told: &Value, icount: bool) -> Result<Measured> {
        let number = |name: &str| told[name].as_u64().with_context(|| format!("the guest told no `{name}`"));
        let (submitted, counted) = (number("submitted")?, number("counted")?);
        ensure!(counted == submitted, "{submitted} were submitted, and {counted} counted");
        for nothing in ["counted_of_other_scopes", "events_lost", "records_sent", "violations"] {
            ensure!(number(nothing)? == 0, "{nothing}: {}", told[nothing]);
        }
        Ok(Measured {
            kernel: told["kernel"].as_str().unwrap_or("?").to_owned(),
            icount,
            submitted,
            counted,
            timed: number("timed")?,
            rss: [number("rss_before_kib")?, number("rss_after_kib")?],
            daemon_ns: number("daemon_ns")?,
            storm_ns: number("storm_ns")?,
            took_ns: number("took_ns")?,
        })
    }

    fn percent(&self) -> f64 {
        100.0 * self.daemon_ns as f64 / self.storm_ns as f64
    }

    fn json(&self) -> Value {
        json!({
            "kernel": self.kernel,
            "icount": self.icount,
            "submitted": self.submitted,
            "counted": self.counted,
            "timed": self.timed,
            "rss_before_kib": self.rss[0],
            "rss_after_kib": self.rss[1],
            "daemon_seconds": self.daemon_ns as f64 / 1e9,
            "storm_seconds": self.storm_ns as f64 / 1e9,
            "took_seconds": self.took_ns as f64 / 1e9,
            "daemon_percent": self.percent(),
            "bound_percent": BOUND_PERCENT,
        })
    }
}

fn table(all: &[Measured]) -> String {
    let mut text = format!(
        "| kernel | submitted | counted | lost | took | RSS before, after | the daemon's CPU (at most {BOUND_PERCENT} % of \
         the storm's) |\n|---|---|---|---|---|---|---|"
    );
    for measured in all {
        let seconds = |ns: u64| ns as f64 / 1e9;
        let [before, after] = measured.rss;
        text += &format!(
            "\n| {}{} | {} | {} | 0 | {:.1} s | {before}, {after} KiB | {:.3} of {:.1} s: {:.2} % |",
            measured.kernel,
            if measured.icount { ", an instruction a ns" } else { "" },
            measured.submitted,
            measured.counted,
            seconds(measured.took_ns),
            seconds(measured.daemon_ns),
            seconds(measured.storm_ns),
            measured.percent(),
        );
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(counted: u64, lost: u64) -> Value {
        json!({
            "kernel": "6.12", "submitted": 1000, "counted": counted, "counted_of_other_scopes": 0,
            "events_lost": lost, "records_sent": 0, "violations": 0, "timed": 4, "rss_before_kib": 4000, "rss_after_kib": 4004,
            "daemon_ns": 10_000_000, "storm_ns": 1_000_000_000, "took_ns": 500_000_000,
        })
    }

    #[test]
    fn the_daemons_share_is_told() {
        let table = table(&[Measured::of(&told(1000, 0), false).expect("all is told")]);
        assert!(table.contains("| 4000, 4004 KiB | 0.010 of 1.0 s: 1.00 % |"), "{table}");
    }

    #[test]
    fn what_is_not_counted_is_an_error() {
        for (counted, lost) in [(999, 0), (1001, 0), (1000, 1)] {
            assert!(Measured::of(&told(counted, lost), false).is_err());
        }
    }
}
