//! How long a violation takes from its event in the kernel to its JSON line, in a guest: as it is emulated here, with two
//! processors, which tells of this machine's load as well; or where time counts instructions, with one processor that
//! does one in a nanosecond, which tells the same on every machine.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testbed::{Series, Vm};

use super::guest;
use crate::{build, ebpf};

const LIMIT: Duration = Duration::from_secs(900);

/// What was allowed, for 99 of 100.
const BOUND_MS: f64 = 50.0;

/// Fewer say nothing of the slowest hundredth.
const ENOUGH: usize = 200;

/// Latencies in ms, in ascending order.
#[derive(Debug, Default)]
struct Latencies(Vec<f64>);

/// What was measured on one kernel.
#[derive(Debug)]
struct Measured {
    kernel: String,
    /// Its time counts instructions.
    icount: bool,
    latencies: Latencies,
}

/// Measures on the kernels, and gives the numbers and the lines of a table.
pub fn measure(kernels: &[Series], icount: bool) -> Result<(Value, String)> {
    ebpf::build()?;
    let iommu_watch = build::iommu_watch()?;
    let mut all = Vec::new();
    for &series in kernels {
        eprintln!("bench: from events to lines on {series}");
        let vm = ["pasidcap", "saboteur", "caller"].into_iter().fold(Vm::new(series), Vm::test_module);
        let vm = vm.add(&iommu_watch, "/bin/iommu-watch").icount(icount).timeout(LIMIT);
        let output = guest::output(vm, series, "detection.sh")?;
        all.push(Measured::of(&output, icount)?);
    }
    Ok((all.iter().map(Measured::json).collect(), table(&all)))
}

impl Measured {
    /// Lines `CHECK EVENT READ`, and at last what was planted.
    fn of(output: &str, icount: bool) -> Result<Measured> {
        let told = guest::told(output)?;
        let planted = told["planted"].as_u64().context("the guest told no `planted`")?;
        let mut latencies = Vec::new();
        for line in output.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [_, event, read] = words.as_slice() else { continue };
            let (Ok(event), Ok(read)) = (event.parse::<u64>(), read.parse::<u64>()) else { continue };
            latencies.push(read.saturating_sub(event) as f64 / 1e6);
        }
        let found = latencies.len();
        ensure!(found as u64 == planted, "{planted} violations were planted, and {found} told");
        let kernel = told["kernel"].as_str().unwrap_or("?").to_owned();
        Ok(Measured { kernel, icount, latencies: Latencies::new(latencies)? })
    }

    fn json(&self) -> Value {
        json!({
            "kernel": self.kernel,
            "icount": self.icount,
            "violations": self.latencies.0.len(),
            "p50_ms": self.latencies.percentile(50),
            "p99_ms": self.latencies.percentile(99),
            "max_ms": self.latencies.percentile(100),
            "bound_p99_ms": BOUND_MS,
        })
    }
}

impl Latencies {
    fn new(mut all: Vec<f64>) -> Result<Latencies> {
        ensure!(all.len() >= ENOUGH, "{} violations are too few", all.len());
        all.sort_by(f64::total_cmp);
        Ok(Latencies(all))
    }

    /// So many of a hundred took at most as long.
    fn percentile(&self, percent: usize) -> f64 {
        let rank = (self.0.len() * percent).div_ceil(100);
        self.0.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
    }
}

fn table(all: &[Measured]) -> String {
    let mut text = format!(
        "| from the event to its JSON line (p99: at most {BOUND_MS:.0} ms) | violations | p50 | p99 | max |\n\
         |---|---|---|---|---|"
    );
    for measured in all {
        let [half, most, longest] = [50, 99, 100].map(|percent| measured.latencies.percentile(percent));
        text += &format!(
            "\n| {}{} | {} | {half:.1} ms | {most:.1} ms | {longest:.1} ms |",
            measured.kernel,
            if measured.icount { ", an instruction a ns" } else { "" },
            measured.latencies.0.len()
        );
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(violations: u64, planted: u64) -> String {
        let line = |n: u64| format!("attach-imbalance {} {}\n", n * 1_000_000, n * 1_000_000 + n * 10_000);
        let lines: String = (1..=violations).map(line).collect();
        format!("{lines}{{\"kernel\":\"6.12\",\"planted\":{planted}}}\n")
    }

    #[test]
    fn the_slowest_hundredth_is_told() {
        let measured = Measured::of(&output(200, 200), false).expect("all is told");
        assert_eq!([50, 99, 100].map(|percent| measured.latencies.percentile(percent)), [1.0, 1.98, 2.0]);
        assert!(table(&[measured]).contains("| 6.12 | 200 | 1.0 ms | 2.0 ms | 2.0 ms |"));
    }

    #[test]
    fn a_violation_that_was_not_told_is_no_measure() {
        assert!(Measured::of(&output(200, 201), true).is_err());
        assert!(Measured::of(&output(199, 199), true).is_err(), "too few");
    }
}
