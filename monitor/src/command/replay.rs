//! `replay`, and `watch` with a file: a recording through the same model and checks as the running kernel.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
};

use anyhow::{Context as _, Result, anyhow, bail};

use crate::{
    check::{CheckState, Severity},
    replay::Replay,
    watcher::Options,
};

use super::{
    Format, Global, RIGHT, WRONG,
    output::{Output, is_wrong, put, put_metrics},
};

/// The name that stands for what comes in on stdin.
const STDIN: &str = "-";

/// What is shown of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// What is wrong, and a summary.
    Verdict,
    /// Each event, too.
    Events,
}

pub fn run(global: &Global, file: &Path, show: Show) -> Result<u8> {
    let name = file.display();
    let mut replay = opened(global, file, show == Show::Events)?;
    let output = Output::new(global, Format::Text);
    // Of the metrics nothing else is printed: they are read by programs.
    let metrics = show == Show::Verdict && global.format == Some(Format::Prom);
    let in_short = show == Show::Verdict && !output.is_json() && !metrics;
    let synthetic = replay.reader().head().synthetic.is_some();
    if (in_short || synthetic && !output.is_json() && !metrics) && !global.quiet {
        put(&(origin(&replay) + "\n"))?;
    }
    let mut wrong = false;
    let mut damage = None;
    while let Some(step) = replay.step() {
        match step {
            Ok(reports) => {
                wrong |= reports.iter().any(is_wrong);
                match show {
                    Show::Verdict if metrics => {}
                    Show::Verdict => output.write_findings(&reports, &replay.context())?,
                    Show::Events => output.write(&reports, &replay.context())?,
                }
            }
            Err(error) => damage = Some(error),
        }
    }
    if metrics {
        put_metrics(global, &mut replay.watcher)?;
    }
    if in_short && !global.quiet {
        put(&(summary(&replay) + "\n"))?;
    }
    let left_out = replay.reader().left_out();
    if left_out > 0 && !global.quiet {
        eprintln!(
            "iommu-watch: {name}: {left_out} entries that a newer iommu-watch ({}) wrote were left out",
            replay.reader().head().program
        );
    }
    match damage {
        Some(damage) => bail!("{name}: {damage}; what was recorded up to there was replayed"),
        None if wrong => Ok(WRONG),
        None => Ok(RIGHT),
    }
}

/// A recording, to be replayed as the command line says.
pub fn opened(global: &Global, file: &Path, events: bool) -> Result<Replay<Box<dyn Read>>> {
    let options =
        Options { filter: global.filter(), settings: global.settings()?, events, ..Options::default() };
    Replay::open(open(file)?, options).with_context(|| file.display().to_string())
}

fn open(file: &Path) -> Result<Box<dyn Read>> {
    if file == Path::new(STDIN) {
        return Ok(Box::new(io::stdin().lock()));
    }
    let source = File::open(file).map_err(|error| anyhow!("{}: {error}", file.display()))?;
    Ok(Box::new(BufReader::new(source)))
}

fn origin<R: Read>(replay: &Replay<R>) -> String {
    let head = replay.reader().head();
    let part = if head.part > 0 { format!(", file {} of it", head.part + 1) } else { String::new() };
    if let Some(source) = &head.synthetic {
        return format!("synthetic: no machine was recorded; written from {source}");
    }
    format!(
        "recorded on {}, Linux {} ({}), by iommu-watch {}{part}",
        head.host, head.kernel, head.machine, head.program
    )
}

/// How much there was, what was found, and what could not be judged.
fn summary<R: Read>(replay: &Replay<R>) -> String {
    let watcher = &replay.watcher;
    let raised = |severity: Severity| {
        watcher.checks().map(|(check, _)| watcher.raised(check.name, severity)).sum::<u64>()
    };
    let [critical, warning, info] = [Severity::Critical, Severity::Warning, Severity::Info].map(raised);
    let seconds = replay.span_ns() as f64 / 1e9;
    let mut text = format!(
        "{} events in {seconds:.1} s: {critical} critical, {warning} warnings, {info} for information",
        replay.events()
    );
    for (check, state) in watcher.checks() {
        if *state != CheckState::Armed && !state.is_off() {
            text += &format!("\n{}: {state}", check.name);
        }
    }
    if replay.reader().is_continued() {
        text += "\nThe recording goes on in its next file.";
    }
    text
}
