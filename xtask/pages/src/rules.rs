//! The alert of each check, with its tests. Nothing that only informs pages anybody.

use std::fmt::Write;
use std::ops::Range;

use anyhow::{Result, ensure};
use monitor::check::{self, Severity, Spec};

use crate::Page;
use crate::checks::specs;
use crate::yaml::folded;

const RULES: &str = "iommu-watch-checks.rules.yml";
const HOST: &str = "a:9436";

pub fn pages() -> Result<Vec<Page>> {
    let alerts: Vec<Alert> = specs().flat_map(alerts).collect();
    for alert in &alerts {
        // Annotations are templates: what a check says of itself must not be taken for one.
        ensure!(!alert.description().contains("{{"), "{}: `{{{{` in its words", alert.spec.name);
    }
    Ok(vec![
        Page { path: format!("dashboards/rules/{RULES}"), text: rules(&alerts) },
        Page { path: "dashboards/rules/iommu-watch-checks.test.yml".into(), text: tests(&alerts) },
    ])
}

pub fn alert_name(spec: &Spec) -> String {
    check::alert_name(spec.name)
}

struct Alert {
    spec: &'static Spec,
    severity: Severity,
}

fn alerts(spec: &'static Spec) -> Vec<Alert> {
    // Whichever of them the check has of its own: the configuration may give it another one.
    let paging = Severity::ALL.into_iter().rev().filter(|severity| *severity > Severity::Info);
    paging.map(|severity| Alert { spec, severity }).collect()
}

impl Alert {
    fn labels(&self) -> String {
        format!("check=\"{}\",severity=\"{}\"", self.spec.name, self.severity.name())
    }

    /// How long it must hold: what is critical pages at once.
    fn delay(&self) -> Option<&'static str> {
        (self.severity < Severity::Critical).then_some("5m")
    }

    fn summary(&self, host: &str) -> String {
        format!("{host}: {} is violated", self.spec.name)
    }

    fn description(&self) -> String {
        let first = self.spec.what_to_do.first().copied().unwrap_or_default();
        format!(
            "{} First: {first} The daemon's log and /api/v1/violations on the host name the group, the devices, the \
             PASIDs, and who did it.",
            self.spec.why
        )
    }

    fn annotations(&self, host: &str, indent: &str) -> String {
        let inner = format!("{indent}  ");
        format!(
            "{inner}summary: \"{}\"\n{}{inner}runbook_url: {}\n",
            self.summary(host),
            folded("description", &self.description(), &inner),
            self.spec.docs()
        )
    }
}

fn rules(alerts: &[Alert]) -> String {
    let mut text = String::from(
        "# The alert of each check. Written by `cargo xtask docs` from monitor/src/check/; change it there.\n\
         #\n\
         # An alert fires while the violation stands, and for 15 minutes after it was raised: one that came and went\n\
         # between two scrapes, or before the first scrape of a daemon that has just started, is told all the same.\n\
         # What the configuration expects is counted apart and fires nothing. Every check has an alert of both severities:\n\
         # the configuration can give it another one than its own.\n\
         groups:\n  - name: iommu-watch-checks\n    rules:\n",
    );
    for alert in alerts {
        let labels = alert.labels();
        let _ = write!(
            text,
            "      - alert: {name}\n        \
             expr: >-\n          \
             iommu_watch_violations_active{{{labels}}} > 0\n          \
             or\n          \
             increase(iommu_watch_violations_total{{{labels}}}[15m]) > 0\n          \
             or\n          \
             (\n            \
             iommu_watch_violations_total{{{labels}}} > 0\n            \
             and on (job, instance) time() - iommu_watch_start_time_seconds < 900\n          \
             )\n",
            name = alert_name(alert.spec),
        );
        if let Some(delay) = alert.delay() {
            let _ = writeln!(text, "        for: {delay}");
        }
        let _ = write!(
            text,
            "        labels:\n          severity: {}\n        annotations:\n{}",
            alert.severity.name(),
            alert.annotations("{{ $labels.instance }}", "        "),
        );
    }
    text
}

/// What a host shows of a violation, minute by minute, and when the alert fires.
struct Story {
    /// What becomes of the violation on it.
    name: &'static str,
    host: &'static str,
    active: &'static str,
    total: &'static str,
    /// When the daemon started, in seconds; the tests start at 0.
    started: i32,
    /// Minutes, less those for which an alert waits.
    fires: Range<u32>,
}

