//! `watch`: events and violations as they come, a line each; those of a recording by `replay.rs`.

use std::sync::Mutex;

use anyhow::Result;

use crate::{
    kernel::{host, probes},
    live::{self, Live},
    watcher::Options,
};

use super::{
    Format, Global, RIGHT, WRONG, WatchArguments,
    output::{Output, context, is_wrong},
    replay::{self, Show},
};

pub fn run(global: &Global, arguments: &WatchArguments) -> Result<u8> {
    if let Some(file) = &arguments.file {
        return replay::run(global, file, Show::Events);
    }
    let options = Options { events: true, readings: global.verbose > 0, ..global.options()? };
    let probes = probes::attach(&global.plan(|_| true)?)?;
    let (live, first) = Live::start(probes, options, arguments.audit.upkeep(global)?)?;
    host::drop_privileges()?;
    if !global.quiet {
        eprintln!("iommu-watch: watching; stop with Ctrl-C");
    }
    let output = Output::new(global, Format::Text);
    let mut wrong = first.iter().any(is_wrong);
    output.write(&first, &context(live.watcher.options(), live.stacks()))?;
    let live = Mutex::new(live);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let stop = live::stop_requested_within(arguments.duration)?;
        live::follow(&live, stop, |live, reports| {
            wrong |= reports.iter().any(is_wrong);
            output.write(reports, &context(live.watcher.options(), live.stacks()))
        })
        .await
    })?;
    Ok(if wrong { WRONG } else { RIGHT })
}
