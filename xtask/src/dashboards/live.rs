//! A real Prometheus scrapes a real daemon, whose guest has a violation: the alert must fire, every rule must work, and
//! every query of every panel must give what it is for. The daemon pushes as well: to a real Alertmanager, which is down at
//! first.

use std::collections::BTreeSet;
use std::fs;
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use testbed::cache::Cache;
use testbed::prometheus::{self, Alertmanager, Prometheus};
use testbed::{Script, Series, Vm, vm};

use super::rules::rule_files;
use super::{Dashboard, array, dashboards, directory, files};
use crate::log::Log;
use crate::test::Tally;
use crate::{build, paths};

/// The alert on what the guest does.
const ALERT: &str = "IommuWatchPasidLeftOnRelease";
/// From the call that broke the rule to the alert that fires, with scrapes and evaluations a second apart.
const AT_MOST: Duration = Duration::from_secs(4);
/// How much of the time before the guest's end is looked at, s.
const SPAN: f64 = 10.0;
const PORT: u16 = 9436;

/// Panels without data here, and lines; and why.
const EMPTY: [(&str, &str); 6] = [
    ("failed: {{errno}}", "no call fails"),
    ("Hosts where a check misses something", "none does"),
    ("Hosts that lose events", "none is lost"),
    ("Hosts with hooks that are passed by", "none is"),
    ("Calls that a hook missed", "none does"),
    ("Time of a submission", "one in 256 is timed: there may be none"),
];

/// A device without a driver has an empty label, which is none.
const MAY_LACK: &str = "driver";

pub fn run(log: &Log) -> Result<Tally> {
    let iommu_watch = build::binary();
    ensure!(iommu_watch.is_file(), "{} is missing: the step `static` builds it", iommu_watch.display());
    let cache = Cache::open()?;
    let port = prometheus::free_port()?;
    let prometheus = Prometheus::start(&cache, port, &rule_files())?;
    let alerts = prometheus::free_port()?;
    let guest = Vm::new(Series::V6_12)
        .module("e1000e")
        .test_module("pasidcap")
        .test_module("caller")
        .forward(port, PORT)
        .add(iommu_watch, "/bin/iommu-watch")
        .console(paths::artefacts().join("prometheus.console"))
        .timeout(Duration::from_secs(240))
        .script(Script::Text(format!(
            "prometheus=http://10.0.2.2:{} alertmanager=http://10.0.2.2:{alerts} card={}\n. /guest/dashboards.sh",
            prometheus.port,
            vm::CARD
        )));
    let ended = AtomicBool::new(false);
    let outcome = thread::scope(|scope| {
        let late = scope.spawn(|| alertmanager(&cache, &prometheus, alerts, &ended));
        let outcome = guest.run();
        ended.store(true, Ordering::Relaxed);
        late.join().unwrap_or_else(|_| bail!("the thread of the Alertmanager has panicked"))?;
        outcome.map_err(anyhow::Error::from)
    })?;
    fs::write(&log.path, &outcome.output).context("can't write the log")?;
    ensure!(outcome.exit == 0, "the script in the guest ended with {}", outcome.exit);

    let scene = Scene::of(&prometheus)?;
    let mut tally = Tally::default();
    let mut judge = |what: &str, wrong: Vec<String>| {
        tally.add(Tally::of(wrong.is_empty()));
        for wrong in wrong {
            println!("      {what}: {wrong}");
        }
    };
    judge("push", pushed(&outcome.output));
    judge("alert", latency(&outcome.output, busy())?);
    judge("rules", scene.rules()?);
    judge("metrics", scene.metrics()?);
    for dashboard in dashboards()? {
        judge(&dashboard.name, scene.dashboard(&dashboard)?);
    }
    Ok(tally)
}

/// An Alertmanager on this port, from when on a push has failed until the guest has ended.
fn alertmanager(cache: &Cache, prometheus: &Prometheus, port: u16, ended: &AtomicBool) -> Result<()> {
    let mut running = None;
    while !ended.load(Ordering::Relaxed) {
        let failed = "iommu_watch_push_requests_total{outcome=\"failed\"} > 0";
        if running.is_none() && !prometheus.query(failed, None)?.is_empty() {
            running = Some(Alertmanager::start(cache, port)?);
        }
        thread::sleep(Duration::from_millis(100));
    }
    ensure!(running.is_some(), "the daemon never tried to push");
    Ok(())
}

