//! The reference of the metrics, and the guard that rules and dashboards name only metrics that there are.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use monitor::report::metrics::{FAMILIES, HISTOGRAMS};
use prometheus::proto::MetricType;

use crate::Page;
use crate::text::code;

const PREFIX: &str = "iommu_watch_";

/// What a label says. Every label of every metric has its row.
const LABELS: [(&str, &str); 24] = [
    ("check", "the name of a check: [docs/checks](checks/README.md)"),
    ("severity", "critical, warning, info"),
    (
        "state",
        "armed; degraded: it misses a part; unavailable: what it needs isn't there; not-applicable: there is no such thing on this kernel or driver; off: by the operator",
    ),
    ("hook", "the name of a hook, as `iommu-watch doctor` lists it"),
    ("event", "the name of a hook"),
    ("backend", "fentry, kprobe, tracepoint; none: the hook isn't attached"),
    ("knowledge", "synced: the group's state is known; unknown: it isn't, and nothing is raised on it"),
    ("group", "the number of an IOMMU group, as in /sys/kernel/iommu_groups"),
    ("device", "the name of a device: for PCI its address"),
    ("driver", "the driver that is bound to the device; empty if none is"),
    ("iommu_driver", "the driver of the IOMMU: intel, amd, arm-smmu-v3, …"),
    ("domain_kind", "dma, dma-fq, identity, blocked, unmanaged, sva, nested, …; unknown"),
    ("errno", "the name of the error, of a closed set; other"),
    (
        "stage",
        "kernel: a program did not run or came to no end in time, or a call could not be remembered; ring: the ring was full; queue: userspace didn't keep up; recording: a recording has a gap",
    ),
    (
        "verdict",
        "affected, fixed; absent: the kernel has nothing that the defect could be in; undecided: its types and symbols don't tell",
    ),
    ("rule", "a rule of the API, as `iommu-watch conformance report` lists it"),
    (
        "conformance",
        "conforms, violates, not exercised; allowed: it violates, and the configuration expects that",
    ),
    ("advisory", "the name of a known defect, as `iommu-watch doctor -v` lists it"),
    ("reason", "start, loss, audit, request; call: a call asked for a look at its group"),
    (
        "scope",
        "what is dropped. iotlb: translations in the IOMMU; pasid_cache: PASID entries in the IOMMU; device_tlb: translations in devices; context: what a RID leads to; drain: page requests are waited for",
    ),
    (
        "result",
        "covered: the cache was told to drop all of what was to be flushed; short: not all of it; undecided: caches came or went, or something was attached or detached, meanwhile",
    ),
    ("outcome", "accepted; failed: nobody answered in time, or with another status than 2xx"),
    ("version", "the version of iommu-watch"),
    ("release", "the kernel's release, as `uname -r` prints it"),
];

struct Family {
    name: String,
    kind: &'static str,
    help: String,
    labels: Vec<&'static str>,
}

/// Every family, the histograms behind the others.
fn families() -> Vec<Family> {
    let mut families: Vec<Family> = FAMILIES
        .iter()
        .map(|family| Family {
            name: format!("{PREFIX}{}", family.name),
            kind: kind(family.kind),
            help: family.help.to_owned(),
            labels: family.labels.to_vec(),
        })
        .collect();
    families.extend(HISTOGRAMS.map(|(name, help)| Family {
        name: format!("{PREFIX}{name}"),
        kind: kind(MetricType::HISTOGRAM),
        help: help.to_owned(),
        labels: Vec::new(),
    }));
    families
}

fn kind(kind: MetricType) -> &'static str {
    match kind {
        MetricType::COUNTER => "counter",
        MetricType::HISTOGRAM => "histogram",
        _ => "gauge",
    }
}

pub fn page() -> Result<Page> {
    let families = families();
    let mut text = String::from(
        "# The metrics\n\nServed at `/metrics`, in Prometheus's text format. No PASID, pointer, pid, name of a task or \
         free text is ever the\nvalue of a label: labels have closed sets, or the size of the hardware. Counters start \
         at 0 with the daemon.\n\n| metric | kind | labels | |\n|---|---|---|---|\n",
    );
    for Family { name, kind, help, labels } in &families {
        let labels = labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        let _ = writeln!(text, "| `{name}` | {kind} | {labels} | {} |", code(help));
    }
    let meanings: BTreeMap<&str, &str> = LABELS.into();
    let mut seen = BTreeSet::new();
    text.push_str("\n## The labels\n| label | values |\n|---|---|\n");
    for &label in families.iter().flat_map(|family| &family.labels) {
        if seen.insert(label) {
            let Some(meaning) = meanings.get(label) else {
                bail!("label `{label}` has no words in xtask/pages")
            };
            let _ = writeln!(text, "| `{label}` | {meaning} |");
        }
    }
    text.push_str("\n---\nWritten by `cargo xtask docs` from `monitor/src/report/metrics.rs`.\n");
    Ok(Page { path: "docs/metrics.md".into(), text })
}

/// Fails where a file below `dir` names a metric that nothing serves, or a record that no rule makes.
pub fn names_exist(dir: &Path, records: &BTreeSet<&str>) -> Result<()> {
    let mut known = BTreeSet::new();
    for family in families() {
        if family.kind == "histogram" {
            known.extend(["_bucket", "_sum", "_count"].map(|suffix| format!("{}{suffix}", family.name)));
        }
        known.insert(family.name);
    }
    for entry in dir.read_dir().with_context(|| format!("can't read {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            names_exist(&path, records)?;
            continue;
        }
        let text = fs::read_to_string(&path).with_context(|| format!("can't read {}", path.display()))?;
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
        let unknown: BTreeSet<&str> = words
            .filter(|word| match word.find(PREFIX) {
                Some(0) => !known.contains(*word),
                Some(_) => word.contains(':') && !records.contains(word),
                None => false,
            })
            .collect();
        if !unknown.is_empty() {
            let unknown = unknown.into_iter().collect::<Vec<_>>().join(", ");
            bail!("{} names what no metric is called: {unknown}", path.display());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use monitor::check::CheckState;
    use monitor::input::{Resync, Stage};
    use monitor_ebpf::descriptor::Scope;

    use super::*;

    /// The words above name every value that there is.
    #[test]
    fn the_words_on_a_label_name_all_of_its_values() {
        let meanings: BTreeMap<&str, &str> = LABELS.into();
        let closed = [
            ("state", CheckState::NAMES.to_vec()),
            ("stage", Stage::ALL.map(Stage::name).to_vec()),
            ("reason", Resync::ALL.map(Resync::name).to_vec()),
            ("scope", Scope::ALL.map(Scope::name).to_vec()),
        ];
        for (label, values) in closed {
            assert!(values.iter().all(|value| meanings[label].contains(value)), "{label}: {values:?}");
        }
    }

    #[test]
    fn the_histograms_are_listed_too() {
        let histograms = families().into_iter().filter(|family| family.kind == "histogram");
        let names: Vec<String> = histograms.map(|family| family.name).collect();
        assert!(names.contains(&"iommu_watch_detection_latency_seconds".to_owned()), "{names:?}");
        assert!(names.contains(&"iommu_watch_invalidation_duration_seconds".to_owned()), "{names:?}");
    }
}
