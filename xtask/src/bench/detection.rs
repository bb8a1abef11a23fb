//! How long a violation takes from its event in the kernel to its JSON line, in a guest: as it is emulated here, two
//! processors, which tells of this machine's load as well; and where time counts instructions, one processor that does
//! one in a nanosecond, which tells the same on every machine.

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
    /// While nothing else happened, and while another task kept the invalidation queue busy.
    quiet: Latencies,
    busy: Latencies,
}

/// Measures on the kernels, and gives the numbers and the lines of a table.
pub fn measure(kernels: &[Series]) -> Result<(Value, String)> {
    ebpf::build()?;
    let iommu_watch = build::iommu_watch()?;
    let mut all = Vec::new();
    for (&series, icount) in kernels.iter().flat_map(|series| [(series, false), (series, true)]) {
        eprintln!(
            "bench: from events to lines on {series}{}",
            if icount { ", counting instructions" } else { "" }
        );
        let vm = ["pasidcap", "saboteur", "caller"].into_iter().fold(Vm::new(series), Vm::test_module);
        let vm = vm.add(&iommu_watch, "/bin/iommu-watch").icount(icount).timeout(LIMIT);
        let output = guest::output(vm, series, "detection.sh")?;
        all.push(Measured::of(&output, icount)?);
    }
    Ok((all.iter().map(Measured::json).collect(), table(&all)))
}

impl Measured {
    /// Lines `CHECK EVENT READ`, and at last what was planted, and from when on the queue was busy.
    fn of(output: &str, icount: bool) -> Result<Measured> {
        let told = guest::told(output)?;
        let number = |name: &str| told[name].as_u64().with_context(|| format!("the guest told no `{name}`"));
        let (planted, busy_from) = (number("planted")?, number("busy_from")?);
        let (mut quiet, mut busy) = (Vec::new(), Vec::new());
        for line in output.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [_, event, read] = words.as_slice() else { continue };
            let (Ok(event), Ok(read)) = (event.parse::<u64>(), read.parse::<u64>()) else { continue };
            let kind = if event < busy_from { &mut quiet } else { &mut busy };
            kind.push(read.saturating_sub(event) as f64 / 1e6);
        }
        let found = quiet.len() + busy.len();
        ensure!(found as u64 == planted, "{planted} violations were planted, and {found} told");
        let kernel = told["kernel"].as_str().unwrap_or("?").to_owned();
        Ok(Measured { kernel, icount, quiet: Latencies::new(quiet)?, busy: Latencies::new(busy)? })
    }

    fn json(&self) -> Value {
        json!({
            "kernel": self.kernel,
            "icount": self.icount,
            "quiet": self.quiet.json(),
            "busy": self.busy.json(),
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

    fn json(&self) -> Value {
        json!({
            "violations": self.0.len(),
            "p50_ms": self.percentile(50),
            "p99_ms": self.percentile(99),
            "max_ms": self.percentile(100),
        })
    }
}

fn table(all: &[Measured]) -> String {
    let mut text = format!(
        "| from the event to its JSON line (p99: at most {BOUND_MS:.0} ms) | violations | p50 | p99 | max |\n\
         |---|---|---|---|---|"
    );
    for measured in all {
        for (what, of) in [("at rest", &measured.quiet), ("the queue busy", &measured.busy)] {
            let [half, most, longest] = [50, 99, 100].map(|percent| of.percentile(percent));
            text += &format!(
                "\n| {}{}, {what} | {} | {half:.1} ms | {most:.1} ms | {longest:.1} ms |",
                measured.kernel,
                if measured.icount { " (-icount)" } else { "" },
                of.0.len()
            );
        }
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(violations: u64, planted: u64) -> String {
        let line = |n: u64| format!("attach-imbalance {} {}\n", n * 1_000_000, n * 1_000_000 + n * 10_000);
        let lines: String = (1..=violations).map(line).collect();
        format!("{lines}{{\"kernel\":\"6.12\",\"planted\":{planted},\"busy_from\":200500000}}\n")
    }

    #[test]
    fn the_slowest_hundredth_is_told() {
        let measured = Measured::of(&output(400, 400), true).expect("all is told");
        assert_eq!(measured.quiet.percentile(50), 1.0);
        assert_eq!(measured.quiet.percentile(99), 1.98);
        assert_eq!(measured.quiet.percentile(100), 2.0);
        assert_eq!(measured.busy.percentile(100), 4.0);
        assert!(table(&[measured]).contains("| 6.12 (-icount), at rest | 200 | 1.0 ms | 2.0 ms | 2.0 ms |"));
    }

    #[test]
    fn a_violation_that_was_not_told_is_no_measure() {
        assert!(Measured::of(&output(400, 401), false).is_err());
        assert!(Measured::of(&output(300, 300), false).is_err(), "too few of one kind");
    }
}