/// The alert as Alertmanager had it, and that it has ended.
fn pushed(output: &str) -> Vec<String> {
    let told = output.lines().find_map(|line| line.strip_prefix("@ alerts "));
    let alerts: Value = told.and_then(|told| serde_json::from_str(told).ok()).unwrap_or_default();
    let mut wrong = Vec::new();
    let alert = &alerts[0];
    let labels = ["alertname", "check", "severity", "group", "host", "fingerprint"];
    let there: Option<BTreeSet<&str>> =
        alert["labels"].as_object().map(|all| all.keys().map(String::as_str).collect());
    if array(&alerts).len() != 1 || there != Some(labels.into()) {
        wrong.push(format!("Alertmanager had {alerts}"));
    }
    for (label, value) in [("alertname", ALERT), ("check", "pasid-left-on-release"), ("severity", "critical")]
    {
        if alert["labels"][label] != value {
            wrong.push(format!("{label} is {}, not {value}", alert["labels"][label]));
        }
    }
    if alert["annotations"]["runbook_url"]
        != "https://runbooks.example.com/docs/checks/pasid-left-on-release.md"
    {
        wrong.push(format!("the runbook is at {}", alert["annotations"]["runbook_url"]));
    }
    if !output.lines().any(|line| line == "@ no alerts") {
        wrong.push("it has never ended".into());
    }
    wrong
}

/// Whether twice as many tasks want to run as there are processors: guest and Prometheus are about as many by themselves.
/// Their time is then not ours to judge.
fn busy() -> bool {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Option<f64> = load.split(' ').next().and_then(|load| load.parse().ok());
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    load.is_some_and(|load| load > 2.0 * processors as f64)
}

/// How long the alert took, by the guest.
fn latency(output: &str, busy: bool) -> Result<Vec<String>> {
    let told = output.lines().find_map(|line| line.strip_prefix("@ fired after ")?.strip_suffix(" ms"));
    let took = Duration::from_millis(told.context("the guest tells of no alert")?.parse()?);
    println!("      from the call that broke the rule to the alert that fires: {:.2} s", took.as_secs_f64());
    let late = took > AT_MOST;
    if late && busy {
        println!("      that is too long, on a machine that is too busy to be held to it");
    }
    Ok((late && !busy)
        .then(|| format!("{ALERT} fired after {took:?}; {AT_MOST:?} are allowed"))
        .into_iter()
        .collect())
}

/// A Prometheus with the data, and the moment before they end.
struct Scene<'a> {
    prometheus: &'a Prometheus,
    end: f64,
    /// What the dashboards' variables stand for.
    values: Vec<(&'static str, String)>,
}

impl<'a> Scene<'a> {
    fn of(prometheus: &'a Prometheus) -> Result<Self> {
        // The last scrape that had an answer: after it, series are stale.
        let last = prometheus.query("max_over_time(timestamp(iommu_watch_build_info)[5m:1s])", None)?;
        let end: f64 = last.first().and_then(value).context("Prometheus scraped no daemon")?.parse()?;
        let label = |expression: &str, name: &str| -> Result<String> {
            let series = prometheus.query(expression, Some(end))?;
            let found = series.first().and_then(|series| series["metric"][name].as_str());
            found.map(str::to_owned).with_context(|| format!("no {name} in {expression}"))
        };
        let values = vec![
            ("$__rate_interval", "8s".into()),
            ("$check", ".*".into()),
            ("$instance", label("iommu_watch_build_info", "instance")?),
            ("$group", label("iommu_watch_group_pasids > 0", "group")?),
        ];
        Ok(Self { prometheus, end, values })
    }

    /// Every rule works, and the one alert fires, and no other.
    fn rules(&self) -> Result<Vec<String>> {
        let mut wrong = Vec::new();
        let answer = self.prometheus.api("/api/v1/rules")?;
        let rules: Vec<&Value> =
            array(&answer["groups"]).iter().flat_map(|group| array(&group["rules"])).collect();
        ensure!(!rules.is_empty(), "Prometheus has no rules");
        for rule in rules {
            if rule["health"] != "ok" {
                wrong.push(format!("{}: {}", rule["name"], rule["lastError"]));
            }
            if rule["type"] == "recording" {
                let name = rule["name"].as_str().unwrap_or_default();
                if self.prometheus.query(name, Some(self.end))?.is_empty() {
                    wrong.push(format!("{name} recorded nothing"));
                }
            }
        }
        let firing = self.prometheus.query("ALERTS{alertstate=\"firing\"}", Some(self.end))?;
        let names: Vec<&str> =
            firing.iter().filter_map(|alert| alert["metric"]["alertname"].as_str()).collect();
        if names != [ALERT] {
            wrong.push(format!("{names:?} fire, not {ALERT} alone"));
        }
        Ok(wrong)
    }

    /// Every metric that rules and dashboards name is there.
    fn metrics(&self) -> Result<Vec<String>> {
        let answer = self.prometheus.api("/api/v1/label/__name__/values")?;
        let there: BTreeSet<&str> = array(&answer).iter().filter_map(Value::as_str).collect();
        let mut wrong = Vec::new();
        let mut named = BTreeSet::new();
        for file in files(&directory(), "json").into_iter().chain(rule_files()) {
            let text = fs::read_to_string(&file).with_context(|| format!("can't read {}", file.display()))?;
            let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
            named.extend(words.filter(|word| word.contains("iommu_watch_")).map(str::to_owned));
        }
        ensure!(!named.is_empty(), "rules and dashboards name no metric");
        wrong.extend(
            named.iter().filter(|name| !there.contains(name.as_str())).map(|name| format!("no {name}")),
        );
        Ok(wrong)
    }

