//! The configuration file as users meet it: `daemon --config.check`, and a start with a bad file.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// A file that is gone when the test ends.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> File {
        let path =
            std::env::temp_dir().join(format!("iommu-watch-config-{}-{name}.toml", std::process::id()));
        fs::write(&path, text).expect("written");
        File(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn run(arguments: &[&str], file: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_iommu-watch"));
    command.args(arguments).arg("--config").arg(file).output().expect("it runs")
}

fn lines(bytes: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(bytes).lines().map(str::to_owned).collect()
}

const BAD: &str = "[check.ownership-stuck]\nenabled = \"no\"\n\n[check.sva-outlives-mm]\ngrace = 1\n\n\
                   [[expected]]\ncheck = \"attach-imbalance\"\ngroup = 7\nuntil = 2027-03-31\n";

#[test]
fn all_that_is_wrong_is_told_each_on_a_line_that_names_file_line_and_key() {
    let file = File::new("bad", BAD);
    let output = run(&["daemon", "--config.check"], &file.0);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(lines(&output.stdout), [""; 0]);
    let name = file.0.display();
    assert_eq!(
        lines(&output.stderr),
        [
            format!("{name}:2: check.ownership-stuck.enabled = \"no\": true or false"),
            format!(
                "{name}:5: check.sva-outlives-mm.grace: no such key; allowed: enabled, severity, grace_seconds"
            ),
            format!("{name}:7: expected.reason is missing: why, in words for whoever reads the report"),
        ]
    );
}

#[test]
fn the_sample_that_is_shipped_is_right() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/iommu-watch.toml");
    let output = run(&["daemon", "--config.check"], &sample);
    assert_eq!((output.status.code(), lines(&output.stderr)), (Some(0), Vec::new()));
    assert!(lines(&output.stdout)[0].ends_with(
        ": valid: 0 checks off, 0 with a severity of their own, 0 thresholds, 0 expected deviations"
    ));
}

#[test]
fn what_was_expected_until_a_day_that_is_over_is_told() {
    let over = "[[expected]]\ncheck = \"attach-imbalance\"\ndevice = \"0000:01:00.0\"\nreason = \"x\"\nuntil = 2020-02-29\n";
    let file = File::new("over", over);
    let output = run(&["daemon", "--config.check"], &file.0);
    assert_eq!(output.status.code(), Some(0));
    let told = format!(
        "iommu-watch: {}: attach-imbalance of device 0000:01:00.0 was expected until 2020-02-29: that is over",
        file.0.display()
    );
    assert_eq!(lines(&output.stderr), [told]);
}

/// In one line, as all bad input; and nothing is begun.
#[test]
fn a_command_does_not_start_with_a_bad_file() {
    let file = File::new("start", BAD);
    for arguments in [&["daemon"][..], &["check"], &["doctor"], &["replay", "/dev/null"]] {
        let output = run(arguments, &file.0);
        let told = lines(&output.stderr);
        assert_eq!((output.status.code(), told.len()), (Some(2), 1), "{arguments:?}: {told:?}");
        for part in ["--config ", "line 2: ", "; line 5: ", "; line 7: "] {
            assert!(told[0].contains(part), "{arguments:?}: {told:?}");
        }
    }
    let output = Command::new(env!("CARGO_BIN_EXE_iommu-watch"))
        .args(["daemon", "--config.check"])
        .output()
        .expect("it runs");
    assert_eq!((output.status.code(), lines(&output.stderr).len()), (Some(2), 1));
}

fn web(arguments: &[&str], file: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_iommu-watch"));
    command.arg("daemon").args(arguments).arg("--web.config.file").arg(file).output().expect("it runs")
}

#[test]
fn the_web_configuration_is_checked_with_the_files_that_it_names() {
    let file = File::new("web", "tls_server_config:\n  cert_file: no-such.pem\n  key_file: no-such.key\n");
    let output = web(&["--config.check"], &file.0);
    let told = lines(&output.stderr);
    assert_eq!((output.status.code(), told.len()), (Some(2), 1), "{told:?}");
    assert!(told[0].contains("no-such.pem: No such file"), "{told:?}");

    let file = File::new("web-keys", "tls_server_config:\n  cert: x\nbasic_auth_users:\n  alice: secret\n");
    let output = web(&["--config.check"], &file.0);
    let told = lines(&output.stderr);
    let name = file.0.display();
    assert_eq!((output.status.code(), told.len()), (Some(2), 4), "{told:?}");
    assert!(told[3].starts_with(&format!("{name}:4: basic_auth_users.alice: no bcrypt hash")), "{told:?}");
    assert!(!told.concat().contains("secret"), "{told:?}");

    // One that the configuration file names is checked with it.
    let config = File::new("names-web", &format!("[web]\nconfig_file = \"{name}\"\n"));
    let output = run(&["daemon", "--config.check"], &config.0);
    assert_eq!((output.status.code(), lines(&output.stderr)), (Some(2), told));

    let file = File::new("web-right", "http_server_config:\n  http2: false\n");
    let output = web(&["--config.check"], &file.0);
    assert_eq!((output.status.code(), lines(&output.stderr)), (Some(0), Vec::new()));
    assert!(lines(&output.stdout)[0].ends_with(": valid: plain HTTP, 0 users"));
}

/// Before anything is attached: a port that was to be closed is not open for a moment.
#[test]
fn a_daemon_does_not_start_with_a_bad_web_configuration() {
    let file = File::new("web-start", "basic_auth_users:\n  alice: secret\n");
    let output = web(&[], &file.0);
    let told = lines(&output.stderr);
    assert_eq!((output.status.code(), told.len()), (Some(2), 1), "{told:?}");
    assert!(told[0].contains("--web.config.file ") && told[0].contains("line 2: "), "{told:?}");
}

/// A kernel that isn't running is asked about with this file, and flags: the checks that are off there.
fn off(name: &str, text: &str, flags: &[&str]) -> Vec<String> {
    let file = File::new(name, text);
    let btf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kernels/amd64-7.3.btf");
    let btf = btf.display().to_string();
    let output = run(&[&["doctor", "--format", "json", "--btf", &btf], flags].concat(), &file.0);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let states = report["checks"].as_array().expect("a list").iter();
    let off = states.filter(|row| row["state"] == "off").filter_map(|row| row["check"].as_str());
    off.map(str::to_owned).collect()
}

#[test]
fn doctor_says_off_of_a_check_that_is_off() {
    // The second one is off unless it is asked for.
    let found = off("off", "[check.ownership-stuck]\nenabled = false\n", &[]);
    assert_eq!(found, ["ownership-stuck", "flush-range-short"]);
}

#[test]
fn a_check_that_is_off_by_default_is_switched_on_by_the_file_or_the_flag() {
    let [on, never] = ["true", "false"].map(|flag| format!("[check.flush-range-short]\nenabled = {flag}\n"));
    assert_eq!(off("with", &on, &[]), [""; 0]);
    assert_eq!(off("without", &never, &[]), ["flush-range-short"]);
    assert_eq!(off("flag", &never, &["--enable", "flush-range-short"]), [""; 0], "the flag goes over it");
    let file = File::new("said", &on);
    let output = run(&["daemon", "--config.check"], &file.0);
    let told = lines(&output.stdout);
    assert!(told.len() == 1 && told[0].ends_with(", flush-range-short switched on"), "{told:?}");
}
