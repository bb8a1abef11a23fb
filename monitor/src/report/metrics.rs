//! The metrics, read from the watcher at the time of the scrape. Every family is a row of a table.

mod checks;
mod output;
mod verdicts;

use std::sync::{Arc, Mutex};

use monitor_ebpf::descriptor::Scope;
use monitor_ebpf::wire::Hook;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};

use crate::coverage::HookState;
use crate::errno::{ERRNOS, OTHER_ERRNO};
use crate::input::{Resync, Stage};
use crate::invalidations::SAMPLED;
use crate::lock::lock;
use crate::watcher::{Calls, GroupState, Knowledge, LATENCY_BOUNDS, Watcher};
use checks::{
    check_state, deviations, deviations_over, expected_active, expected_total, violations_active,
    violations_total,
};
use output::{push_requests, pushed, spooled, suppressed};
use verdicts::{advisories, advisories_date, advisory_info, conformance};

/// What is said of the program itself.
#[derive(Clone, Debug, Default)]
pub struct Build {
    pub version: String,
    /// When the program started, in seconds since the epoch.
    pub start_seconds: f64,
}

/// A metric family: its name without the prefix, and how to fill it.
pub struct Family {
    pub name: &'static str,
    pub kind: MetricType,
    pub help: &'static str,
    pub labels: &'static [&'static str],
    fill: fn(&Scrape<'_>) -> Vec<Sample>,
}

/// What every name begins with.
const PREFIX: &str = "iommu_watch_";

/// One line of a family: the values of its labels, in their order, and its value.
struct Sample {
    labels: Vec<String>,
    value: f64,
}

/// The watcher as it is at a scrape.
struct Scrape<'a> {
    watcher: &'a Watcher,
    groups: Vec<GroupState>,
    build: &'a Build,
}