const STORIES: [Story; 4] = [
    Story {
        name: "stands for 40 minutes",
        host: "stands:9436",
        active: "0x9 1x39 0x10",
        total: "0x9 1x50",
        started: -86_400,
        fires: 9..49,
    },
    Story {
        name: "comes and goes between two scrapes",
        host: "comes-and-goes:9436",
        active: "0x60",
        total: "0x9 1x50",
        started: -86_400,
        fires: 9..24,
    },
    Story {
        name: "comes and goes before the first scrape of a new daemon",
        host: "new:9436",
        active: "_x2 0x58",
        total: "_x2 1x58",
        started: 60,
        fires: 2..16,
    },
    // A daemon's counter of old, that is scraped again after a long gap, is no news.
    Story {
        name: "was raised long before Prometheus started",
        host: "old:9436",
        active: "0x60",
        total: "3x60",
        started: -86_400,
        fires: 0..0,
    },
];

/// When it is looked at what fires, in minutes: each is farther from an end in each story than an alert waits.
const MOMENTS: [u32; 6] = [1, 8, 15, 22, 40, 58];

fn tests(alerts: &[Alert]) -> String {
    let mut text = format!(
        "# Each alert of {RULES}: it fires when it must, and doesn't when it mustn't. On each host the violation\n\
         # has a story of its own:\n"
    );
    for story in &STORIES {
        let _ = writeln!(text, "#   {} {}", story.host, story.name);
    }
    let _ = write!(
        text,
        "# Written by `cargo xtask docs` from monitor/src/check/; change it there.\n\
         rule_files:\n  - {RULES}\n\nevaluation_interval: 1m\n\ntests:\n"
    );
    for alert in alerts {
        test(&mut text, alert);
    }
    text.push_str(&quiet(alerts));
    text
}

fn test(text: &mut String, alert: &Alert) {
    let (name, labels) = (alert_name(alert.spec), alert.labels());
    let (check, severity) = (alert.spec.name, alert.severity.name());
    let _ = write!(text, "  - name: {check}, {severity}\n    interval: 1m\n    input_series:\n");
    for Story { host, active, total, started, .. } in &STORIES {
        let target = format!("job=\"iommu-watch\",instance=\"{host}\"");
        let _ = write!(
            text,
            "      \
             - series: iommu_watch_violations_active{{{target},{labels}}}\n        values: {active}\n      \
             - series: iommu_watch_violations_total{{{target},{labels}}}\n        values: {total}\n      \
             - series: iommu_watch_start_time_seconds{{{target}}}\n        values: {started}x60\n",
        );
    }
    text.push_str("    alert_rule_test:\n");
    for minute in MOMENTS {
        let _ = write!(text, "      - alertname: {name}\n        eval_time: {minute}m\n        exp_alerts:");
        let firing: Vec<&Story> = STORIES.iter().filter(|story| story.fires.contains(&minute)).collect();
        if firing.is_empty() {
            text.push_str(" []");
        }
        text.push('\n');
        for Story { host, .. } in firing {
            let _ = write!(
                text,
                "          - exp_labels:\n              job: iommu-watch\n              instance: \"{host}\"\n              \
                 check: {check}\n              severity: {severity}\n            exp_annotations:\n{}",
                alert.annotations(host, "            "),
            );
        }
    }
}

/// What only informs, while it stands and when it was raised.
fn quiet(alerts: &[Alert]) -> String {
    let mut text = String::new();
    for spec in specs().filter(|spec| spec.severities.contains(&Severity::Info)) {
        let labels = format!(
            "job=\"iommu-watch\",instance=\"{HOST}\",check=\"{}\",severity=\"{}\"",
            spec.name,
            Severity::Info.name()
        );
        let _ = write!(
            text,
            "  - name: {}, info, pages nobody\n    interval: 1m\n    input_series:\n      \
             - series: iommu_watch_violations_active{{{labels}}}\n        values: 0x9 1x20\n      \
             - series: iommu_watch_violations_total{{{labels}}}\n        values: 0x9 1x20\n    alert_rule_test:\n",
            spec.name,
        );
        for alert in alerts.iter().filter(|alert| alert.spec.name == spec.name) {
            let _ = write!(
                text,
                "      - alertname: {}\n        eval_time: 20m\n        exp_alerts: []\n",
                alert_name(alert.spec)
            );
        }
    }
    text
}
