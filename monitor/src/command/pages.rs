//! The daemon's pages, read from the live state when they are asked for.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use prometheus::{TextEncoder, proto::MetricFamily};
use serde_json::Value;

use crate::{
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

use super::output::context;

pub struct Pages {
    pub live: Arc<Mutex<Live>>,
    pub recent: Arc<Mutex<Recent>>,
    pub build: Build,
    pub quiet: bool,
    /// The web configuration, to be named where it is wrong.
    pub web_config: Option<PathBuf>,
}

impl Source for Pages {
    fn ready(&self) -> Result<(), String> {
        let wait = |left: Duration| {
            format!("{} ms more: calls from before may still be under way", left.as_millis())
        };
        lock(&self.live).ready().map_err(wait)
    }

    fn render(&self, page: Page) -> Result<String, String> {
        match page {
            Page::Status => Ok(self.status()),
            Page::Metrics => {
                TextEncoder::new().encode_to_string(&self.families()?).map_err(|error| error.to_string())
            }
            Page::OpenMetrics => Ok(openmetrics::encode(&self.families()?)),
            Page::Groups => Ok(self.groups()),
            Page::Conformance => Ok(self.conformance()),
            Page::Violations => Ok(self.violations()),
        }
    }

    fn style(&self) -> &'static str {
        status::STYLE
    }

    fn configured(&self, outcome: Result<&str, &Faults>) {
        lock(&self.live).watcher.web_config_was_read(outcome.is_ok());
        let file = self.web_config.as_deref().unwrap_or(Path::new("")).display();
        match outcome {
            Ok(summary) if !self.quiet => eprintln!("iommu-watch: {file}: read again: {summary}"),
            Ok(_) => {}
            Err(faults) => eprintln!("iommu-watch: {file}: nothing of it is in force: {faults}"),
        }
    }
}

impl Pages {
    fn status(&self) -> String {
        let mut live = lock(&self.live);
        let groups = live.watcher.groups();
        let context = context(live.watcher.options(), live.stacks());
        let recent = lock(&self.recent);
        status::page(&View {
            watcher: &live.watcher,
            groups: &groups,
            recent: &recent,
            build: &self.build,
            context: &context,
            now_ns: clock::monotonic_ns(),
        })
    }

    fn families(&self) -> Result<Vec<MetricFamily>, String> {
        let mut live = lock(&self.live);
        live.count().map_err(|error| error.to_string())?;
        Ok(metrics::collect(&mut live.watcher, &self.build))
    }

    fn groups(&self) -> String {
        let mut live = lock(&self.live);
        let groups = live.watcher.groups();
        let context = context(live.watcher.options(), live.stacks());
        let object =
            |group: &GroupState| json::group(group, live.watcher.tables(group.id).as_ref(), &context);
        Value::from_iter(groups.iter().map(object)).to_string()
    }

    fn conformance(&self) -> String {
        let live = lock(&self.live);
        let context = context(live.watcher.options(), live.stacks());
        conformance::json(&live.watcher.conformance(), &context).to_string()
    }

    fn violations(&self) -> String {
        let live = lock(&self.live);
        let context = context(live.watcher.options(), live.stacks());
        Value::from_iter(live.watcher.violations().map(|found| json::violation(found, &context))).to_string()
    }
}
