//! Attaches the programs of some hooks and no others, for the bench: `attach HOOK…`, or `attach all`, or as the
//! product does it with that option, `attach all --no-submission-returns`. Says `attached`; for each line on its input how often each program ran, and how long; ends when that ends.

use std::io::BufRead;
use std::process::ExitCode;
use std::sync::OnceLock;

use monitor::kernel::probes::{self, Means, Plan};
use monitor::kernel::sysfs::Sysfs;
use monitor_ebpf::wire::Hook;

static WANTED: OnceLock<Vec<String>> = OnceLock::new();

fn wanted(hook: Hook) -> bool {
    WANTED.get().is_some_and(|names| names.iter().any(|name| name == hook.name() || name == "all"))
}

fn main() -> ExitCode {
    let _ = WANTED.set(std::env::args().skip(1).collect());
    let plan = Plan {
        wanted,
        means: Means::Best,
        drivers: Sysfs::default().drivers(),
        demanded: Hook::ALL
            .iter()
            .copied()
            .filter(|hook| std::env::args().any(|name| name == hook.name()))
            .collect(),
        submission_returns: !std::env::args().any(|word| word == "--no-submission-returns"),
        flush_slow: probes::SLOW,
        log_level: aya_log::Level::Warn,
        advisories: None,
    };
    let probes = match probes::attach(&plan) {
        Ok(probes) => probes,
        Err(error) => {
            eprintln!("attach: {error}");
            return ExitCode::FAILURE;
        }
    };
    println!("attached");
    for _ in std::io::stdin().lock().lines() {
        for (program, runs, time) in probes.run_times() {
            println!("{program} {runs} {}", time.as_nanos());
        }
        println!("told");
    }
    ExitCode::SUCCESS
}