/// Every family, in the order of the reference. The histograms ([`HISTOGRAMS`]) are filled by themselves.
#[rustfmt::skip]
pub static FAMILIES: [Family; 46] = [
    counter("violations_total", "Violations raised that nobody expected, by check and severity.", &["check", "severity"], violations_total),
    gauge("violations_active", "Violations that stand now and that nobody expects, by check and severity.", &["check", "severity"], violations_active),
    counter("violations_expected_total", "Violations that the configuration expected when they were raised, by check and severity.", &["check", "severity"], expected_total),
    gauge("violations_expected_active", "Violations that stand now and that the configuration expects, by check and severity.", &["check", "severity"], expected_active),
    counter("violations_suppressed_total", "Violations not raised because too many were open.", &[], |scrape| one(scrape.watcher.suppressed() as f64)),
    gauge("expected_deviations", "Deviations that the configuration expects now.", &[], deviations),
    gauge("expected_deviations_over", "Deviations that the configuration expected until a day that is over: they have no say any more.", &[], deviations_over),
    gauge("config_reload_success", "1 if the last reading of the configuration, and of the web configuration, was good, else 0: the one before is kept.", &[], config_reload_success),
    gauge("config_last_reload_success_timestamp_seconds", "When the configuration was last read and good, in seconds since the epoch.", &[], |scrape| one(scrape.watcher.counters().config.read_at_seconds)),
    gauge("check_state", "1 for the state that a check is in, else 0.", &["check", "state"], check_state),
    gauge("hook_attached", "1 if the hook listens, else 0; by what it listens.", &["hook", "backend"], hook_attached),
    gauge("unwatched_seconds", "For how long nobody was reading what the kernel recorded, before this process took over from another; 0 where it began anew.", &[], |scrape| one(scrape.watcher.counters().unwatched_ns as f64 / 1e9)),
    gauge("groups", "IOMMU groups, by whether their state is known.", &["knowledge"], groups),
    gauge("group_pasids", "PASIDs attached in a group whose PASIDs are known.", &["group"], group_pasids),
    gauge("sva_bonds", "SVA bonds in a group, of those whose bind was seen.", &["group"], sva_bonds),
    gauge("group_info", "A group: its IOMMU driver, and the kind of domain that it is attached to.", &["group", "iommu_driver", "domain_kind"], group_info),
    gauge("device_info", "A member of a group: its driver, and its IOMMU's.", &["group", "device", "driver", "iommu_driver"], device_info),
    counter("dma_owner_claims_total", "Claims of DMA ownership that returned, failed ones included.", &[], |scrape| one(scrape.watcher.counters().claims.total as f64)),
    counter("dma_owner_claim_failures_total", "Claims of DMA ownership that failed.", &["errno"], |scrape| failures(&scrape.watcher.counters().claims)),
    counter("pasid_attaches_total", "Attaches of a PASID that returned, failed ones included.", &[], |scrape| one(scrape.watcher.counters().attaches.total as f64)),
    counter("pasid_attach_failures_total", "Attaches of a PASID that failed.", &["errno"], |scrape| failures(&scrape.watcher.counters().attaches)),
    counter("sva_binds_total", "SVA binds that returned, failed ones included.", &[], |scrape| one(scrape.watcher.counters().binds.total as f64)),
    counter("sva_bind_failures_total", "SVA binds that failed.", &["errno"], |scrape| failures(&scrape.watcher.counters().binds)),
    counter("output_suppressed_total", "Violations that no line and no push told of because they came faster than is let through, by check.", &["check"], suppressed),
    counter("output_dropped_total", "Lines that were not written because whoever reads stdout did not keep up, or because they were damaged in the spool.", &[], |scrape| one(scrape.watcher.counters().told.dropped as f64)),
    gauge("spool_usable", "1 if the spool takes lines for which there is no reader, else 0; there is none without a directory.", &[], |scrape| spooled(scrape, |spool| f64::from(u8::from(spool.usable)))),
    gauge("spool_bytes", "What waits in the spool to be written, in bytes.", &[], |scrape| spooled(scrape, |spool| spool.bytes as f64)),
    counter("spool_lines_total", "Lines that went to the spool because nobody took them.", &[], |scrape| spooled(scrape, |spool| spool.lines as f64)),
    counter("push_requests_total", "Requests that pushed violations, by what came of them.", &["outcome"], push_requests),
    counter("push_dropped_total", "Alerts and lines that were not pushed, for want of room or because they were refused.", &[], |scrape| pushed(scrape, |push| push.dropped)),
    gauge("push_waiting", "Alerts and lines that wait to be pushed.", &[], |scrape| pushed(scrape, |push| push.waiting)),
    counter("events_total", "Calls seen, by hook.", &["event"], events_total),
    counter("events_lost_total", "Events lost, by where. What they were about is not judged until it is read again.", &["stage"], events_lost),
    counter("hook_misses_total", "Calls that a hook did not report, as a read of the kernel's state showed.", &["hook"], hook_misses),
    counter("resyncs_total", "Readings of the groups' state from the kernel, by why.", &["reason"], resyncs),
    counter("invalidations_total", "Descriptors or commands given to the IOMMU's queue, by what they drop.", &["iommu_driver", "scope"], invalidations_total),
    counter("flush_ranges_total", "Flushes of a range that flush-range-short judged, by cache and by what came of it.", &["iommu_driver", "result"], flush_ranges),
    counter("io_page_faults_total", "Faults of devices' DMA that the IOMMU's driver told of. AMD's does; VT-d's and SMMUv3's write to the kernel's log alone.", &["iommu_driver"], io_page_faults),
    counter("invalidation_failures_total", "Submissions to the IOMMU's queue that returned an error.", &["iommu_driver"], invalidation_failures),
    gauge("conformance", "1 for the verdict on an IOMMU driver by a rule of the API, else 0; a violation that is allowed is none.", &["iommu_driver", "rule", "conformance"], conformance),
    gauge("advisories", "Known defects of kernels, by what this kernel's types say of them.", &["verdict"], advisories),
    gauge("advisory_info", "A known defect of kernels, and what this kernel's types say of it.", &["advisory", "verdict"], advisory_info),
    gauge("advisories_timestamp_seconds", "As of when the list of known defects is, in seconds since the epoch.", &[], advisories_date),
    gauge("build_info", "The program.", &["version"], |scrape| vec![sample([&scrape.build.version], 1.0)]),
    gauge("kernel_info", "The running kernel.", &["release"], |scrape| vec![sample([&scrape.watcher.options().kernel], 1.0)]),
    gauge("start_time_seconds", "When the program started, in seconds since the epoch.", &[], |scrape| one(scrape.build.start_seconds)),
];

const LATENCY: (&str, &str) =
    ("detection_latency_seconds", "From the kernel event that gave a violation away to its report.");
const INVALIDATION: (&str, &str) = (
    "invalidation_duration_seconds",
    "From a descriptor's submission to the return of the call that waits for it; of one in 256 of each type, by CPU.",
);
const _: () = assert!(SAMPLED == 256);

/// The histograms: name and help. None has a label.
pub const HISTOGRAMS: [(&str, &str); 2] = [LATENCY, INVALIDATION];

/// Reads a watcher at every scrape.
pub struct Metrics {
    watcher: Arc<Mutex<Watcher>>,
    build: Build,
    descs: Vec<Desc>,
}

