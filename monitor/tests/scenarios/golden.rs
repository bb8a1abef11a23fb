//! Whole outputs, held against files. `UPDATE_GOLDEN=1 cargo test -p monitor` writes them anew: look at the diff.

use std::path::Path;
use std::sync::{Arc, Mutex};

use monitor::check::REGISTRY;
use monitor::event::Key;
use monitor::input::{Input, Lost, Resync, Stage};
use monitor::inventory::{DeviceEntry, GroupEntry, Inventory};
use monitor::report::metrics::{self, Build, Metrics};
use monitor::report::text::Style;
use monitor::report::{Clock, Context, Stacks, explain, json, openmetrics, text};
use monitor::watcher::{
    GroupState, Options, Pushed, Report, Spooled, Suppressed, SuppressedBy, Told, Watcher,
};
use prometheus::proto::MetricType;
use prometheus::{Encoder, Registry, TextEncoder};

use crate::kernel::{Call, Era};
use crate::rig::{D1, D2, NIC, NVME, OWNER, Rig, driver, options, other, vfio};

struct Frames;

impl Stacks for Frames {
    fn frames(&self, id: u32) -> Option<Vec<String>> {
        (id == 100).then(|| vec!["iommu_attach_device_pasid+0x1".into(), "driver_probe+0x42 [driver]".into()])
    }
}

fn context() -> Context<'static> {
    let clock = Clock { offset_ns: 1_795_353_000_000_000_000 };
    Context { host: "node7", kernel: "6.12.117", synthetic: false, clock, stacks: &Frames }
}

#[track_caller]
fn golden(name: &str, output: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, output).expect("write the golden file");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    for (number, (line, wanted)) in output.lines().zip(expected.lines()).enumerate() {
        assert_eq!(line, wanted, "{}, line {}", path.display(), number + 1);
    }
    assert_eq!(output.lines().count(), expected.lines().count(), "lines in {}", path.display());
}

fn inventory() -> Inventory {
    let device = |name: &str, driver: &str| DeviceEntry {
        name: name.into(),
        driver: Some(driver.into()),
        iommu: Some("dmar0".into()),
        iommu_driver: Some("intel".into()),
    };
    let devices = vec![device(NVME, "nvme"), device(NIC, "e1000e")];
    Inventory { groups: vec![GroupEntry { id: 7, default_domain: Some("DMA-FQ".into()), devices }] }
}

/// One sample of every kind of line.
fn story() -> Rig {
    let mut rig = Rig::unwatched(Era::Handles);
    rig.watcher = Watcher::new(Options { events: true, ..options(Era::Handles) });
    rig.tell(Input::Start);
    rig.tell(Input::Inventory(inventory()));
    rig.tell(Input::Resync(Resync::Start));
    rig.bootstrap();
    rig.calls(&vfio(), [Call::Claim { group: 7, owner: OWNER }]);
    rig.calls(&driver(), [Call::Attach { device: NVME, pasid: 5, domain: D1 }]);
    rig.call(&driver(), Call::Attach { device: NVME, pasid: 5, domain: D1 });
    rig.kernel.sleep(3_200_000_000);
    rig.calls(&vfio(), [Call::Release { group: 7 }]);
    rig.calls(&other(), [Call::Detach { device: NVME, pasid: 5, domain: D2 }]);
    rig.calls(&vfio(), [Call::Release { group: 7 }]);
    rig.idle(20 * 60 * 1_000_000_000);
    let group = Key::new(rig.kernel.groups[&7].key);
    rig.tell(Input::Lost(Lost {
        stage: Stage::Ring,
        count: 10_000,
        groups: Some(group.into_iter().collect()),
    }));
    rig.lose(Stage::Kernel, 12);
    rig.tell(Input::Resync(Resync::Loss));
    rig.kernel.group_mut(7).devices[1].table = rig.kernel.groups[&7].devices[0].table;
    rig.kernel.snapshot_all();
    rig.watch();
    let now = rig.kernel.now;
    let mut reports = std::mem::take(&mut rig.reports);
    reports.push(Report::Suppressed(Suppressed {
        mono_ns: now,
        by: SuppressedBy::Rate,
        lines: 214,
        total: 214,
        checks: vec![("attach-imbalance", 203), ("pasid-left-on-release", 11)],
    }));
    rig.watcher.told(Told {
        dropped: 3,
        suppressed: [("attach-imbalance", 203), ("pasid-left-on-release", 11)].into(),
        spool: Some(Spooled { usable: true, lines: 40, bytes: 4096 }),
        push: Some(Pushed { accepted: 5, failed: 2, dropped: 0, waiting: 1 }),
    });
    rig.watcher.reported(&reports, now);
    rig.reports = reports;
    rig
}

#[test]
fn json_lines_are_the_contract() {
    let rig = story();
    let lines: Vec<String> = rig.reports.iter().map(|report| json::line(report, &context())).collect();
    for kind in ["violation", "resolved", "event", "loss", "state", "check-state"] {
        assert!(
            lines.iter().any(|line| line.contains(&format!("\"kind\":\"{kind}\""))),
            "no line of kind {kind}"
        );
    }
    golden("story.jsonl", &(lines.join("\n") + "\n"));
}

/// As /api/v1/groups and the one-shot give them.
#[test]
fn groups_come_with_the_hardware_tables_of_their_devices() {
    let mut rig = story();
    rig.calls(&driver(), [Call::Attach { device: NVME, pasid: 6, domain: D1 }]);
    rig.kernel.snapshot_all();
    rig.watch();
    let groups = rig.watcher.groups();
    let object = |group: &GroupState| json::group(group, rig.watcher.tables(group.id).as_ref(), &context());
    let groups: Vec<String> = groups.iter().map(|group| object(group).to_string()).collect();
    golden("groups.json", &format!("[{}]\n", groups.join(",\n")));
}

