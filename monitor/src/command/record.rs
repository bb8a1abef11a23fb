//! `record`: what happens into a file, for a time or until stopped. What is found meanwhile is told, too.

use std::{fmt, sync::Mutex};

use anyhow::{Context as _, Result, bail};

use crate::{
    kernel::{btf, clock, host, probes},
    live::{self, Live, Upkeep},
    lock::lock,
    trace::{Origin, Recorder, Store, Summary, Target},
};

use super::{
    Format, Global, RIGHT, RecordArguments,
    output::{Output, context},
};

pub fn run(global: &Global, arguments: &RecordArguments) -> Result<u8> {
    host::may_attach()?;
    let target = Target {
        path: arguments.file.clone(),
        max_size: arguments.max_size,
        keep: arguments.keep,
        force: arguments.force,
    };
    // First what fails at once, then what takes its time.
    let store = Store::create(target).context("-o")?;
    let options = global.options()?;
    let origin = Origin {
        host: options.host.clone(),
        kernel: options.kernel.clone(),
        boot_id: options.boot_id.clone(),
        btf: host::types_sha256().context(btf::VMLINUX)?,
        clock_offset_ns: clock::wall_offset_ns(),
        synthetic: None,
    };
    let probes = probes::attach(&global.plan(|_| true)?)?;
    let recorder = Recorder::new(store, origin, &probes.coverage);
    let (live, first) =
        Live::start(probes, options, Upkeep { recorder: Some(recorder), ..arguments.audit.upkeep(global)? })?;
    host::drop_privileges()?;
    let output = Output::new(global, Format::Text);
    if !global.quiet {
        eprintln!("iommu-watch: recording to {}; stop with Ctrl-C", arguments.file.display());
    }
    output.write_findings(&first, &context(live.watcher.options(), live.stacks()))?;
    let live = Mutex::new(live);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let followed = runtime.block_on(async {
        let stop = live::stop_requested_within(arguments.duration)?;
        live::follow(&live, stop, |live, reports| {
            output.write_findings(reports, &context(live.watcher.options(), live.stacks()))
        })
        .await
    });
    let summary = lock(&live).end_recording().unwrap_or_default();
    followed?;
    if !global.quiet {
        eprintln!("iommu-watch: {summary}");
    }
    match summary.failure {
        Some(failure) => {
            bail!("{}: {failure}: {} events are missing", arguments.file.display(), summary.lost)
        }
        None if summary.lost > 0 => bail!("{} events came too fast to be written", summary.lost),
        None => Ok(RIGHT),
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary { events, bytes, files, .. } = self;
        let files = if *files == 1 { "1 file".to_owned() } else { format!("{files} files") };
        write!(f, "recorded {events} events in {bytes} bytes, {files}")
    }
}