impl Metrics {
    pub fn new(watcher: Arc<Mutex<Watcher>>, build: Build) -> prometheus::Result<Metrics> {
        let desc = |name: &str, help: &str, labels: &[&str]| {
            let labels = labels.iter().map(|&label| label.to_owned()).collect();
            Desc::new(format!("{PREFIX}{name}"), help.to_owned(), labels, Default::default())
        };
        let mut descs: Vec<Desc> = FAMILIES
            .iter()
            .map(|family| desc(family.name, family.help, family.labels))
            .collect::<prometheus::Result<_>>()?;
        for (name, help) in HISTOGRAMS {
            descs.push(desc(name, help, &[])?);
        }
        Ok(Metrics { watcher, build, descs })
    }
}

impl Collector for Metrics {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut watcher = lock(&self.watcher);
        collect(&mut watcher, &self.build)
    }
}

/// Every family that has a line now.
pub fn collect(watcher: &mut Watcher, build: &Build) -> Vec<MetricFamily> {
    let groups = watcher.groups();
    let scrape = Scrape { watcher, groups, build };
    let mut families: Vec<MetricFamily> = FAMILIES.iter().map(|family| family.collect(&scrape)).collect();
    families.push(detection(scrape.watcher));
    families.extend(invalidation(scrape.watcher));
    families.retain(|family| !family.get_metric().is_empty());
    families
}

impl Family {
    fn collect(&self, scrape: &Scrape<'_>) -> MetricFamily {
        let metrics = (self.fill)(scrape).into_iter().map(|sample| {
            let labels = self.labels.iter().zip(sample.labels).map(|(name, value)| label(name, value));
            let mut metric = Metric::from_label(labels.collect());
            match self.kind {
                MetricType::COUNTER => {
                    let mut counter = Counter::default();
                    counter.set_value(sample.value);
                    metric.set_counter(counter);
                }
                _ => {
                    let mut gauge = Gauge::default();
                    gauge.set_value(sample.value);
                    metric.set_gauge(gauge);
                }
            }
            metric
        });
        family(self.name, self.help, self.kind, metrics.collect())
    }
}

