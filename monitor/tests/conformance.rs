//! `conformance report` of recordings: its text and JSON, its exit codes, and what a configuration allows.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

const AMD: &str = "tests/recordings/synthetic/amd-seed.iwrec";

fn report(recording: &str, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_iommu-watch"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["conformance", "report", recording])
        .args(more)
        .output()
        .expect("it runs")
}

fn code_and_text(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A file that is gone when the test ends.
struct File(PathBuf);

impl File {
    fn new(name: &str, bytes: &[u8]) -> File {
        let path =
            std::env::temp_dir().join(format!("iommu-watch-conformance-{}-{name}", std::process::id()));
        fs::write(&path, bytes).expect("written");
        File(path)
    }

    fn name(&self) -> &str {
        self.0.to_str().expect("text")
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// The seed's table comes first, and whatever is shown of a recording that no machine made says so.
#[test]
fn amds_driver_violates_by_losing_pasids() {
    let (code, text) = code_and_text(&report(AMD, &[]));
    assert_eq!(code, Some(1));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "amd: violates  (synthetic)");
    let counts = lines[2..5].iter().map(|line| line.split_whitespace().last());
    assert_eq!(counts.collect::<Vec<_>>(), [Some("0"), Some("1"), Some("0")], "{text}");
    assert!(text.contains("its driver freed the PASID table with PASID 1"), "{text}");

    let output = report(AMD, &["--format", "json"]);
    let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&json["kind"], &json["synthetic"]), (&"conformance".into(), &true.into()));
    let driver = &json["drivers"][0];
    assert_eq!((&driver["iommu_driver"], &driver["verdict"]), (&"amd".into(), &"violates".into()));
    assert_eq!(driver["rid_switch"], serde_json::json!({"kept": 0, "lost": 1, "refused": 0}));
    let rules = driver["rules"].as_array().expect("rules");
    let of = |verdict: &str| -> Vec<&str> {
        let of_it = rules.iter().filter(|rule| rule["verdict"] == verdict);
        of_it.filter_map(|rule| rule["rule"].as_str()).collect()
    };
    assert_eq!(of("violates"), ["rid-switch-keeps-pasids", "capabilities-stay-on"]);
    assert_eq!(of("conforms"), ["detach-is-done"]);
    assert_eq!(of("not exercised").len(), 6);
    let evidence = &rules[0]["evidence"][0];
    assert_eq!(evidence["check"], "pasid-lost-on-detach");
    assert!(evidence["fingerprint"].as_str().is_some_and(|text| text.len() == 16));
}

#[test]
fn what_the_configuration_expects_is_shown_and_does_not_count() {
    let expect = |check: &str, until: &str| {
        format!(
            "[[expected]]\niommu_driver = \"amd\"\ncheck = \"{check}\"\nreason = \"no PASIDs here\"\nuntil = {until}\n"
        )
    };
    let both =
        |until: &str| expect("pasid-lost-on-detach", until) + &expect("capability-off-under-pasids", until);
    let file = File::new("allowed.toml", both("2026-11-22").as_bytes());
    let (code, text) = code_and_text(&report(AMD, &["-q", "--config", file.name()]));
    assert_eq!(code, Some(0), "{text}");
    assert!(text.starts_with("amd: conforms"), "{text}");
    assert!(text.contains("expected until 2026-11-22: no PASIDs here"), "{text}");
    // It was recorded on 22 November: what ended the day before had no say.
    let file = File::new("over.toml", both("2026-11-21").as_bytes());
    let output = report(AMD, &["--config", file.name()]);
    assert_eq!(output.status.code(), Some(1));
    // One of two is not enough.
    let file = File::new("one.toml", expect("pasid-lost-on-detach", "2026-11-22").as_bytes());
    assert_eq!(report(AMD, &["-q", "--config", file.name()]).status.code(), Some(1));
}

#[test]
fn a_configuration_that_is_wrong_is_refused_in_one_line() {
    let file = File::new("wrong.toml", b"[[expected]]\ncheck = \"x\"\n");
    for config in [file.name(), "/nonexistent", "/"] {
        let output = report(AMD, &["--config", config]);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), told.lines().count()), (Some(2), 1), "{told}");
        assert!(told.contains(&format!("--config {config}")) && output.stdout.is_empty(), "{told}");
    }
}

#[test]
fn a_recording_in_which_nothing_is_exercised_says_so() {
    let whole = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(AMD)).expect("a recording");
    // Its head alone is no recording: it ends before it is over, and the report is of nothing.
    let cut = File::new("cut.iwrec", &whole[..whole.len() / 4]);
    let output = report(cut.name(), &[]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), told.lines().count()), (Some(2), 1), "{told}");
    assert!(told.contains(cut.name()), "{told}");
}

/// Those of real kernels: what is in them is what was recorded when that was, VT-d's tables by six looks.
#[test]
fn a_real_kernels_recording_conforms_in_what_it_exercises() {
    for kernel in ["6.12", "7"] {
        let output = report(&format!("tests/recordings/golden/{kernel}.iwrec"), &["--format", "json"]);
        let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(output.status.code(), Some(0), "{json}");
        assert!(json.get("synthetic").is_none());
        let drivers = json["drivers"].as_array().expect("drivers").iter();
        let verdicts: Vec<_> = drivers.map(|driver| (&driver["iommu_driver"], &driver["verdict"])).collect();
        assert!(verdicts.iter().all(|(_, verdict)| *verdict == "conforms"), "{verdicts:?}");
    }
}
