//! Recordings that no machine made: what a driver does by its source, where the testbed has no such hardware. Each says
//! so in its head, and with each line that comes of it. `UPDATE_GOLDEN=1 cargo test -p monitor` writes them anew.

mod amd;

use std::fs;
use std::path::{Path, PathBuf};

use monitor::replay::Replay;
use monitor::report::text::Style;
use monitor::report::{json, text};
use monitor::trace::{Recorder, Store, Target};
use monitor::watcher::{Options, Report};
use serde_json::Value;

use crate::rig::{Folder, Told};

fn file(extension: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/recordings/synthetic/amd-seed")
        .with_extension(extension)
}

/// The recording as it is told here.
fn written() -> Vec<u8> {
    let folder = Folder::new();
    let target = Target { path: folder.file(), max_size: 1 << 20, keep: 0, force: false };
    let mut recorder = Recorder::new(Store::create(target).expect("a file"), amd::origin(), &amd::coverage());
    let told = amd::told();
    let end = told.last().map_or(0, Told::mono_ns);
    told.iter().for_each(|one| one.tell(&mut recorder));
    let summary = recorder.finish(end);
    assert_eq!((summary.lost, summary.failure), (0, None));
    fs::read(folder.file()).expect("a recording")
}

/// All that is said of violations.
fn said(recording: &[u8]) -> String {
    let mut replay = Replay::open(recording, Options::default()).expect("a recording");
    let mut lines = String::new();
    while let Some(step) = replay.step() {
        for report in step.expect("a recording that is whole") {
            if matches!(report, Report::Violation(_) | Report::Resolved(_)) {
                lines += &(json::line(&report, &replay.context()) + "\n");
            }
        }
    }
    assert_eq!(replay.watcher.unknown_groups(), Vec::<u32>::new());
    lines
}

#[test]
fn the_kept_recording_says_what_the_telling_says() {
    let telling = written();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(file("iwrec"), &telling).expect("written");
        fs::write(file("jsonl"), said(&telling)).expect("written");
    }
    let kept = fs::read(file("iwrec")).expect("a recording");
    let expected = fs::read_to_string(file("jsonl")).expect("what it says");
    assert_eq!(said(&telling), expected);
    assert_eq!(said(&kept), expected);
}

/// Scenario (b): the switch of the RID back to the default domain took the process's PASID with it.
#[test]
fn amds_driver_loses_a_pasid_when_the_rids_domain_is_detached() {
    let lines = said(&fs::read(file("iwrec")).expect("a recording"));
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let [line] = &lines[..] else { panic!("one violation, not {lines:?}") };
    assert_eq!((&line["check"], &line["severity"]), (&"pasid-lost-on-detach".into(), &"critical".into()));
    assert_eq!((&line["group"], &line["pasid"]), (&amd::GROUP.into(), &vec![amd::PASID].into()));
    assert_eq!(line["devices"], Value::from(vec![amd::DEVICE]));
    assert_eq!(
        (&line["attached_by"]["comm"], &line["triggered_by"]["comm"]),
        (&"user".into(), &"driver".into())
    );
    assert_eq!(line["implied"], Value::from(vec!["capability-off-under-pasids"]));
}

#[test]
fn everything_that_is_shown_of_it_is_labelled() {
    let kept = fs::read(file("iwrec")).expect("a recording");
    let options = Options { events: true, ..Options::default() };
    let mut replay = Replay::open(kept.as_slice(), options).expect("a recording");
    assert!(replay.reader().head().synthetic.as_deref().is_some_and(|source| source.contains("amd/iommu.c")));
    let mut shown = 0;
    while let Some(step) = replay.step() {
        for report in step.expect("a recording that is whole") {
            let line: Value = serde_json::from_str(&json::line(&report, &replay.context())).expect("JSON");
            assert_eq!(line["synthetic"], true, "{line}");
            if matches!(report, Report::Violation(_)) {
                let text = text::report(&report, &replay.context(), Style::default());
                assert!(text.lines().next().is_some_and(|first| first.ends_with("(synthetic)")), "{text}");
            }
            shown += 1;
        }
    }
    assert!(shown > 20, "{shown} lines");
}

#[test]
fn what_a_machine_recorded_is_not_labelled() {
    let bytes = crate::golden::recording("7");
    let mut replay = Replay::open(bytes.as_slice(), Options::default()).expect("a recording");
    while let Some(step) = replay.step() {
        for report in step.expect("a recording that is whole") {
            assert!(!json::line(&report, &replay.context()).contains("synthetic"));
        }
    }
}
