//! What a package is made of, held against the tools that will read it.

use std::process::Command;

use anyhow::Result;

use crate::log::Log;
use crate::test::Tally;
use crate::{paths, setup};

/// How much of the system the unit may leave open, in tenths, by systemd-analyze's own reckoning.
const EXPOSURE: &str = "20";

/// Holds the unit against what systemd thinks of it, without a systemd that runs.
pub fn service(log: &Log) -> Result<Tally> {
    if !setup::runs(Command::new("systemd-analyze").arg("--version")) {
        return Ok(Tally::skipped("systemd-analyze is not installed"));
    }
    let mut analyze = Command::new("systemd-analyze");
    analyze.args(["security", "--offline=yes", "--no-pager", "--threshold", EXPOSURE]);
    log.run(analyze.arg(paths::workspace().join("packaging/iommu-watch.service"))).map(Tally::of)
}
