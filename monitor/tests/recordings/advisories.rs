//! What was known of the kernel's defects is in its recording: a replay gives the verdict of then, whatever is known since.

use std::fs;

use monitor::advisory::{Advisories, Told as Known, Verdict};
use monitor::input::Input;
use monitor::replay::Replay;
use monitor::trace::{Recorder, Store, Target};
use monitor::watcher::{Options, Report};

use crate::rig::{Folder, coverage, origin};

fn known() -> Advisories {
    let affected = Known {
        id: "torn".into(),
        cve: vec!["CVE-2026-1".into()],
        title: "something is torn".into(),
        effect: "DMA goes astray".into(),
        what_to_do: "update\u{1b}[2J".into(),
        references: vec!["https://example.org".into()],
        verdict: Verdict::Affected,
        because: "a function is missing".into(),
    };
    let fixed = Known { id: "mended".into(), verdict: Verdict::Fixed, ..affected.clone() };
    Advisories { date: "2026-11-22".parse().expect("a date"), told: vec![affected, fixed] }
}

#[test]
fn a_known_defect_is_replayed_and_nothing_of_it_reaches_a_terminal() {
    let folder = Folder::new();
    let target = Target { path: folder.file(), max_size: 1 << 20, keep: 0, force: false };
    let mut coverage = coverage();
    coverage.advisories = Some(known());
    let mut recorder = Recorder::new(Store::create(target).expect("a file"), origin(), &coverage);
    recorder.input(&Input::Start, 1_000);
    recorder.input(&Input::Settled, 2_000);
    recorder.finish(3_000);
    let bytes = fs::read(folder.file()).expect("a recording");
    let mut replay = Replay::open(bytes.as_slice(), Options::default()).expect("a recording");
    let mut raised = Vec::new();
    while let Some(step) = replay.step() {
        raised.extend(step.expect("whole").into_iter().filter_map(|report| match report {
            Report::Violation(found) => Some(found),
            _ => None,
        }));
    }
    let [found] = raised.as_slice() else { panic!("{raised:?}") };
    assert!(found.check.name == "kernel-advisory" && found.summary.contains("CVE-2026-1"));
    let mut expected = known();
    expected.texts_mut().for_each(|text| *text = text.replace('\u{1b}', "?"));
    assert_eq!(replay.watcher.options().coverage.advisories, Some(expected));
}
