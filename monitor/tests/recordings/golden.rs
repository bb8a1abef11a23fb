//! Recordings of real kernels, replayed: what was said there, while they were made, is said here.
//! `golden/make` made them, in guests of the testbed.

use std::fs;
use std::path::{Path, PathBuf};

use monitor::replay::Replay;
use monitor::report::json;
use monitor::watcher::{Options, Report};
use serde_json::Value;

/// The kernels of the testbed.
pub const KERNELS: [&str; 3] = ["6.1", "6.12", "7"];

pub fn file(kernel: &str, extension: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/recordings/golden/{kernel}.{extension}"))
}

pub fn recording(kernel: &str) -> Vec<u8> {
    fs::read(file(kernel, "iwrec")).expect("a golden recording")
}

/// The fields with the time of day.
const WALL_CLOCK: [&str; 4] = ["ts", "raised", "first_seen", "last_seen"];
/// A field that is younger than the recordings.
const YOUNGER: &str = "count";

/// A line without the times of the world's clock: that was asked anew for each line, and a recording has
/// it of its beginning.
fn without_wall_clock(mut line: Value) -> Value {
    match &mut line {
        Value::Object(members) => {
            members.retain(|name, _| !WALL_CLOCK.contains(&name.as_str()) && name != YOUNGER);
            members.values_mut().for_each(|value| *value = without_wall_clock(value.take()));
        }
        Value::Array(values) => {
            values.iter_mut().for_each(|value| *value = without_wall_clock(value.take()));
        }
        _ => {}
    }
    line
}

/// What was said while it was recorded.
fn live(kernel: &str) -> Vec<Value> {
    let lines = fs::read_to_string(file(kernel, "jsonl")).expect("what was said");
    lines.lines().map(|line| without_wall_clock(serde_json::from_str(line).expect("JSON"))).collect()
}

/// The violations and what became of them, as JSON lines.
fn replayed(kernel: &str) -> Vec<Value> {
    let bytes = recording(kernel);
    let mut replay = Replay::open(bytes.as_slice(), Options::default()).expect("a recording");
    let mut lines = Vec::new();
    while let Some(step) = replay.step() {
        for report in step.expect("a recording that is whole") {
            if matches!(report, Report::Violation(_) | Report::Resolved(_)) {
                let line = json::line(&report, &replay.context());
                lines.push(without_wall_clock(serde_json::from_str(&line).expect("JSON")));
            }
        }
    }
    assert_eq!(replay.watcher.unknown_groups(), Vec::<u32>::new(), "{kernel}");
    assert!(replay.events() > 20, "{kernel}: {} events", replay.events());
    lines
}

#[test]
fn a_replay_says_what_was_said_live() {
    for kernel in KERNELS {
        let (live, replayed) = (live(kernel), replayed(kernel));
        for (live, replayed) in live.iter().zip(&replayed) {
            assert_eq!(replayed, live, "{kernel}");
        }
        assert_eq!(replayed.len(), live.len(), "{kernel}");
    }
}

/// So that the files are not empty one day, and the test above with them.
#[test]
fn the_golden_recordings_hold_what_they_were_made_for() {
    for kernel in KERNELS {
        let raised: Vec<Value> =
            live(kernel).into_iter().filter(|line| line["kind"] == "violation").collect();
        if kernel == "6.1" {
            assert!(raised.is_empty(), "there are no PASIDs before 6.2");
            continue;
        }
        assert_eq!(raised.len(), 3, "{kernel}");
        for line in raised {
            assert_eq!(line["check"], "pasid-left-on-release");
            assert_eq!(line["attached_by"]["comm"], "tenant");
            assert_eq!(line["triggered_by"]["comm"], "owner");
            let stack = line["attached_by"]["stack"].as_array().expect("a stack");
            assert!(
                stack.iter().any(|frame| frame.as_str().is_some_and(|name| name.starts_with("vfs_write+")))
            );
        }
    }
}

#[test]
fn the_golden_recordings_say_of_what_they_are() {
    for (kernel, release) in [("6.1", "6.1."), ("6.12", "6.12."), ("7", "7.")] {
        let bytes = recording(kernel);
        assert!(bytes.len() < 60_000, "{kernel}: {} bytes", bytes.len());
        let replay = Replay::open(bytes.as_slice(), Options::default()).expect("a recording");
        let head = replay.reader().head();
        assert!(head.kernel.starts_with(release), "{}", head.kernel);
        assert_eq!((head.machine.as_str(), head.btf.len(), head.boot_id.len()), ("x86_64", 64, 36));
        assert_eq!(head.coverage().core_pasids, kernel != "6.1");
        assert_eq!(replay.context().stacks.frames(u32::MAX), None);
    }
}