fn family(name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(format!("{PREFIX}{name}"));
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

fn detection(watcher: &Watcher) -> MetricFamily {
    let detection = &watcher.counters().detection;
    let mut cumulative = 0;
    let buckets = LATENCY_BOUNDS.iter().zip(detection.buckets).map(|(&bound, count)| {
        cumulative += count;
        (bound, cumulative)
    });
    histogram(LATENCY, buckets, detection.count, detection.seconds)
}

/// `None` where nothing counts them.
fn invalidation(watcher: &Watcher) -> Option<MetricFamily> {
    let counted = &watcher.counters().invalidations;
    counted.driver?;
    Some(histogram(INVALIDATION, counted.latency(), counted.timed(), counted.latency_ns as f64 / 1e9))
}

fn histogram(
    (name, help): (&str, &str),
    buckets: impl Iterator<Item = (f64, u64)>,
    count: u64,
    sum: f64,
) -> MetricFamily {
    let buckets = buckets.map(|(bound, cumulative)| {
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(bound);
        bucket.set_cumulative_count(cumulative);
        bucket
    });
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(count);
    histogram.set_sample_sum(sum);
    let mut metric = Metric::default();
    metric.set_histogram(histogram);
    family(name, help, MetricType::HISTOGRAM, vec![metric])
}

type Fill = fn(&Scrape<'_>) -> Vec<Sample>;

const fn counter(
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
    fill: Fill,
) -> Family {
    Family { name, kind: MetricType::COUNTER, help, labels, fill }
}

const fn gauge(
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
    fill: Fill,
) -> Family {
    Family { name, kind: MetricType::GAUGE, help, labels, fill }
}

fn label(name: &str, value: String) -> LabelPair {
    let mut label = LabelPair::default();
    label.set_name(name.to_owned());
    label.set_value(value);
    label
}

fn one(value: f64) -> Vec<Sample> {
    vec![Sample { labels: Vec::new(), value }]
}

fn sample<T: ToString, const N: usize>(labels: [T; N], value: f64) -> Sample {
    Sample { labels: labels.iter().map(T::to_string).collect(), value }
}

fn config_reload_success(scrape: &Scrape<'_>) -> Vec<Sample> {
    let config = &scrape.watcher.counters().config;
    one(f64::from(u8::from(!config.failed && !config.web_failed)))
}

fn hook_attached(scrape: &Scrape<'_>) -> Vec<Sample> {
    let hooks = scrape.watcher.options().coverage.iter();
    let samples = hooks.map(|(hook, state)| match state {
        HookState::Attached { backend } => sample([hook.name(), backend.name()], 1.0),
        HookState::Absent | HookState::Idle { .. } | HookState::Off | HookState::Failed { .. } => {
            sample([hook.name(), "none"], 0.0)
        }
    });
    samples.collect()
}

fn groups(scrape: &Scrape<'_>) -> Vec<Sample> {
    let count = |knowledge| scrape.groups.iter().filter(|group| group.knowledge == knowledge).count();
    Knowledge::ALL.map(|knowledge| sample([knowledge.name()], count(knowledge) as f64)).into()
}

fn group_pasids(scrape: &Scrape<'_>) -> Vec<Sample> {
    let groups = scrape.groups.iter();
    groups.filter_map(|group| Some(sample([group.id], group.pasids.as_ref()?.len() as f64))).collect()
}

fn sva_bonds(scrape: &Scrape<'_>) -> Vec<Sample> {
    scrape.groups.iter().map(|group| sample([group.id], group.bonds as f64)).collect()
}

fn group_info(scrape: &Scrape<'_>) -> Vec<Sample> {
    let info = |group: &GroupState| {
        let driver = group.iommu_driver.clone().unwrap_or_default();
        let kind = group.domain.as_ref().map_or("unknown", |domain| domain.kind);
        sample([group.id.to_string(), driver, kind.to_owned()], 1.0)
    };
    scrape.groups.iter().map(info).collect()
}

fn device_info(scrape: &Scrape<'_>) -> Vec<Sample> {
    let inventory = scrape.watcher.known_inventory();
    let samples = scrape.groups.iter().flat_map(|group| {
        group.devices.iter().map(move |name| {
            let entry = inventory.and_then(|known| known.group(group.id)?.device(name));
            let driver = entry.and_then(|entry| entry.driver.clone()).unwrap_or_default();
            let iommu = entry.and_then(|entry| entry.iommu_driver.clone()).unwrap_or_default();
            sample([group.id.to_string(), name.clone(), driver, iommu], 1.0)
        })
    });
    samples.collect()
}

/// Every errno of the closed set, from 0 on: the first failure would else be a new series, which no rate sees.
fn failures(calls: &Calls) -> Vec<Sample> {
    let names = ERRNOS.iter().map(|(_, name)| *name).chain([OTHER_ERRNO]);
    names.map(|name| sample([name], calls.failures.get(name).copied().unwrap_or(0) as f64)).collect()
}

fn events_total(scrape: &Scrape<'_>) -> Vec<Sample> {
    Hook::ALL
        .iter()
        .map(|&hook| sample([hook.name()], scrape.watcher.counters().events(hook) as f64))
        .collect()
}

fn events_lost(scrape: &Scrape<'_>) -> Vec<Sample> {
    Stage::ALL.map(|stage| sample([stage.name()], scrape.watcher.counters().lost(stage) as f64)).into()
}

fn hook_misses(scrape: &Scrape<'_>) -> Vec<Sample> {
    let counters = scrape.watcher.counters();
    Hook::ALL.iter().map(|&hook| sample([hook.name()], counters.leaks(hook) as f64)).collect()
}

fn resyncs(scrape: &Scrape<'_>) -> Vec<Sample> {
    Resync::ALL.map(|reason| sample([reason.name()], scrape.watcher.counters().resyncs(reason) as f64)).into()
}

fn invalidations_total(scrape: &Scrape<'_>) -> Vec<Sample> {
    let counted = &scrape.watcher.counters().invalidations;
    let Some(driver) = counted.driver else { return Vec::new() };
    Scope::ALL.map(|scope| sample([driver, scope.name()], counted.of(scope) as f64)).into()
}

fn io_page_faults(scrape: &Scrape<'_>) -> Vec<Sample> {
    let faults = scrape.watcher.counters().invalidations.faults;
    faults.map(|(driver, count)| sample([driver], count as f64)).into_iter().collect()
}

fn flush_ranges(scrape: &Scrape<'_>) -> Vec<Sample> {
    let counted = &scrape.watcher.counters().invalidations;
    let (Some(driver), Some(ranges)) = (counted.driver, counted.ranges) else { return Vec::new() };
    let named = ["covered", "short", "undecided"].into_iter().zip(ranges);
    named.map(|(result, count)| sample([driver, result], count as f64)).collect()
}

fn invalidation_failures(scrape: &Scrape<'_>) -> Vec<Sample> {
    let counted = &scrape.watcher.counters().invalidations;
    counted.driver.map_or(Vec::new(), |driver| vec![sample([driver], counted.failed as f64)])
}
