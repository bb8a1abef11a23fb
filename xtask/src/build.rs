//! The static release build of iommu-watch: what ships, and what the guests run.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

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

/// The same while other things are done: linking it takes one processor two minutes. Who runs the command waits for it.
pub struct Ahead(Child);

impl Ahead {
    pub fn start() -> Result<Self> {
        let (stdin, stdout, stderr) = (Stdio::null(), Stdio::null(), Stdio::null());
        let child = command().stdin(stdin).stdout(stdout).stderr(stderr).spawn();
        child.map(Self).context("can't run cargo")
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        // It may have ended long ago.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
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
