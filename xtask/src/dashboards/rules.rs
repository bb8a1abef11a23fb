//! promtool over the rules, and over their tests.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use testbed::cache::Cache;
use testbed::prometheus;

use super::{directory, files};
use crate::log::Log;
use crate::setup;
use crate::test::Tally;

/// Rules are files with `groups:`, their tests files with `rule_files:`.
pub fn run(log: &Log) -> Result<Tally> {
    let (rules, tests) = (rule_files(), with("rule_files:"));
    if rules.is_empty() {
        return Ok(Tally::skipped("there are no rules"));
    }
    let promtool = match setup::runs(Command::new("promtool").arg("--version")) {
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
    Ok(tally)
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
