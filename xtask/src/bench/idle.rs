//! What the daemon takes on a host at rest: its processor time, how often it wakes, its memory.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testbed::{Series, Vm};

use super::guest;
use crate::{build, ebpf};

const LIMIT: Duration = Duration::from_secs(900);

/// What is allowed, of one core.
const BOUND_PERCENT: f64 = 0.1;

/// What was measured on one kernel.
#[derive(Debug)]
struct Measured {
    told: Value,
    /// Processor time of the daemon, and without its audits, in ns; of how many.
    spent_ns: u64,
    still_ns: u64,
    seconds: u64,
}

/// Measures on the kernels, where time counts instructions: what an emulated processor takes is no measure else. Gives the
/// numbers and the lines of a table.
pub fn measure(kernels: &[Series]) -> Result<(Value, String)> {
    ebpf::build()?;
    let iommu_watch = build::iommu_watch()?;
    let mut all = Vec::new();
    for &series in kernels {
        eprintln!("bench: the daemon at rest on {series}");
        let vm = Vm::new(series).add(&iommu_watch, "/bin/iommu-watch").icount(true).timeout(LIMIT);
        all.push(Measured::of(guest::told(&guest::output(vm, series, "idle.sh")?)?)?);
    }
    Ok((all.iter().map(Measured::json).collect(), table(&all)))
}

impl Measured {
    /// More than the bound is an error and no number.
    fn of(told: Value) -> Result<Measured> {
        let number = |name: &str| told[name].as_u64().with_context(|| format!("the guest told no `{name}`"));
        let (spent_ns, still_ns, seconds) = (number("daemon_ns")?, number("still_ns")?, number("seconds")?);
        let measured = Measured { spent_ns, still_ns, seconds, told };
        let percent = measured.percent(spent_ns);
        ensure!(percent <= BOUND_PERCENT, "the daemon took {percent:.3} % of a core: {}", measured.told);
        Ok(measured)
    }

    fn percent(&self, ns: u64) -> f64 {
        100.0 * ns as f64 / (self.seconds as f64 * 1e9)
    }

    fn json(&self) -> Value {
        let mut told = self.told.clone();
        told["percent"] = json!(self.percent(self.spent_ns));
        told["still_percent"] = json!(self.percent(self.still_ns));
        told["bound_percent"] = json!(BOUND_PERCENT);
        told
    }
}

fn table(all: &[Measured]) -> String {
    let mut text = format!(
        "| kernel | hooks | groups | at rest for | CPU, of a core (at most {BOUND_PERCENT} %) | without reading groups again | \
         wakeups a second | RssAnon |\n|---|---|---|---|---|---|---|---|"
    );
    for measured in all {
        let Measured { told, spent_ns, still_ns, seconds } = measured;
        let woken = told["woken"].as_f64().unwrap_or(f64::NAN) / *seconds as f64;
        text += &format!(
            "\n| {} | {} | {} | {seconds} s | {:.1} ms: {:.3} % | {:.1} ms: {:.3} % | {woken:.1} | {} KiB |",
            told["kernel"].as_str().unwrap_or("?"),
            told["hooks"],
            told["groups"],
            *spent_ns as f64 / 1e6,
            measured.percent(*spent_ns),
            *still_ns as f64 / 1e6,
            measured.percent(*still_ns),
            told["anon_kib"],
        );
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(daemon_ns: u64) -> Value {
        json!({"kernel": "6.12", "hooks": 52, "groups": 7, "seconds": 120, "audits": 2, "daemon_ns": daemon_ns,
               "woken": 240, "still_ns": 12_000_000, "still_woken": 120, "anon_kib": 6000})
    }

    #[test]
    fn more_than_the_bound_is_an_error() {
        Measured::of(told(120_000_000)).expect("it is the bound");
        Measured::of(told(120_000_001)).expect_err("it is more");
        Measured::of(json!({"kernel": "6.12"})).expect_err("it tells nothing");
    }

    #[test]
    fn a_row_has_the_share_of_a_core() {
        let table = table(&[Measured::of(told(60_000_000)).expect("it is within the bound")]);
        let row = "| 6.12 | 52 | 7 | 120 s | 60.0 ms: 0.050 % | 12.0 ms: 0.010 % | 2.0 | 6000 KiB |";
        assert_eq!(table.lines().last(), Some(row));
    }
}
