//! `cargo xtask docs`: the pages and rules that come out of the product's own lists.
//!
//! They are written by a program of their own, `pages`, since it takes the product to write them: what has to
//! be there before the product can be built must not need it.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::paths;

#[derive(clap::Args)]
pub struct Arguments {
    /// Write nothing; fail where a page is not what it should be
    #[arg(long)]
    check: bool,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let status = command(arguments.check).status().context("can't run cargo")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The cargo command that writes man pages and completions below the root of a package.
pub fn manual(root: &Path) -> Command {
    let mut cargo = command(false);
    cargo.arg("--manual").arg(root);
    cargo
}

/// The cargo command that writes them, or looks whether they are stale.
pub fn command(check: bool) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(paths::workspace()).args(["run", "--quiet", "--locked", "--package", "pages", "--"]);
    if check {
        cargo.arg("--check");
    }
    cargo
}