#[test]
fn text_is_what_a_person_reads() {
    let rig = story();
    let lines: Vec<String> =
        rig.reports.iter().map(|report| text::report(report, &context(), Style::default())).collect();
    golden("story.txt", &(lines.join("\n") + "\n"));
}

#[test]
fn colours_are_there_only_if_asked_for() {
    let rig = story();
    let violation = rig.reports.iter().find(|report| matches!(report, Report::Violation(_))).expect("one");
    let plain = text::report(violation, &context(), Style::default());
    let coloured = text::report(violation, &context(), Style { color: true, ..Style::default() });
    assert!(!plain.contains('\x1b'));
    assert_eq!(coloured.replace("\x1b[1;31m", "").replace("\x1b[0m", ""), plain);
}

#[test]
fn no_output_has_an_address_in_it() {
    let rig = story();
    let keys =
        [10_007, D1, D2, OWNER, rig.kernel.groups[&7].devices[0].key, rig.kernel.groups[&7].devices[0].table];
    for report in &rig.reports {
        let line = json::line(report, &context());
        let debug = format!("{report:?}");
        for key in keys {
            for form in [format!(":{key},"), format!(":{key}}}"), format!("{key:#x}"), format!("\"{key}\"")] {
                assert!(!line.contains(&form), "{form} in {line}");
            }
            assert!(!debug.contains(&format!("Key({key}")), "{debug}");
        }
    }
}

#[test]
fn metrics_have_every_family_from_the_start() {
    let rig = story();
    let watcher = Arc::new(Mutex::new(rig.watcher));
    let build = Build { version: "0.1.0".into(), start_seconds: 1_795_353_000.0 };
    let registry = Registry::new();
    let metrics = Metrics::new(watcher, build).expect("families");
    registry.register(Box::new(metrics)).expect("no two families of one name");
    let mut output = Vec::new();
    TextEncoder::new().encode(&registry.gather(), &mut output).expect("text");
    golden("metrics.prom", &String::from_utf8(output).expect("UTF-8"));
}

/// As Prometheus gets them, which parses them in `cargo xtask test prometheus`.
#[test]
fn open_metrics_have_the_same_families_and_an_end() {
    let mut rig = story();
    let build = Build { version: "0.1.0".into(), start_seconds: 1_795_353_000.0 };
    let families = metrics::collect(&mut rig.watcher, &build);
    let (open, text) =
        (openmetrics::encode(&families), TextEncoder::new().encode_to_string(&families).expect("text"));
    assert!(open.ends_with("\n# EOF\n") && open.matches("# EOF").count() == 1);
    // But for the names of the counters' families, how bounds are written, and the order of two lines, they are the same.
    let samples = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.map(|line| line.replace(".0\"}", "\"}")).collect()
    };
    for (open, text) in samples(&open).iter().zip(samples(&text)) {
        // Not the sum before the count: the order within a histogram is its own.
        if !text.contains("_sum ") && !text.contains("_count ") {
            assert_eq!(*open, text);
        }
    }
    assert_eq!(samples(&open).len(), samples(&text).len());
    for family in &families {
        let counter = family.get_field_type() == MetricType::COUNTER;
        assert_eq!(family.name().ends_with("_total"), counter, "{}", family.name());
        let told = family.name().trim_end_matches("_total");
        assert!(
            open.contains(&format!("# TYPE {told} ")) && open.contains(&format!("# HELP {told} ")),
            "{told}"
        );
    }
}

#[test]
fn all_pairs_of_check_and_severity_are_at_0_from_the_start() {
    let watcher = Arc::new(Mutex::new(Watcher::new(options(Era::Owners))));
    let registry = Registry::new();
    let metrics = Metrics::new(watcher, Build::default()).expect("families");
    registry.register(Box::new(metrics)).expect("no two families of one name");
    let text = TextEncoder::new().encode_to_string(&registry.gather()).expect("text");
    for check in REGISTRY {
        for severity in check.spec().severities {
            for family in ["violations_total", "violations_active"] {
                let (check, severity) = (check.spec().name, severity.name());
                let line = format!("iommu_watch_{family}{{check=\"{check}\",severity=\"{severity}\"}} 0");
                assert!(text.contains(&line), "{line}");
            }
        }
    }
}

#[test]
fn the_checks_explain_themselves() {
    let watcher = Watcher::new(options(Era::Owners));
    let mut output = explain::list(watcher.checks().map(|(spec, state)| (spec, Some(state))));
    for (spec, state) in watcher.checks() {
        output.push_str("\n\n");
        output.push_str(&explain::explain(spec, Some(state), 100));
    }
    golden("checks.txt", &output);
    let json = explain::list_json(REGISTRY.iter().map(|check| (check.spec(), None)));
    golden("checks.json", &(serde_json::to_string_pretty(&json).expect("JSON") + "\n"));
}

#[test]
fn the_fingerprint_is_the_same_in_another_run() {
    let fingerprints = |rig: &Rig| -> Vec<String> {
        let violations = rig.reports.iter().filter_map(|report| match report {
            Report::Violation(violation) => Some(violation.fingerprint.to_string()),
            _ => None,
        });
        violations.collect()
    };
    let (one, two) = (fingerprints(&story()), fingerprints(&story()));
    assert_eq!(one, two);
    assert_eq!(one.len(), 3);
    assert!(one.iter().all(|fingerprint| fingerprint.len() == 16));
}
