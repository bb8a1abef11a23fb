//! `cargo xtask test`: everything that CI runs, as one list of steps.

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Result, bail};
use testbed::{Series, matrix, scenario};

use crate::log::{self, Log};
use crate::{bench, browser, build, dashboards, docs, ebpf, packaging, paths, proof, setup};

#[derive(clap::Args)]
pub struct Arguments {
    /// Run only these steps
    #[arg(value_name = "STEP")]
    steps: Vec<String>,
    /// Name the steps, and run none
    #[arg(long)]
    list: bool,
    /// In the VM matrix, only this scenario, or one that is run on demand alone
    #[arg(long, value_name = "NAME")]
    scenario: Vec<String>,
    /// In the VM matrix, only this kernel
    #[arg(long, value_name = "SERIES")]
    kernel: Vec<Series>,
    /// Write docs/proof.md from what the VM matrix shows, instead of holding the two together
    #[arg(long, conflicts_with_all = ["scenario", "kernel"])]
    write_proof: bool,
    /// Write docs/faults.md and docs/lacking.md from what the scenarios `faults` and `hooks` show
    #[arg(long)]
    write_faults: bool,
}

/// One row of the list.
struct Step {
    name: &'static str,
    title: &'static str,
    run: fn(&Arguments, &Log) -> Result<Tally>,
}

const STEPS: &[Step] = &[
    Step { name: "setup", title: "what the machine must have", run: set_up },
    Step { name: "fmt", title: "formatting", run: fmt },
    Step { name: "ebpf", title: "the eBPF object", run: build_ebpf },
    Step { name: "clippy", title: "lints", run: clippy },
    Step { name: "unit", title: "tests on the host", run: unit_tests },
    Step { name: "bench", title: "the benchmark on a small host, for what it asserts", run: bench_smoke },
    Step { name: "docs", title: "pages and rules that are written from the code", run: pages },
    Step { name: "licences", title: "licences and bans", run: licences },
    Step { name: "service", title: "what the systemd unit leaves open", run: service },
    Step { name: "static", title: "the static release build", run: static_build },
    Step { name: "package", title: "the Debian package, installed, upgraded and purged", run: package },
    Step { name: "manifests", title: "the container's files against Kubernetes' schemas", run: manifests },
    Step { name: "vm", title: "scenarios on real kernels", run: scenarios },
    Step { name: "rules", title: "Prometheus rules", run: rules },
    Step { name: "grafana", title: "the dashboards against Grafana's types", run: grafana },
    Step {
        name: "prometheus",
        title: "rules and dashboards on a Prometheus that scrapes a daemon",
        run: prometheus,
    },
    Step { name: "browser", title: "the status page in a headless Chromium", run: status_page },
];

/// How many guests run side by side.
const GUESTS: usize = 2;

/// What a step counts.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    passed: usize,
    failed: usize,
    skipped: Option<&'static str>,
}

impl Tally {
    const PASSED: Self = Self { passed: 1, failed: 0, skipped: None };
    const FAILED: Self = Self { passed: 0, failed: 1, skipped: None };

    pub fn skipped(why: &'static str) -> Self {
        Self { skipped: Some(why), ..Self::default() }
    }

