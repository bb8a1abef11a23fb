//! `cargo xtask bench`: the measures of the README. There are no peers to set beside: no other program
//! that we know of rebuilds the state of the IOMMU from events.

mod detection;
mod guest;
mod hot_path;
mod idle;
mod one_shot;
mod storm;

use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};
use testbed::{Series, Vm};

use crate::{build, ebpf, paths};

/// All of the newest kernel's hooks, with violations.
const STORM: &str = "monitor/tests/recordings/golden/7.iwrec";

/// TCG on a busy machine is slow.
const LIMIT: Duration = Duration::from_secs(300);

#[derive(clap::Args)]
pub struct Arguments {
    /// The numbers as JSON
    #[arg(long)]
    json: bool,
    /// Instead: boot kernels in QEMU, and measure there what can be measured on a real kernel only
    #[arg(long)]
    vm: bool,
    /// Only these; without --vm: replay-day or scrapes, and not what else is measured here
    #[arg(long, value_name = "NAME")]
    only: Vec<Measure>,
    /// Only on this kernel, which has PASIDs: 6.12 or 7
    #[arg(long, value_name = "SERIES", requires = "vm")]
    kernel: Vec<Series>,
}

/// What is measured by itself.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Measure {
    /// A day of a host of a fleet, as fast as it goes: whether memory grows
    ReplayDay,
    /// What 8 clients that scrape take from the watching, and how long they wait
    Scrapes,
    /// What reading a real group's state costs
    Readings,
    /// How long the one-shot takes where there are 64 groups
    OneShot,
    /// What the daemon takes on a host at rest, where time counts instructions
    Idle,
    /// What is added to an invalidation, in instructions
    Submissions,
    /// How long it takes from the event to the JSON line
    Detection,
    /// The same where time counts instructions: on every machine, busy or not, alike
    DetectionIcount,
    /// Whether a million invalidations are counted, and what the daemon takes for it
    Storm,
    /// The same where time counts instructions, on one processor
    StormIcount,
}

impl Measure {
    const IN_GUESTS: [Measure; 8] = [
        Measure::Readings,
        Measure::OneShot,
        Measure::Idle,
        Measure::Submissions,
        Measure::Detection,
        Measure::DetectionIcount,
        Measure::Storm,
        Measure::StormIcount,
    ];

    fn name(self) -> &'static str {
        match self {
            Measure::ReplayDay => "replay-day",
            Measure::Scrapes => "scrapes",
            Measure::Readings => "readings",
            Measure::OneShot => "one-shot",
            Measure::Idle => "idle",
            Measure::Submissions => "submissions",
            Measure::Detection => "detection",
            Measure::DetectionIcount => "detection-icount",
            Measure::Storm => "storm",
            Measure::StormIcount => "storm-icount",
        }
    }

    /// The numbers, and a table.
    fn run(self, kernels: &[Series]) -> Result<(Value, String)> {
        match self {
            Measure::ReplayDay | Measure::Scrapes => bail!("`{}` needs no guest", self.name()),
            Measure::Readings => readings(kernels),
            Measure::OneShot => one_shot::measure(kernels),
            Measure::Idle => idle::measure(kernels),
            Measure::Submissions => hot_path::measure(kernels),
            Measure::Detection => detection::measure(kernels, false),
            Measure::DetectionIcount => detection::measure(kernels, true),
            Measure::Storm => storm::measure(kernels, false),
            Measure::StormIcount => storm::measure(kernels, true),
        }
    }
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    if arguments.vm {
        return on_kernels(arguments);
    }
    if arguments.only.is_empty() {
        return pipeline(&[], arguments.json);
    }
    for measure in &arguments.only {
        let code = match measure {
            Measure::ReplayDay => pipeline(&["--replay-day"], arguments.json)?,
            Measure::Scrapes => scrapes(arguments.json)?,
            other => bail!("`{}` is measured in guests: --vm", other.name()),
        };
        if code != ExitCode::SUCCESS {
            return Ok(code);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A recording that is replayed over and over, and served to clients meanwhile.
fn scrapes(json: bool) -> Result<ExitCode> {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(paths::workspace()).args(["run", "--quiet", "--locked", "--release", "--package"]);
    cargo.args(["monitor", "--example", "serve", "--", STORM, "--cost"]);
    if json {
        cargo.arg("--json");
    }
    let status = cargo.status().context("can't run cargo")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What can be measured on a real kernel only. On the kernels that have PASIDs.
fn on_kernels(arguments: &Arguments) -> Result<ExitCode> {
    let all =
        |chosen: &[Series]| if chosen.is_empty() { vec![Series::V6_12, Series::V7] } else { chosen.into() };
    let kernels: Vec<Series> = all(&arguments.kernel);
    let mut numbers = Map::new();
    for measure in arguments.only.iter().copied().filter(|measure| !Measure::IN_GUESTS.contains(measure)) {
        measure.run(&kernels)?;
    }
    for measure in Measure::IN_GUESTS {
        if !arguments.only.is_empty() && !arguments.only.contains(&measure) {
            continue;
        }
        let (found, table) = measure.run(&kernels)?;
        numbers.insert(measure.name().into(), found);
        if !arguments.json {
            println!("{table}");
        }
    }
    if arguments.json {
        println!("{:#}", Value::Object(numbers));
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
        let vm = Vm::new(series).add(&iommu_watch, "/bin/iommu-watch").timeout(LIMIT);
        results.push(guest::told(&guest::output(vm, series, "reading.sh")?)?);
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
fn pipeline(arguments: &[&str], json: bool) -> Result<ExitCode> {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(paths::workspace()).args([
        "run",
        "--release",
        "--locked",
        "--package",
        "monitor",
        "--example",
        "pipeline",
        "--",
    ]);
    cargo.args(arguments);
    // As the daemon has it on a big host.
    cargo.env("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1");
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
        "run",
        "--locked",
        "--package",
        "monitor",
        "--example",
        "pipeline",
        "--",
        "--smoke",
    ]);
    cargo
}
