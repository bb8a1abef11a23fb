//! `cargo xtask bench`: the measures of the README. There are no peers to set beside: no other program
//! that we know of rebuilds the state of the IOMMU from events.

mod hot_path;

use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testbed::{Script, Series, Vm};

use crate::{build, ebpf, paths};

/// TCG on a busy machine is slow.
const LIMIT: Duration = Duration::from_secs(300);

#[derive(clap::Args)]
pub struct Arguments {
    /// The numbers as JSON
    #[arg(long)]
    json: bool,
    /// Instead: boot kernels in QEMU, and measure there what reading a real group's state costs, and, in
    /// instructions, what is added to an invalidation
    #[arg(long)]
    vm: bool,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    if arguments.vm { on_kernels(arguments.json) } else { pipeline(arguments.json) }
}

/// What can be measured on a real kernel only. On the kernels that have PASIDs.
fn on_kernels(json: bool) -> Result<ExitCode> {
    const KERNELS: [Series; 2] = [Series::V6_12, Series::V7];
    let (readings, first) = readings(&KERNELS)?;
    let (submissions, second) = hot_path::measure(&KERNELS)?;
    if json {
        println!("{:#}", json!({"readings": readings, "submissions": submissions}));
    } else {
        println!("{first}\n{second}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Readings of real groups through sysfs: the numbers, and a table.
fn readings(kernels: &[Series]) -> Result<(Value, String)> {
    ebpf::build()?;
    let iommu_watch = build::iommu_watch()?;
    let mut results = Vec::new();
    for &series in kernels {
        eprintln!("bench: readings of groups on {series}");
        let outcome = Vm::new(series)
            .add(&iommu_watch, "/bin/iommu-watch")
            .script(Script::File(testbed::vm::guest_scripts().join("reading.sh")))
            .console(paths::artefacts().join(format!("bench-{series}.console")))
            .timeout(LIMIT)
            .run()?;
        ensure!(outcome.exit == 0, "the script ended with {}: {}", outcome.exit, outcome.console.display());
        let mut lines =
            outcome.output.lines().filter_map(|line| serde_json::from_str::<Value>(line.trim()).ok());
        results.push(lines.next_back().context("the guest told no numbers")?);
    }
    let mut table =
        "| kernel | groups | eBPF programs, a group | the read itself, a group |\n|---|---|---|---|"
            .to_owned();
    for result in &results {
        let micros =
            |name: &str| result[name].as_f64().map_or("?".into(), |us| format!("{:.2} ms", us / 1e3));
        let kernel = result["kernel"].as_str().unwrap_or("?");
        let [programs, read] = [micros("programs_us"), micros("read_us")];
        table += &format!("\n| {kernel} | {} | {programs} | {read} |", result["groups"]);
    }
    Ok((Value::Array(results), table + "\n"))
}

/// The program that measures, as cargo builds and runs it: optimised as what ships.
fn pipeline(json: bool) -> Result<ExitCode> {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(paths::workspace()).args([
        "bench",
        "--locked",
        "--package",
        "monitor",
        "--bench",
        "pipeline",
        "--",
    ]);
    if json {
        cargo.arg("--json");
    }
    let status = cargo.status().context("can't run cargo")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The same program on a small host, built without optimisation: it says whether it works, and no time.
pub fn smoke() -> Command {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(paths::workspace()).args([
        "test",
        "--locked",
        "--package",
        "monitor",
        "--bench",
        "pipeline",
        "--",
        "--smoke",
    ]);
    cargo
}
