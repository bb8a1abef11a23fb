//! `daemon`: watch until stopped; JSON lines on stdout, pages over HTTP.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    aside::say,
    config::Config,
    kernel::{activation, clock, heap, host},
    live::{self, Live, Upkeep},
    lock::lock,
    report::{metrics, status::Recent},
    watcher::Report,
    web,
};

use super::{
    DaemonArguments, Format, Global, RIGHT, configuration, doctor, huge_pages,
    output::Output,
    pages::Pages,
    pins,
    pulse::Pulse,
    service::Service,
    sight,
    teller::{self, Teller},
};

/// How long the last lines may take at the end.
const LAST_LINES: Duration = Duration::from_secs(2);

pub fn run(global: &Global, arguments: &DaemonArguments) -> Result<u8> {
    if arguments.config_check {
        return configuration::check(global, arguments);
    }
    if arguments.unpin {
        return pins::unpin(global, arguments);
    }
    let handed = activation::handed()?;
    huge_pages::settle();
    heap::keep_little();
    let started = Instant::now();
    let start_seconds = seconds_since_epoch();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // First what fails at once, then what takes its time. Who asks meanwhile waits in the queue.
    let current = arguments.web_config(global)?;
    let listeners = arguments.listeners(global, handed)?;
    let address = listeners.first().context("there is nothing to serve on")?.local_addr()?;
    let scheme = if current.settings().tls.is_some() { "https" } else { "http" };
    // From now on a SIGHUP waits, and ends nobody.
    let mut reloads = runtime.block_on(async { signal(SignalKind::hangup()) })?;
    sight::tell_of_memory();
    let pins::Attached { probes, journal, holding } =
        pins::attach(global, arguments, &global.plan(|_| true)?)?;
    let (attached, there) = doctor::count(&probes.coverage);
    global.tell_costs(&probes.costs);
    let (timing, attached_at) = (probes.timing, Instant::now());
    let upkeep = Upkeep { journal, ..arguments.audit.upkeep(global)? };
    let (mut live, first) = Live::start(probes, global.options()?, upkeep)?;
    let reading = attached_at.elapsed();
    host::drop_privileges()?;
    heap::give_back();
    // The first violation is not to wait for it.
    live.read_ahead();
    if !global.quiet {
        eprintln!(
            "iommu-watch: {attached} of {there} hooks {}, {} groups read in {:.2} s, watching after {:.2} s; {scheme}://{address}",
            holding.attached(timing),
            live.watcher.host().groups().count(),
            reading.as_secs_f64(),
            started.elapsed().as_secs_f64(),
        );
    }
    sight::tell(global, &live);
    holding.tell(&mut live);
    let pages = format!("{scheme}://{}:{}/", live.watcher.options().host, address.port());
    let output = Output::new(global, Format::Json);
    let teller = Teller::start(output, teller::outlet(global)?, global.config()?, &pages, &live)?;
    let teller = Mutex::new(teller);
    let recent = Arc::new(Mutex::new(Recent::default()));
    let tell = |live: &mut Live, reports: &[Report]| {
        lock(&teller).tell(live, reports)?;
        lock(&recent).note(reports);
        std::io::Result::Ok(())
    };
    tell(&mut live, &first)?;
    live.watcher.config_was_read(Some(start_seconds));
    let live = Arc::new(Mutex::new(live));
    let build = metrics::Build { version: env!("CARGO_PKG_VERSION").into(), start_seconds };
    let pulse = Arc::new(Pulse::new());
    let pages = Pages {
        live: live.clone(),
        pulse: pulse.clone(),
        recent: recent.clone(),
        build,
        quiet: global.quiet,
        web_config: arguments.web_config_file(global)?.cloned(),
    };
    web::start(listeners, Arc::new(pages), current)?;
    let mut service = Service::of_environment(pulse);
    let done = runtime.block_on(async {
        let stop = live::stop_requested()?;
        let stop = async {
            stop.await;
            Service::stops();
        };
        let follow = live::follow(&live, stop, |live, reports| {
            tell(live, reports)?;
            live.watcher.reported(reports, clock::monotonic_ns());
            service.comes_around(live.ready().is_ok());
            Ok(())
        });
        let reload = async {
            while reloads.recv().await.is_some() {
                let mut live = lock(&live);
                let reports = reload(global, &mut live);
                tell(&mut live, &reports)?;
            }
            std::future::pending().await
        };
        tokio::select! {
            done = follow => done.map_err(anyhow::Error::from),
            done = reload => done,
        }
    });
    let teller = teller.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Err(lines) = teller.close(&lock(&live), LAST_LINES) {
        eprintln!("iommu-watch: nobody reads stdout: the last {lines} lines are not written");
    }
    done.map(|()| RIGHT)
}

/// Reads the configuration again: all of it counts, or nothing.
fn reload(global: &Global, live: &mut Live) -> Vec<Report> {
    let Some(file) = &global.config else {
        say("iommu-watch: SIGHUP: there is no --config FILE to be read again");
        return Vec::new();
    };
    match Config::read(file) {
        Ok(config) => {
            global.tell_expectations_over(file, &config);
            let reports = live.configure(&global.over(&config.checks));
            live.watcher.config_was_read(Some(seconds_since_epoch()));
            if !global.quiet {
                say(&format!("iommu-watch: {}: read again: {}", file.display(), config.summary()));
            }
            global.tell_asked_too_late(file, &config);
            if global.config().is_ok_and(|first| config.differs_at_start(first)) {
                say(&format!(
                    "iommu-watch: {}: [web], [watch], [output] and [push] are in force from the next start",
                    file.display()
                ));
            }
            reports
        }
        Err(faults) => {
            live.watcher.config_was_read(None);
            say(&format!("iommu-watch: {}: nothing of it is in force: {faults}", file.display()));
            Vec::new()
        }
    }
}

fn seconds_since_epoch() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
