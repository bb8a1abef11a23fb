//! The daemon's pages, read from the live state when they are asked for.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use prometheus::{TextEncoder, proto::MetricFamily};
use serde_json::Value;

use crate::{
    aside::say,
    config::Faults,
    kernel::clock,
    live::Live,
    lock::lock,
    report::{
        conformance, json,
        metrics::{self, Build},
        openmetrics,
        status::{self, Recent, View},
    },
    watcher::GroupState,
    web::{Page, Source},
};

use super::{output::context, pulse::Pulse};

pub struct Pages {
    pub live: Arc<Mutex<Live>>,
    pub pulse: Arc<Pulse>,
    pub recent: Arc<Mutex<Recent>>,
    pub build: Build,
    pub quiet: bool,
    /// The web configuration, to be named where it is wrong.
    pub web_config: Option<PathBuf>,
}

impl Source for Pages {
    fn healthy(&self) -> Result<(), String> {
        self.pulse.check()
    }

    fn ready(&self) -> Result<(), String> {
        let wait = |left: Duration| {
            format!("{} ms more: calls from before may still be under way", left.as_millis())
        };
        self.live()?.ready().map_err(wait)
    }

    fn render(&self, page: Page) -> Result<String, String> {
        match page {
            Page::Status => self.status(),
            Page::Metrics => {
                TextEncoder::new().encode_to_string(&self.families()?).map_err(|error| error.to_string())
            }
            Page::OpenMetrics => Ok(openmetrics::encode(&self.families()?)),
            Page::Groups => self.groups(),
            Page::Conformance => self.conformance(),
            Page::Violations => self.violations(),
        }
    }

    fn style(&self) -> &'static str {
        status::STYLE
    }

    fn configured(&self, outcome: Result<&str, &Faults>) {
        if let Ok(mut live) = self.live() {
            live.watcher.web_config_was_read(outcome.is_ok());
        }
        let file = self.web_config.as_deref().unwrap_or(Path::new("")).display();
        match outcome {
            Ok(summary) if !self.quiet => say(&format!("iommu-watch: {file}: read again: {summary}")),
            Ok(_) => {}
            Err(faults) => say(&format!("iommu-watch: {file}: nothing of it is in force: {faults}")),
        }
    }
}

impl Pages {
    fn live(&self) -> Result<MutexGuard<'_, Live>, String> {
        self.pulse.lock(&self.live)
    }

    fn status(&self) -> Result<String, String> {
        let mut live = self.live()?;
        let groups = live.watcher.groups();
        let context = context(live.watcher.options(), live.stacks());
        let recent = lock(&self.recent);
        Ok(status::page(&View {
            watcher: &live.watcher,
            groups: &groups,
            recent: &recent,
            build: &self.build,
            context: &context,
            now_ns: clock::monotonic_ns(),
        }))
    }

    fn families(&self) -> Result<Vec<MetricFamily>, String> {
        let mut live = self.live()?;
        live.count().map_err(|error| error.to_string())?;
        Ok(metrics::collect(&mut live.watcher, &self.build))
    }

    fn groups(&self) -> Result<String, String> {
        let mut live = self.live()?;
        let groups = live.watcher.groups();
        let context = context(live.watcher.options(), live.stacks());
        let object =
            |group: &GroupState| json::group(group, live.watcher.tables(group.id).as_ref(), &context);
        Ok(Value::from_iter(groups.iter().map(object)).to_string())
    }

    fn conformance(&self) -> Result<String, String> {
        let live = self.live()?;
        let context = context(live.watcher.options(), live.stacks());
        Ok(conformance::json(&live.watcher.conformance(), &context).to_string())
    }

    fn violations(&self) -> Result<String, String> {
        let live = self.live()?;
        let context = context(live.watcher.options(), live.stacks());
        let violations = live.watcher.violations().map(|found| json::violation(found, &context));
        Ok(Value::from_iter(violations).to_string())
    }
}
