//! `conformance report`: the verdict on each IOMMU driver, from what is seen live or in a recording.

use std::{
    path::{Path, PathBuf},
    sync::Mutex,
    time::Duration,
};

use anyhow::Result;

use crate::{
    conformance::{Conformance, Verdict},
    kernel::{host, probes},
    live::{self, Live},
    lock::lock,
    replay::Replay,
    report::{self, Context},
};

use super::{
    Audit, FAILED, Format, Global, RIGHT, WRONG,
    output::{Output, context, put},
    replay, seconds,
};

#[derive(clap::Subcommand)]
pub enum Command {
    /// From what is seen, live or in a recording: conforms, violates (with the evidence), or not exercised
    Report(Arguments),
}

#[derive(clap::Args)]
pub struct Arguments {
    /// A recording; `-` for stdin. Without one: what happens until stopped
    #[arg(conflicts_with = "duration")]
    file: Option<PathBuf>,
    /// Stop after this many seconds
    #[arg(long = "for", value_name = "SECONDS", value_parser = seconds)]
    duration: Option<Duration>,
    #[command(flatten)]
    audit: Audit,
}

pub fn run(global: &Global, command: &Command) -> Result<u8> {
    let Command::Report(arguments) = command;
    match &arguments.file {
        Some(file) => recorded(global, file),
        None => watched(global, arguments),
    }
}

/// Of the running kernel, for a time or until stopped.
fn watched(global: &Global, arguments: &Arguments) -> Result<u8> {
    let probes = probes::attach(&global.plan(|_| true)?)?;
    let (live, _) = Live::start(probes, global.options()?, arguments.audit.upkeep(global)?)?;
    host::drop_privileges()?;
    if !global.quiet {
        eprintln!("iommu-watch: watching; stop with Ctrl-C for the report");
    }
    let live = Mutex::new(live);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let stop = live::stop_requested_within(arguments.duration)?;
        live::follow(&live, stop, |_, _| Ok(())).await
    })?;
    let live = lock(&live);
    show(global, &live.watcher.conformance(), &context(live.watcher.options(), live.stacks()))
}

fn recorded(global: &Global, file: &Path) -> Result<u8> {
    let damage = {
        let mut replay = replay::opened(global, file, false)?;
        let damage = to_the_end(&mut replay);
        let code = show(global, &replay.watcher.conformance(), &replay.context())?;
        match damage {
            None => return Ok(code),
            Some(damage) => damage,
        }
    };
    Err(damage.context(format!("{}: only what was recorded up to there is in the report", file.display())))
}

/// As far as it goes.
fn to_the_end<R: std::io::Read>(replay: &mut Replay<R>) -> Option<anyhow::Error> {
    while let Some(step) = replay.step() {
        if let Err(error) = step {
            return Some(error.into());
        }
    }
    None
}

fn show(global: &Global, drivers: &[Conformance], context: &Context<'_>) -> Result<u8> {
    let text = match global.format {
        Some(Format::Json) => report::conformance::json(drivers, context).to_string() + "\n",
        _ => report::conformance::text(drivers, context, Output::new(global, Format::Text).style()),
    };
    put(&text)?;
    Ok(code(drivers))
}

/// 0: every driver conforms in all that was exercised; 1: one violates; 2: nothing was exercised.
fn code(drivers: &[Conformance]) -> u8 {
    let any = |verdict| drivers.iter().any(|driver| driver.verdict == verdict);
    match (any(Verdict::Violates), any(Verdict::Conforms)) {
        (true, _) => WRONG,
        (false, true) => RIGHT,
        (false, false) => FAILED,
    }
}
