//! The alerts about the watcher itself and the records for a fleet, with their tests and their page: from
//! `watcher.toml` beside this file.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use anyhow::{Context, Result, bail, ensure};
use monitor::check;
use serde::Deserialize;

use crate::Page;
use crate::text::wrap;
use crate::yaml::{block, comment, folded};

const SOURCE: &str = include_str!("watcher.toml");
const RULES: &str = "iommu-watch.rules.yml";
const SEVERITY: &str = "warning";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    record: Vec<Record>,
    record_test: Vec<RecordTest>,
    alert: Vec<Alert>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    name: String,
    what: String,
    expr: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordTest {
    name: String,
    series: Vec<(String, String)>,
    samples: Vec<(String, f64)>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Alert {
    /// The stem of its name, in words with dashes.
    name: String,
    /// For who reads the rules.
    why: Option<String>,
    expr: String,
    r#for: Option<String>,
    summary: String,
    description: String,
    /// What to do, for the page.
    page: String,
    test: Vec<Test>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Test {
    name: String,
    #[serde(default = "minute")]
    interval: String,
    series: Vec<(String, String)>,
    /// When it doesn't fire.
    #[serde(default)]
    quiet: Vec<String>,
    #[serde(default)]
    fires: Vec<Firing>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Firing {
    at: String,
    /// What the template makes of `$value`.
    #[serde(default)]
    value: String,
    labels: BTreeMap<String, String>,
}

fn minute() -> String {
    "1m".into()
}

impl Source {
    pub fn read() -> Result<Self> {
        let source: Self = toml::from_str(SOURCE).context("watcher.toml")?;
        for alert in &source.alert {
            let fires = alert.test.iter().any(|test| !test.fires.is_empty());
            let quiet = alert.test.iter().any(|test| !test.quiet.is_empty());
            ensure!(
                fires && quiet,
                "watcher.toml: {} wants a test that it fires, and one that it doesn't",
                alert.name
            );
        }
        let tested = |record: &&Record| {
            let samples = source.record_test.iter().flat_map(|test| &test.samples);
            samples.map(|(sample, _)| sample).any(|sample| sample.split('{').next() == Some(&record.name))
        };
        if let Some(record) = source.record.iter().find(|record| !tested(record)) {
            bail!("watcher.toml: the record {} has no test", record.name);
        }
        Ok(source)
    }

    /// The names of the recorded series.
    pub fn records(&self) -> BTreeSet<&str> {
        self.record.iter().map(|record| record.name.as_str()).collect()
    }

    pub fn pages(&self) -> Result<Vec<Page>> {
        Ok(vec![
            Page { path: format!("dashboards/rules/{RULES}"), text: self.rules() },
            Page { path: "dashboards/rules/iommu-watch.test.yml".into(), text: self.tests()? },
            Page { path: "docs/alerts.md".into(), text: self.page() },
        ])
    }

    fn rules(&self) -> String {
        let mut text = String::from(
            "# Rules about the watcher itself, and records for a fleet. The alerts of the checks are in\n\
             # iommu-watch-checks.rules.yml. Scrape the daemon under job=\"iommu-watch\".\n\
             # Written by `cargo xtask docs` from xtask/pages/src/watcher.toml; change it there.\n\
             groups:\n  - name: iommu-watch-fleet\n    rules:\n",
        );
        for record in &self.record {
            text.push_str(&comment(&record.what, "      "));
            let _ = writeln!(text, "      - record: {}", record.name);
            text.push_str(&block("expr", &record.expr, "        "));
        }
        text.push_str("\n  - name: iommu-watch-itself\n    rules:\n");
        for alert in &self.alert {
            text.push_str(&comment(alert.why.as_deref().unwrap_or_default(), "      "));
            let _ = writeln!(text, "      - alert: {}", alert.name());
            text.push_str(&block("expr", &alert.expr, "        "));
            if let Some(delay) = &alert.r#for {
                let _ = writeln!(text, "        for: {delay}");
            }
            let _ = writeln!(text, "        labels:\n          severity: {SEVERITY}\n        annotations:");
            text.push_str(&alert.annotations(|words| Ok(words.to_owned()), "          ").unwrap_or_default());
        }
        text
    }

    fn tests(&self) -> Result<String> {
        let mut text = format!(
            "# Each rule of {RULES}: it fires when it must, and doesn't when it mustn't.\n\
             # Written by `cargo xtask docs` from xtask/pages/src/watcher.toml; change it there.\n\
             rule_files:\n  - {RULES}\n\nevaluation_interval: 1m\n\ntests:\n"
        );
        for test in &self.record_test {
            text.push_str(&head(&test.name, "1m", &test.series));
            text.push_str("    promql_expr_test:\n");
            for (labels, value) in &test.samples {
                let name = labels.split('{').next().unwrap_or_default();
                // One record has many series: each is asked for by itself.
                let _ = writeln!(
                    text,
                    "      - expr: '{labels}'\n        eval_time: 5m\n        exp_samples:\n          \
                     - labels: '{labels}'\n            value: {value}"
                );
                ensure!(
                    self.records().contains(name),
                    "watcher.toml: there is no record {name} to be tested"
                );
            }
        }
        for alert in &self.alert {
            for test in &alert.test {
                text.push_str(&head(&format!("{}: {}", alert.name, test.name), &test.interval, &test.series));
                text.push_str("    alert_rule_test:\n");
                for at in &test.quiet {
                    let _ = writeln!(
                        text,
                        "      - alertname: {}\n        eval_time: {at}\n        exp_alerts: []",
                        alert.name()
                    );
                }
                for firing in &test.fires {
                    text.push_str(&alert.fires(firing)?);
                }
            }
        }
        Ok(text)
    }

    fn page(&self) -> String {
        let mut text = String::from(PAGE);
        for alert in &self.alert {
            let _ = write!(text, "\n## {}\n", alert.name());
            text.push_str(&wrap(&alert.page, "", ""));
        }
        text.push_str("\n---\nWritten by `cargo xtask docs` from `xtask/pages/src/watcher.toml`.\n");
        text
    }
}

const PAGE: &str = "# The alerts

[iommu-watch-checks.rules.yml](../dashboards/rules/iommu-watch-checks.rules.yml) has an alert for each check: its
page in [checks/](checks/README.md) says what to do. The rest of this page is about
[iommu-watch.rules.yml](../dashboards/rules/iommu-watch.rules.yml): the watcher itself. None of these means that
something is wrong with the IOMMU; they mean that it would go unseen.

## To use them
Scrape the daemons under `job_name: iommu-watch`, and load both files as `rule_files`. `runbook_url` is the path of
the page in this repository: put the place before it where you serve these pages,

    sed -i 's|runbook_url: |&https://runbooks.example.com/|' iommu-watch*.rules.yml

An alert of a check fires while the violation stands, and for 15 minutes after it was raised, so that one that comes
and goes between two scrapes is told all the same. Start with the JSON on that host:

    curl -s http://127.0.0.1:9436/api/v1/violations
";

impl Alert {
    fn name(&self) -> String {
        check::alert_name(&self.name)
    }

    fn annotations(&self, fill: impl Fn(&str) -> Result<String>, indent: &str) -> Result<String> {
        let summary = fill(&self.summary)?.replace('"', "\\\"");
        let anchor = self.name().to_lowercase();
        Ok(format!(
            "{indent}summary: \"{summary}\"\n{}{indent}runbook_url: docs/alerts.md#{anchor}\n",
            folded("description", &fill(&self.description)?, indent),
        ))
    }

    /// The test's words for its firing.
    fn fires(&self, firing: &Firing) -> Result<String> {
        let mut text = format!(
            "      - alertname: {}\n        eval_time: {}\n        exp_alerts:\n          - exp_labels:\n",
            self.name(),
            firing.at
        );
        let common = [("job".into(), "iommu-watch".into()), ("severity".into(), SEVERITY.into())];
        let labels: BTreeMap<String, String> = firing.labels.clone().into_iter().chain(common).collect();
        for (label, value) in &labels {
            let _ = writeln!(text, "              {label}: \"{value}\"");
        }
        text.push_str("            exp_annotations:\n");
        text.push_str(&self.annotations(|words| fill(words, &labels, &firing.value), "              ")?);
        Ok(text)
    }
}

/// The start of a test: its name, and what the hosts show.
fn head(name: &str, interval: &str, series: &[(String, String)]) -> String {
    let mut text = format!("  - name: \"{name}\"\n    interval: {interval}\n    input_series:\n");
    for (series, values) in series {
        let job = if series.contains("job=") { "{" } else { "{job=\"iommu-watch\"," };
        let series = series.replacen('{', job, 1);
        let _ = writeln!(text, "      - series: '{series}'\n        values: {values}");
    }
    text
}

/// A template as Prometheus fills it.
fn fill(template: &str, labels: &BTreeMap<String, String>, value: &str) -> Result<String> {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{ ") {
        let (what, after) = after.split_once(" }}").context("a template without its end")?;
        text.push_str(before);
        text.push_str(match what.strip_prefix("$labels.") {
            Some(label) => labels.get(label).with_context(|| format!("a test without the label {label}"))?,
            None if what.starts_with("$value") && !value.is_empty() => value,
            None => bail!("a test without the value of {{{{ {what} }}}}"),
        });
        rest = after;
    }
    text.push_str(rest);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_filled_as_prometheus_does() {
        let labels = [("instance".into(), "a:1".into())].into();
        assert_eq!(
            fill("{{ $labels.instance }}: {{ $value | humanizeDuration }} old", &labels, "2d").unwrap(),
            "a:1: 2d old"
        );
        assert!(fill("{{ $labels.check }}", &labels, "").is_err());
        assert!(fill("{{ $value }}", &labels, "").is_err());
    }
}
