//! promtool over the rules, over their tests, and over the metrics of recordings.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use testbed::cache::Cache;
use testbed::prometheus;

use super::{directory, files};
use crate::log::Log;
use crate::paths;
use crate::setup;
use crate::test::Tally;

/// Rules are files with `groups:`, their tests files with `rule_files:`.
pub fn run(log: &Log) -> Result<Tally> {
    let (rules, tests) = (rule_files(), with("rule_files:"));
    if rules.is_empty() {
        return Ok(Tally::skipped("there are no rules"));
    }
    let promtool: PathBuf = match setup::runs(Command::new("promtool").arg("--version")) {
        true => "promtool".into(),
        false => prometheus::promtool(&Cache::open()?)?,
    };
    let mut tally = Tally::default();
    for (what, files) in [("check", rules), ("test", tests)] {
        for file in files {
            let mut promtool = Command::new(&promtool);
            tally.add(log.run(promtool.args([what, "rules"]).arg(file)).map(Tally::of)?);
        }
    }
    for recording in recordings() {
        tally.add(Tally::of(metrics(log, &promtool, &recording)?));
    }
    Ok(tally)
}

/// All metrics of a recording, as they are scraped, in the eyes of promtool.
fn metrics(log: &Log, promtool: &Path, recording: &Path) -> Result<bool> {
    let mut replay = Command::new("cargo");
    replay.current_dir(paths::workspace()).args(["run", "--locked", "--quiet", "--package", "monitor", "--"]);
    replay.arg("replay").arg(recording).args(["--format", "prom"]);
    let output = replay.output().context("can't run cargo")?;
    // With 1 it tells of violations, of which the recordings are full.
    ensure!(matches!(output.status.code(), Some(0 | 1)), "{}", String::from_utf8_lossy(&output.stderr));
    let scrape = log.path.with_extension("prom");
    fs::write(&scrape, &output.stdout).context("can't write the metrics")?;
    // It reads its input alone.
    let check = "exec \"$0\" check metrics <\"$1\"";
    log.run(Command::new("sh").args(["-c", check]).arg(promtool).arg(&scrape))
}

fn recordings() -> Vec<PathBuf> {
    let recordings = files(&paths::workspace().join("monitor/tests/recordings/golden"), "iwrec");
    assert!(!recordings.is_empty(), "there are no recordings");
    recordings
}

pub fn rule_files() -> Vec<PathBuf> {
    with("groups:")
}

fn with(key: &str) -> Vec<PathBuf> {
    let has_key = |text: String| text.lines().any(|line| line.starts_with(key));
    let mut files = files(&directory(), "yml");
    files.retain(|file| fs::read_to_string(file).is_ok_and(has_key));
    files
}