    fn dashboard(&self, dashboard: &Dashboard) -> Result<Vec<String>> {
        let mut wrong = Vec::new();
        for variable in array(&dashboard.json["templating"]["list"]) {
            let Some(query) = variable["query"]["query"].as_str() else { continue };
            let (series, label) = query
                .strip_prefix("label_values(")
                .and_then(|rest| rest.strip_suffix(')')?.rsplit_once(", "))
                .with_context(|| format!("{query}: not understood"))?;
            let choices = format!("group by ({label}) ({})", self.filled(series));
            if self.prometheus.query(&choices, Some(self.end))?.is_empty() {
                wrong.push(format!("nothing to choose for {query}"));
            }
        }
        for panel in array(&dashboard.json["panels"]) {
            wrong.extend(self.panel(panel)?);
        }
        Ok(wrong)
    }

    fn panel(&self, panel: &Value) -> Result<Vec<String>> {
        let title = panel["title"].as_str().unwrap_or_default();
        let mut wrong = Vec::new();
        let mut labels = BTreeSet::new();
        for target in array(&panel["targets"]) {
            let expression = self.filled(target["expr"].as_str().unwrap_or_default());
            let found = if target["range"] == true {
                self.prometheus.query_range(&expression, self.end - SPAN, self.end)
            } else {
                self.prometheus.query(&expression, Some(self.end))
            };
            let series = match found {
                Ok(series) => series,
                Err(error) => {
                    wrong.push(format!("{title}: {error}"));
                    continue;
                }
            };
            let may_be_empty =
                EMPTY.iter().any(|(what, _)| *what == title || target["legendFormat"] == *what);
            let empty = !series.iter().any(has_data);
            if empty && !may_be_empty {
                wrong.push(format!("{title}: no data for {expression}"));
            }
            for metric in series.iter().filter_map(|series| series["metric"].as_object()) {
                labels.extend(metric.keys().cloned());
            }
        }
        if panel["type"] == "table" && !labels.is_empty() {
            wrong.extend(columns(panel, &labels)?.into_iter().map(|wrong| format!("{title}: {wrong}")));
        }
        Ok(wrong)
    }

    fn filled(&self, expression: &str) -> String {
        self.values.iter().fold(expression.to_owned(), |text, (name, value)| text.replace(name, value))
    }
}

/// What a table's columns and the labels of its data don't have in common.
fn columns(panel: &Value, labels: &BTreeSet<String>) -> Result<Vec<String>> {
    let organize = array(&panel["transformations"]).iter().find(|one| one["id"] == "organize");
    let options = &organize.context("a table without columns")?["options"];
    let names = |key: &str| -> BTreeSet<String> {
        options[key].as_object().map(|members| members.keys().cloned().collect()).unwrap_or_default()
    };
    let (shown, left_out) = (names("indexByName"), names("excludeByName"));
    if shown.is_empty() {
        bail!("a table that shows nothing");
    }
    let unknown = shown
        .iter()
        .filter(|name| !name.starts_with("Value") && !labels.contains(*name) && name.as_str() != MAY_LACK);
    let stray = labels.iter().filter(|label| !shown.contains(*label) && !left_out.contains(*label));
    Ok(unknown
        .map(|name| format!("no label {name} in its data"))
        .chain(stray.map(|label| format!("label {label} is neither shown nor left out")))
        .collect())
}

/// A number at any time: a mean or a quantile of nothing is none.
fn has_data(series: &Value) -> bool {
    let samples = array(&series["values"]).iter().chain([&series["value"]]);
    samples.filter_map(|sample| array(sample).get(1)?.as_str()).any(|value| value != "NaN")
}

/// The value of a sample.
fn value(series: &Value) -> Option<&str> {
    array(&series["value"]).get(1)?.as_str()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_late_alert_is_told_where_the_machine_was_free() {
        assert!(latency("x\n@ fired after 3999 ms\n", false).unwrap().is_empty());
        assert_eq!(latency("@ fired after 4001 ms\n", false).unwrap().len(), 1);
        assert!(latency("@ fired after 4001 ms\n", true).unwrap().is_empty());
        assert!(latency("nothing\n", true).is_err());
    }

    #[test]
    fn what_is_no_number_is_no_data() {
        assert!(has_data(&json!({ "value": [1, "0"] })));
        assert!(has_data(&json!({ "values": [[1, "NaN"], [2, "3"]] })));
        assert!(!has_data(&json!({ "value": [1, "NaN"] })));
        assert!(!has_data(&json!({ "values": [[1, "NaN"]] })));
    }

    #[test]
    fn a_column_without_a_label_and_a_label_without_a_column_are_told() {
        let options = json!({ "indexByName": { "a": 0, "Value": 1 }, "excludeByName": { "job": true } });
        let panel = json!({ "transformations": [{ "id": "organize", "options": options }] });
        let labels = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        assert!(columns(&panel, &labels(&["a", "job"])).unwrap().is_empty());
        assert_eq!(columns(&panel, &labels(&["b"])).unwrap().len(), 2);
    }
}
