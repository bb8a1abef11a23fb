//! The static release build of iommu-watch: what ships, and what the guests run.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::paths;

pub const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The cargo command that makes it.
pub fn command() -> Command {
    let mut cargo = Command::new("cargo");
    cargo
        .current_dir(paths::workspace())
        .args(["build", "--locked", "--release", "--package", "monitor", "--target", TARGET])
        // glibc's static libraries come with libc6-dev: no musl is needed.
        .env("RUSTFLAGS", "-C target-feature=+crt-static");
    cargo
}

/// Where it is then.
pub fn binary() -> PathBuf {
    paths::target_dir().join(TARGET).join("release/iommu-watch")
}

/// Builds it.
pub fn iommu_watch() -> Result<PathBuf> {
    let status = command().status().context("can't run cargo")?;
    ensure!(status.success(), "the build of iommu-watch failed");
    Ok(binary())
}
