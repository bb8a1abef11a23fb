//! The alert of each check, with its tests. Nothing that only informs pages anybody.

use std::fmt::Write;

use anyhow::{Result, ensure};
use monitor::check::{Severity, Spec};

use crate::Page;
use crate::checks::specs;
use crate::text::camel_case;
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
    format!("IommuWatch{}", camel_case(spec.name))
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
    name: &'static str,
    active: &'static str,
    total: &'static str,
    /// When the daemon started, in seconds; the tests start at 0.
    started: i32,
    /// Minutes, and whether the alert fires then.
    fires: [(u32, bool); 3],
}

const STORIES: [Story; 4] = [
    Story {
        name: "stands for 40 minutes",
        active: "0x9 1x39 0x10",
        total: "0x9 1x50",
        started: -86_400,
        fires: [(8, false), (40, true), (58, false)],
    },
    Story {
        name: "comes and goes between two scrapes",
        active: "0x60",
        total: "0x9 1x50",
        started: -86_400,
        fires: [(8, false), (18, true), (40, false)],
    },
    Story {
        name: "comes and goes before the first scrape of a new daemon",
        active: "_x2 0x58",
        total: "_x2 1x58",
        started: 60,
        fires: [(1, false), (10, true), (20, false)],
    },
    // A daemon's counter of old, that is scraped again after a long gap, is no news.
    Story {
        name: "was raised long before Prometheus started",
        active: "0x60",
        total: "3x60",
        started: -86_400,
        fires: [(1, false), (10, false), (40, false)],
    },
];

fn tests(alerts: &[Alert]) -> String {
    let mut text = format!(
        "# Each alert of {RULES}: it fires when it must, and doesn't when it mustn't.\n\
         # Written by `cargo xtask docs` from monitor/src/check/; change it there.\n\
         rule_files:\n  - {RULES}\n\nevaluation_interval: 1m\n\ntests:\n"
    );
    for alert in alerts {
        for story in &STORIES {
            test(&mut text, alert, story);
        }
    }
    text.push_str(&quiet(alerts));
    text
}

fn test(text: &mut String, alert: &Alert, story: &Story) {
    let name = alert_name(alert.spec);
    let labels = alert.labels();
    let target = format!("job=\"iommu-watch\",instance=\"{HOST}\"");
    let _ = write!(
        text,
        "  - name: {}, {}, {}\n    interval: 1m\n    input_series:\n      \
         - series: iommu_watch_violations_active{{{target},{labels}}}\n        values: {}\n      \
         - series: iommu_watch_violations_total{{{target},{labels}}}\n        values: {}\n      \
         - series: iommu_watch_start_time_seconds{{{target}}}\n        values: {}x60\n    alert_rule_test:\n",
        alert.spec.name,
        alert.severity.name(),
        story.name,
        story.active,
        story.total,
        story.started,
    );
    for (minute, fires) in story.fires {
        let _ = write!(text, "      - alertname: {name}\n        eval_time: {minute}m\n        exp_alerts:");
        if fires {
            let _ = write!(
                text,
                "\n          - exp_labels:\n              job: iommu-watch\n              instance: \"{HOST}\"\n              \
                 check: {}\n              severity: {}\n            exp_annotations:\n{}",
                alert.spec.name,
                alert.severity.name(),
                alert.annotations(HOST, "            "),
            );
        } else {
            text.push_str(" []\n");
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
