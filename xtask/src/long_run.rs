//! `cargo xtask long-run`: everything at once that may be done to devices behind VT-d, for minutes, while the daemon
//! watches. Too long for `cargo xtask test`, and each run is another one.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use testbed::{Series, long_run};

use crate::{build, ebpf, paths};

#[derive(clap::Args)]
pub struct Arguments {
    /// Only on this kernel, which has PASIDs: 6.12 or 7
    #[arg(long, value_name = "SERIES")]
    kernel: Vec<Series>,
    /// How long devices are moved
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// What the movers' choices begin with; how they meet is the kernel's choice
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Succeeds only where each violation is explained, no group is unknown, and the daemon's memory is flat.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let kernels = match arguments.kernel.as_slice() {
        [] => vec![Series::V6_12, Series::V7],
        chosen => chosen.to_vec(),
    };
    ensure!(!kernels.contains(&Series::V6_1), "6.1 keeps no account of PASIDs");
    ebpf::build()?;
    let iommu_watch = build::iommu_watch()?;
    let mut failed = false;
    for series in kernels {
        let outcome = long_run::vm(series, arguments.seconds, arguments.seed)?
            .add(&iommu_watch, "/bin/iommu-watch")
            .console(paths::artefacts().join(format!("long-run-{series}.console")))
            .echo(true)
            .run()?;
        let judged = long_run::judge(series, &outcome.output);
        let mut errors = judged.errors();
        if outcome.exit != 0 {
            errors.push(format!("the script ended with {}", outcome.exit));
        }
        // By our own clock: that of a guest on a busy machine may run fast.
        if outcome.duration.as_secs() < arguments.seconds {
            errors.push(format!("it took only {} s", outcome.duration.as_secs()));
        }
        let release = outcome.release.as_deref().unwrap_or("?");
        println!(
            "\nlong-run: {release}, {} s, seed {}\n\n{}",
            arguments.seconds,
            arguments.seed,
            judged.summary()
        );
        for error in &errors {
            println!("error: {error}");
        }
        println!("long-run: {release}: {}", if errors.is_empty() { "passed" } else { "FAILED" });
        failed |= !errors.is_empty();
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
