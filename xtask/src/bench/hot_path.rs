//! What the programs on VT-d's invalidation queue add to a submission, in instructions: in a guest whose time counts
//! them (`-icount`), so that the numbers are the same on every machine.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testbed::bpftrace::Bpftrace;
use testbed::cache::Cache;
use testbed::{Series, Vm};

use super::guest;
use crate::{build, ebpf, paths};

/// The programs are verified and attached several times, on one emulated processor.
const LIMIT: Duration = Duration::from_secs(900);

/// What was allowed, as multiples of what an empty program of the same type adds.
const BOUNDS: [(&str, f64); 3] = [("ours", 1.3), ("all", 2.5), ("window", 6.0)];

/// What was measured on one kernel.
struct Measured {
    kernel: String,
    /// Instructions that each adds to a submission of one descriptor.
    empty: f64,
    ours: f64,
    all: f64,
    /// All but the return of `qi_submit_sync`: `--no-submission-returns`.
    without_returns: f64,
    window: f64,
    /// bpftrace, counting by type: at the tracepoint, and at it as a raw one.
    bpftrace: f64,
    bpftrace_raw: f64,
    empty_exit: f64,
    exit: f64,
    /// What all programs together add to a map and an unmap that flush nothing.
    map: f64,
}

/// Measures on the kernels, and gives the numbers and the lines of a table.
pub fn measure(kernels: &[Series]) -> Result<(Value, String)> {
    ebpf::build()?;
    let attach = attach()?;
    let bpftrace = Bpftrace::fetch(&Cache::open()?)?;
    let mut all = Vec::new();
    for &series in kernels {
        eprintln!("bench: instructions of a submission on {series}");
        let mut vm = Vm::new(series).icount(true).test_module("pasidcap").test_module("caller");
        vm = vm.add(&attach, "/bin/attach").timeout(LIMIT);
        for (file, inside) in bpftrace.files()? {
            vm = vm.add(file, inside);
        }
        all.push(Measured::of(&guest::told(&guest::output(vm, series, "hotpath.sh")?)?)?);
    }
    Ok((all.iter().map(Measured::json).collect(), table(&all)))
}

/// The program that attaches some hooks and no others.
fn attach() -> Result<std::path::PathBuf> {
    let mut cargo: Command = build::command();
    let status = cargo.args(["--example", "attach"]).status().context("can't run cargo")?;
    ensure!(status.success(), "the build of the example `attach` failed");
    Ok(paths::target_dir().join(build::TARGET).join("release/examples/attach"))
}

impl Measured {
    fn of(told: &Value) -> Result<Measured> {
        let number = |name: &str| told[name].as_f64().with_context(|| format!("the guest told no `{name}`"));
        let none = number("none")?;
        let adds = |name: &str| number(name).map(|total| total - none);
        let empty = adds("empty")?;
        // In a window the programs' run time is all that can be told: beside it each costs what the empty one does.
        let outside = number("outside_ns")? / number("outside_runs")?;
        let window = number("window_ns")? / number("window_runs")?;
        let ours = adds("ours")?;
        Ok(Measured {
            kernel: told["kernel"].as_str().unwrap_or("?").to_owned(),
            empty,
            ours,
            all: adds("all")?,
            without_returns: adds("without_returns")?,
            bpftrace: adds("bpftrace")?,
            bpftrace_raw: adds("bpftrace_raw")?,
            window: ours + window - outside,
            empty_exit: adds("empty_exit")?,
            exit: adds("ours_exit")?,
            map: number("all_map")? - number("none_map")?,
        })
    }

    /// In multiples of the empty program.
    fn times(&self, instructions: f64) -> f64 {
        instructions / self.empty
    }

    fn json(&self) -> Value {
        json!({
            "kernel": self.kernel,
            "program_type": "tp_btf",
            "empty": self.empty,
            "ours": self.ours,
            "all": self.all,
            "window": self.window,
            "without_returns": self.without_returns,
            "bpftrace": self.bpftrace,
            "bpftrace_raw": self.bpftrace_raw,
            "empty_fexit": self.empty_exit,
            "fexit": self.exit,
            "map": self.map,
            "bounds": BOUNDS.map(|(name, bound)| json!({"what": name, "times_empty": bound})),
        })
    }
}

fn table(all: &[Measured]) -> String {
    let mut text = String::from("| added to a submission of one descriptor, instructions | bound |");
    all.iter().for_each(|measured| text += &format!(" {} |", measured.kernel));
    text += "\n|---|---|";
    all.iter().for_each(|_| text += "---|");
    let mut row = |what: &str, bound: &str, cell: &dyn Fn(&Measured) -> String| {
        text += &format!("\n| {what} | {bound} |");
        all.iter().for_each(|measured| text += &format!(" {} |", cell(measured)));
    };
    let times = |measured: &Measured, value: f64| format!("{value:.0} ({:.2} ×)", measured.times(value));
    row("an empty program (tp_btf on `qi_submit`)", "", &|m| format!("{:.0}", m.empty));
    row("ours, outside every window", "1.3 ×", &|m| times(m, m.ours));
    row("bpftrace, `tracepoint:intel_iommu:qi_submit { @[args.qw0 & 0xf] = count() }`", "", &|m| {
        times(m, m.bpftrace)
    });
    row("bpftrace, `rawtracepoint:qi_submit { @[arg1 & 0xf] = count() }`", "", &|m| times(m, m.bpftrace_raw));
    row("ours, in a window", "6 ×", &|m| times(m, m.window));
    row("all that are attached by default", "2.5 ×", &|m| times(m, m.all));
    row("all of them with `--no-submission-returns`", "2.5 ×", &|m| times(m, m.without_returns));
    row("of all: an empty fexit on `qi_submit_sync`", "", &|m| times(m, m.empty_exit));
    row("of all: ours there", "", &|m| times(m, m.exit));
    row("a map and an unmap that flush nothing", "0", &|m| format!("{:.0}", m.map));
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_is_told_in_multiples_of_the_empty_program() {
        let told = json!({
            "kernel": "6.12", "none": 5000, "empty": 5080, "ours": 5100, "all": 5300, "empty_exit": 5180,
            "ours_exit": 5200, "none_map": 900, "all_map": 900, "outside_runs": 10, "outside_ns": 500,
            "window_runs": 10, "window_ns": 3500, "without_returns": 5101, "bpftrace": 5900, "bpftrace_raw": 5500,
        });
        let measured = Measured::of(&told).expect("all is told");
        assert_eq!((measured.empty, measured.ours, measured.window), (80.0, 100.0, 400.0));
        let table = table(&[measured]);
        assert!(table.contains("| ours, outside every window | 1.3 × | 100 (1.25 ×) |"), "{table}");
        assert!(table.contains("| ours, in a window | 6 × | 400 (5.00 ×) |"), "{table}");
        assert!(Measured::of(&json!({"none": 1})).is_err());
    }
}
