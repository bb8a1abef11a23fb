//! `cargo xtask bench`: the measures of the README. There are no peers to set beside: no other program
//! that we know of rebuilds the state of the IOMMU from events.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::paths;

#[derive(clap::Args)]
pub struct Arguments {
    /// The numbers as JSON
    #[arg(long)]
    json: bool,
}

/// The program that measures, as cargo builds and runs it: optimised as what ships.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
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
    if arguments.json {
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
