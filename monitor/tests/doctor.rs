//! `doctor --btf`: what it says of kernels that aren't running, and of files that are none.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

fn kernel(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/kernels/{name}.btf"))
}

fn doctor(btf: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_iommu-watch"))
        .args(["doctor", "--format", "json", "--btf"])
        .arg(btf)
        .args(more)
        .output()
        .expect("it runs")
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// The row of a list that has `name` under `key`.
fn row<'a>(report: &'a Value, list: &str, key: &str, name: &str) -> &'a Value {
    let rows = report[list].as_array().expect("a list");
    rows.iter().find(|row| row[key] == name).expect("a row of that name")
}

/// A file that is gone when the test ends.
struct File(PathBuf);

impl File {
    fn new(name: &str, bytes: &[u8]) -> File {
        let path = std::env::temp_dir().join(format!("iommu-watch-doctor-{}-{name}", std::process::id()));
        fs::write(&path, bytes).expect("written");
        File(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn a_kernel_with_all_is_armed() {
    let output = doctor(&kernel("amd64-7.3"), &[]);
    let report = report(&output);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(row(&report, "hooks", "hook", "pasid_replace")["there"], true);
    assert_eq!(row(&report, "hooks", "hook", "replace_group_domain")["there"], false);
    assert_eq!(row(&report, "checks", "check", "pasid-left-on-release")["state"], "armed");
    assert_eq!(report["members"]["pci_dev.pasid_enabled"], "1954:0");
}

#[test]
fn a_kernel_without_pasids_in_its_core_is_not() {
    let output = doctor(&kernel("amd64-6.1"), &[]);
    let report = report(&output);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(row(&report, "checks", "check", "pasid-left-on-release")["state"], "unavailable");
    assert_eq!(row(&report, "tables", "table", "amd")["per_domain"], true);
}

#[test]
fn physical_tables_need_an_address_and_virtual_ones_none() {
    let state = |report: &Value, table: &str| row(report, "tables", "table", table)["state"].clone();
    let blind = report(&doctor(&kernel("amd64-6.12"), &[]));
    assert_eq!([state(&blind, "vtd"), state(&blind, "smmuv3")], ["root", "absent"]);
    assert_eq!(state(&report(&doctor(&kernel("arm64-6.12"), &[])), "smmuv3"), "whole");

    let hidden = File::new("hidden", b"0000000000000000 D page_offset_base\n");
    let symbols = hidden.0.display().to_string();
    let told = report(&doctor(&kernel("amd64-6.12"), &["--kallsyms", &symbols]));
    assert!(row(&told, "tables", "table", "vtd")["reason"].as_str().is_some_and(|why| why.contains("hides")));

    let list =
        File::new("list", b"ffffffff825d85a8 D page_offset_base\nffffffff81000000 T iommu_attach_device\n");
    let symbols = list.0.display().to_string();
    let told = report(&doctor(&kernel("amd64-6.12"), &["--kallsyms", &symbols]));
    assert_eq!(state(&told, "vtd"), "whole");
    // A prototype alone is no function to attach to.
    assert_eq!(row(&told, "hooks", "hook", "attach_device")["there"], true);
    let inlined = row(&told, "hooks", "hook", "detach_device");
    assert!(inlined["reason"].as_str().is_some_and(|why| why.contains("inlined")));
}

#[test]
fn what_is_no_kernel_is_refused_in_one_line() {
    let whole = fs::read(kernel("amd64-6.12")).expect("a fixture");
    let cut = File::new("cut", &whole[..whole.len() / 2]);
    let text = File::new("text", b"hello");
    for file in [&cut.0, &text.0, Path::new("/nonexistent"), Path::new("/"), Path::new("/dev/zero")] {
        let output = doctor(file, &[]);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), told.lines().count()), (Some(2), 1), "{}: {told}", file.display());
        assert!(told.contains(&file.display().to_string()) && output.stdout.is_empty(), "{told}");
    }
}

#[test]
fn a_damaged_kernel_is_never_a_panic() {
    let whole = fs::read(kernel("arm64-7.3")).expect("a fixture");
    for at in (0..whole.len()).step_by(97) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        let damaged = File::new("damaged", &bytes);
        let code = doctor(&damaged.0, &[]).status.code();
        assert!(matches!(code, Some(0..=2)), "byte {at}: {code:?}");
    }
}
