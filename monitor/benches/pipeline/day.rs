//! A day of a host of a fleet, as fast as it goes: what the watcher keeps must not grow with the time that it has run.
//!
//! Run by `cargo xtask bench --only replay-day`. Each minute tenants and drivers attach and detach, groups are claimed, used
//! and given back, processes are bound and end; then every group is read again, and the metrics are scraped. Once an hour
//! something is wrong. Tasks are let finish before a reading, so that at the end the model must be where the host is.

use monitor::input::{Input, Resync};
use monitor::report::metrics::{self, Build};
use monitor::watcher::{Report, Watcher};
use prometheus::TextEncoder;
use serde_json::{Value, json};

use crate::measure::{processor, resident};
use crate::script::Workload;
use crate::subject::{assert_same, drive, watcher};
use crate::world::Batch;

/// How much of a day, and of what host.
#[derive(Clone, Copy)]
pub struct Day {
    pub groups: u32,
    pub live: usize,
    pub hours: usize,
    /// Records of a minute, readings apart.
    pub records: usize,
}

pub const FULL: Day = Day { groups: 64, live: 256, hours: 24, records: 6_000 };
pub const SMOKE: Day = Day { groups: 16, live: 32, hours: 3, records: 100 };

/// The hours in which what is kept finds its size, as the last PASIDs that the host had; they don't count for the slope.
const WARM_UP: usize = 12;
/// More than this is growth, in KiB an hour: 3 MiB in a month.
const FLAT: f64 = 4.0;
const MINUTES: usize = 60;
const MINUTE: u64 = 60_000_000_000;

pub struct Course {
    day: Day,
    records: usize,
    violations: usize,
    /// RssAnon at the end of each hour, in KiB.
    rss: Vec<f64>,
}

pub fn run(day: Day) -> Course {
    let mut host = Workload::new(day.groups);
    let (mut watcher, mut batch) = (watcher(), Batch::default());
    let mut course = Course { day, records: 0, violations: 0, rss: Vec::with_capacity(day.hours) };
    while host.fill(day.live, crate::BATCH, &mut batch, None) {}
    course.take(&mut watcher, &mut batch, host.world.now);
    for hour in 1..=day.hours {
        for minute in 0..MINUTES {
            let next = host.world.now + MINUTE;
            host.work(day.records, &mut batch);
            host.finish(&mut batch);
            if minute == MINUTES / 2 {
                host.misbehave(&mut batch);
            }
            course.take(&mut watcher, &mut batch, host.world.now);
            watcher.take(Input::Resync(Resync::Audit), host.world.now);
            host.world.snapshot(&mut batch);
            course.take(&mut watcher, &mut batch, host.world.now);
            scrape(&mut watcher);
            host.world.now = next;
            course.count(&watcher.take(Input::Settled, next));
        }
        eprintln!("bench: hour {hour} of {}", day.hours);
        course.rss.push(resident() as f64 / 1024.0);
    }
    assert_eq!(course.violations, day.hours, "what was wrong, and nothing else");
    assert_eq!(watcher.violations().count(), 0, "what happened isn't told for ever");
    assert_same(&watcher, &host.world);
    course
}

fn scrape(watcher: &mut Watcher) {
    let build = Build { version: env!("CARGO_PKG_VERSION").into(), start_seconds: 0.0 };
    let text = TextEncoder::new().encode_to_string(&metrics::collect(watcher, &build)).expect("a page");
    assert!(text.contains("iommu_watch_events_total"), "a page with the metrics");
}

impl Course {
    fn take(&mut self, watcher: &mut Watcher, batch: &mut Batch, now: u64) {
        self.records += batch.len();
        self.violations += drive(watcher, batch, now).violations;
        batch.clear();
    }

    fn count(&mut self, reports: &[Report]) {
        self.violations += reports.iter().filter(|report| matches!(report, Report::Violation(_))).count();
    }

    /// By least squares, in KiB an hour.
    fn slope(&self) -> f64 {
        slope(&self.rss[WARM_UP.min(self.rss.len())..])
    }

    pub fn is_flat(&self) -> bool {
        self.slope() <= FLAT
    }

    pub fn json(&self) -> Value {
        json!({
            "processor": processor(),
            "groups": self.day.groups,
            "live_pasids": self.day.live,
            "hours": self.day.hours,
            "records": self.records,
            "violations": self.violations,
            "rss_anon_kib_by_hour": self.rss,
            "slope_kib_per_hour": self.slope(),
            "flat": self.is_flat(),
        })
    }

    pub fn told(&self) -> String {
        let by_hour: Vec<String> = self.rss.iter().map(|kib| format!("{kib:.0}")).collect();
        let hours = self.day.hours;
        let word = if self.is_flat() { "flat" } else { "NOT FLAT" };
        format!(
            "{} hours, {} groups, {} live PASIDs: {} records, {} readings and scrapes, {} violations\n\
             RssAnon at the end of each hour, KiB: {}\n\
             slope after hour {WARM_UP}: {:+.2} KiB an hour (at most {FLAT}): {word}\n",
            hours,
            self.day.groups,
            self.day.live,
            self.records,
            hours * MINUTES,
            self.violations,
            by_hour.join(" "),
            self.slope(),
        )
    }
}

fn slope(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let middle = (count - 1.0) / 2.0;
    let (mut above, mut below) = (0.0, 0.0);
    for (index, value) in values.iter().enumerate() {
        let from_middle = index as f64 - middle;
        above += from_middle * (value - mean);
        below += from_middle * from_middle;
    }
    if below > 0.0 { above / below } else { 0.0 }
}