    pub fn of(ok: bool) -> Self {
        if ok { Self::PASSED } else { Self::FAILED }
    }

    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// The exit code where what was asked for does not exist, as for any other wrong argument.
const MISUSED: u8 = 2;

/// Runs the steps; the last line is `N passed, N failed`.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    if arguments.list {
        for step in STEPS {
            println!("{:<10} {}", step.name, step.title);
        }
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(wrong) = unknown_step(arguments).or_else(|| unmatched(arguments)) {
        eprintln!("error: {wrong}");
        return Ok(ExitCode::from(MISUSED));
    }
    let chosen: Vec<&Step> = STEPS
        .iter()
        .filter(|step| arguments.steps.is_empty() || arguments.steps.iter().any(|name| name == step.name))
        .collect();
    let mut total = Tally::default();
    let start = Instant::now();
    for (number, step) in chosen.iter().enumerate() {
        println!("[{}/{}] {}: {} …", number + 1, chosen.len(), step.name, step.title);
        total.add(step.run(arguments)?);
    }
    println!("all steps: {:.0} s", start.elapsed().as_secs_f64());
    println!("{} passed, {} failed", total.passed, total.failed);
    Ok(if total.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What of the steps that were asked for there is not.
fn unknown_step(arguments: &Arguments) -> Option<String> {
    let unknown = arguments.steps.iter().find(|name| !STEPS.iter().any(|step| step.name == **name))?;
    let names: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
    Some(format!("no step `{unknown}`; there are {}", names.join(", ")))
}

/// Which scenario that was asked for has no row on the kernels that were: nothing would run, and nothing fail.
fn unmatched(arguments: &Arguments) -> Option<String> {
    let kernels = arguments.kernels();
    let names = |series: &[Series]| series.iter().map(|series| series.name()).collect::<Vec<_>>().join(", ");
    arguments.scenario.iter().find_map(|name| match scenario::every().find(|row| row.name == name) {
        None => {
            let all: Vec<&str> = scenario::every().map(|row| row.name).collect();
            Some(format!("no scenario `{name}`; there are {}", all.join(", ")))
        }
        Some(row) if row.kernels.iter().any(|series| kernels.contains(series)) => None,
        Some(row) => Some(format!(
            "no scenario `{name}` on kernel {}; there is one on {}",
            names(kernels),
            names(row.kernels)
        )),
    })
}

impl Arguments {
    /// The kernels of the VM matrix.
    fn kernels(&self) -> &[Series] {
        if self.kernel.is_empty() { &Series::ALL } else { &self.kernel }
    }
}

impl Step {
    fn run(&self, arguments: &Arguments) -> Result<Tally> {
        let log = Log::new(self.name)?;
        let start = Instant::now();
        let tally = (self.run)(arguments, &log).unwrap_or_else(|error| {
            println!("      {error:#}");
            Tally::FAILED
        });
        let seconds = start.elapsed().as_secs_f64();
        match tally {
            Tally { skipped: Some(why), .. } => println!("      skipped: {why}"),
            Tally { failed: 0, passed, .. } => println!("      ok: {passed} passed, {seconds:.1} s"),
            Tally { failed, passed, .. } => {
                log.show();
                println!("      FAILED: {passed} passed, {failed} failed, {seconds:.1} s");
                println!("      log: {}", log.path.display());
            }
        }
        Ok(tally)
    }
}

fn set_up(_: &Arguments, _: &Log) -> Result<Tally> {
    setup::ensure_all().map(|()| Tally::PASSED)
}

fn fmt(_: &Arguments, log: &Log) -> Result<Tally> {
    log.run(&mut cargo(&["fmt", "--all", "--check", "--", "--color=never"])).map(Tally::of)
}

fn build_ebpf(_: &Arguments, log: &Log) -> Result<Tally> {
    log.run(&mut ebpf::command()?)
        .and_then(|ok| if ok { ebpf::install().map(|_| Tally::PASSED) } else { Ok(Tally::FAILED) })
}

fn clippy(_: &Arguments, log: &Log) -> Result<Tally> {
    let arguments = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
    log.run(&mut cargo(&arguments)).map(Tally::of)
}

fn unit_tests(_: &Arguments, log: &Log) -> Result<Tally> {
    let nextest = setup::runs(Command::new("cargo").args(["nextest", "--version"]));
    let runs: &[&[&str]] = if nextest {
        // nextest doesn't know the examples in the documentation.
        &[
            &["nextest", "run", "--workspace", "--locked", "--no-fail-fast"],
            &["test", "--workspace", "--locked", "--doc"],
        ]
    } else {
        &[&["test", "--workspace", "--locked", "--no-fail-fast"]]
    };
    let mut tally = Tally::default();
    for arguments in runs {
        let ok = log.run(&mut cargo(arguments))?;
        let mut counted = counts(&log.last_output()?);
        // What didn't even compile has no test that failed.
        if !ok && counted.failed == 0 {
            counted.failed = 1;
        }
        tally.add(counted);
    }
    Ok(tally)
}

/// Adds up the results in the output of `cargo test` or `cargo nextest run`.
fn counts(output: &str) -> Tally {
    let mut tally = Tally::default();
    for line in output.lines().filter(|line| line.starts_with("test result:") || line.contains(" run: ")) {
        let words: Vec<&str> = line.split([' ', ',', ';']).filter(|word| !word.is_empty()).collect();
        for pair in words.windows(2) {
            let number = pair[0].parse().unwrap_or(0);
            match pair[1] {
                "passed" => tally.passed += number,
                "failed" | "timed" => tally.failed += number,
                _ => {}
            }
        }
    }
    tally
}

fn bench_smoke(_: &Arguments, log: &Log) -> Result<Tally> {
    log.run(&mut bench::smoke()).map(Tally::of)
}

fn licences(_: &Arguments, log: &Log) -> Result<Tally> {
    if !setup::runs(Command::new("cargo").args(["deny", "--version"])) {
        return Ok(Tally::skipped("cargo-deny is not installed"));
    }
    log.run(&mut cargo(&["deny", "--locked", "check", "licenses", "bans"])).map(Tally::of)
}

fn service(_: &Arguments, log: &Log) -> Result<Tally> {
    packaging::service(log)
}

fn package(_: &Arguments, log: &Log) -> Result<Tally> {
    packaging::package(log)
}

fn manifests(_: &Arguments, log: &Log) -> Result<Tally> {
    packaging::manifests(log)
}

fn static_build(_: &Arguments, log: &Log) -> Result<Tally> {
    log.run(&mut build::command()).map(Tally::of)
}

fn scenarios(arguments: &Arguments, log: &Log) -> Result<Tally> {
    let iommu_watch = build::binary();
    if !iommu_watch.is_file() {
        bail!("{} is missing: the step `static` builds it", iommu_watch.display());
    }
    let artefacts = paths::artefacts();
    let scenarios = scenario::chosen(&arguments.scenario);
    let package = match scenarios.iter().any(|scenario| scenario.setting.debian) {
        true => packaging::debian(log)?,
        false => PathBuf::new(),
    };
    let options = matrix::Options {
        iommu_watch: &iommu_watch,
        package: &package,
        artefacts: &artefacts,
        kernels: arguments.kernels(),
        guests: GUESTS,
    };
    let (verdicts, mut proofs) = matrix::run(&scenarios, &options, &tell);
    let failed = verdicts.iter().filter(|verdict| verdict.result.is_err()).count();
    let mut tally = Tally { passed: verdicts.len() - failed, failed, skipped: None };
    for right in proof::broken(&proofs, arguments.write_faults)? {
        tally.add(Tally::of(right));
    }
    // What only a part of the matrix shows is no page.
    if failed == 0 && arguments.scenario.is_empty() && arguments.kernel.is_empty() {
        match proof::settle(&mut proofs, &iommu_watch, arguments.write_proof)? {
            Some(right) => tally.add(Tally::of(right)),
            None => println!("      there is no docs/proof.md yet: cargo xtask test vm --write-proof"),
        }
    }
    Ok(tally)
}

fn tell(verdict: &matrix::Verdict) {
    let matrix::Verdict { scenario, series, result, again, seconds, log } = verdict;
    match result {
        Err(why) if *again => {
            println!("      LOST {series:<5} {scenario}, once more: {}", why.replace('\n', "; "));
        }
        Ok(()) => println!("      ok   {series:<5} {scenario}, {} s", seconds.unwrap_or_default()),
        Err(why) => {
            println!("      FAIL {series:<5} {scenario}: {why}");
            for line in log::tail(log, 15) {
                println!("           | {line}");
            }
            println!("           {}", log.display());
        }
    }
}

fn pages(_: &Arguments, log: &Log) -> Result<Tally> {
    log.run(&mut docs::command(true)).map(Tally::of)
}

fn rules(_: &Arguments, log: &Log) -> Result<Tally> {
    dashboards::rules(log)
}

fn grafana(_: &Arguments, log: &Log) -> Result<Tally> {
    dashboards::schema(log)
}

fn status_page(_: &Arguments, log: &Log) -> Result<Tally> {
    browser::run(log)
}

fn prometheus(_: &Arguments, log: &Log) -> Result<Tally> {
    dashboards::live(log)
}

fn cargo(arguments: &[&str]) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(paths::workspace()).args(arguments);
    cargo
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(passed: usize, failed: usize) -> Tally {
        Tally { passed, failed, skipped: None }
    }

    fn asked(scenarios: &[&str], kernels: &[Series]) -> Option<String> {
        let scenario = scenarios.iter().map(ToString::to_string).collect();
        unmatched(&Arguments {
            steps: Vec::new(),
            list: false,
            scenario,
            kernel: kernels.to_vec(),
            write_proof: false,
            write_faults: false,
        })
    }

    #[test]
    fn a_scenario_that_would_run_nowhere_is_refused_by_name() {
        assert_eq!(asked(&[], &[Series::V6_1]), None);
        assert_eq!(asked(&["doctor", "group"], &[]), None);
        assert_eq!(asked(&["group"], &[Series::V6_1, Series::V7]), None);
        let unknown = asked(&["doctor", "docter"], &[]).unwrap();
        assert!(unknown.starts_with("no scenario `docter`; there are doctor, commands, "), "{unknown}");
        assert_eq!(
            asked(&["doctor", "group"], &[Series::V6_1]).unwrap(),
            "no scenario `group` on kernel 6.1; there is one on 6.12, 7"
        );
    }

    #[test]
    fn results_of_several_test_programs_are_added_up() {
        let output = "running 3 tests\n\
             test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
             test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out\n";
        assert_eq!(counts(output), tally(7, 2));
    }

    #[test]
    fn the_summary_of_nextest_is_read() {
        let output =
            "     Summary [   1.234s] 30 tests run: 27 passed (1 slow), 2 failed, 1 timed out, 4 skipped\n";
        assert_eq!(counts(output), tally(27, 3));
        assert_eq!(counts("     Summary [   0.1s] 1 test run: 1 passed, 0 skipped\n"), tally(1, 0));
    }

    #[test]
    fn a_test_that_prints_such_words_is_not_counted() {
        assert_eq!(counts("7 passed, 3 failed\n"), tally(0, 0));
    }
}
