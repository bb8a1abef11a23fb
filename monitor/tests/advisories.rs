//! The known defects of kernels: what the types of twenty Debian kernels tell, and files of data that are wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use monitor::advisory::{Data, Types, Verdict};
use monitor::kernel::btf::Btf;
use monitor::kernel::defects::Kernel;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kernels")
}

fn built_in() -> Data {
    Data::built_in().expect("well-formed")
}

/// By kernel and advisory: by the releases of the CVE record, and by the kernel's types.
fn rows() -> BTreeMap<(String, String), [String; 2]> {
    let text = fs::read_to_string(folder().join("advisories.tsv")).expect("a table");
    let rows = text.lines().skip(1).map(|line| {
        let cells: Vec<String> = line.split('\t').map(str::to_owned).collect();
        let [kernel, advisory, release, told] = cells.try_into().expect("four columns");
        ((kernel, advisory), [release, told])
    });
    rows.collect()
}

#[test]
fn twenty_kernels_are_told_by_their_types_as_the_table_has_them() {
    let (rows, data) = (rows(), built_in());
    let kernels: BTreeSet<&String> = rows.keys().map(|(kernel, _)| kernel).collect();
    assert_eq!((kernels.len(), rows.len()), (20, 20 * data.advisories.len()));
    for kernel in kernels {
        let bytes = fs::read(folder().join(format!("{kernel}.btf"))).expect("a fixture");
        let types = Btf::parse(bytes).expect("well-formed");
        for told in data.of(&Kernel { types: &types, listed: None }).told {
            let [_, expected] = &rows[&(kernel.clone(), told.id.clone())];
            assert_eq!(told.verdict.name(), expected, "{kernel}: {}: {}", told.id, told.because);
        }
    }
}

/// What is told is what the CVE record's releases say; what can't be told is never told wrongly.
#[test]
fn what_is_told_is_true() {
    for ((kernel, advisory), [release, told]) in rows() {
        let right = told == release.as_str() || told == "undecided";
        assert!(right, "{kernel}: {advisory}: {told}, and by its release {release}");
    }
}

/// A fingerprint that no kernel has, or that all have, proves nothing.
#[test]
fn every_advisory_is_proved_on_a_kernel_with_its_fix() {
    let rows = rows();
    let told = |id: &str, verdict: &str| {
        let of =
            |((_, advisory), [_, told]): (&(String, String), &[String; 2])| advisory == id && told == verdict;
        rows.iter().any(of)
    };
    for known in &built_in().advisories {
        assert!(told(&known.id, "fixed"), "{}: on no kernel with the fix", known.id);
        let shown = told(&known.id, "affected") || !known.undecided.is_empty();
        assert!(shown, "{}: on no kernel without the fix, and nothing says why", known.id);
        assert!(!known.cve.is_empty() && !known.references.is_empty(), "{}", known.id);
    }
}

/// The reductions must hold all that is asked for: else what is there would seem not to be.
#[test]
fn the_reductions_have_every_function_that_is_asked_for() {
    let found: BTreeSet<String> = rows()
        .keys()
        .map(|(kernel, _)| kernel.clone())
        .collect::<BTreeSet<_>>()
        .iter()
        .flat_map(|kernel| {
            let types = Btf::parse(fs::read(folder().join(format!("{kernel}.btf"))).expect("a fixture"));
            let types = types.expect("well-formed");
            let kernel = Kernel { types: &types, listed: None };
            let data = built_in();
            let names = data.functions().into_iter().filter(|name| kernel.function(name)).map(str::to_owned);
            names.collect::<Vec<_>>()
        })
        .collect();
    let data = built_in();
    let lacking: Vec<_> = data.functions().into_iter().filter(|name| !found.contains(*name)).collect();
    assert_eq!(lacking, [""; 0], "in no kernel: misspelt, or tests/kernels is to be made anew");
}

/// A compiler's clone of a function has no prototype; the list of symbols has it all the same.
#[test]
fn a_function_that_only_the_symbols_have_is_there() {
    let types =
        Btf::parse(fs::read(folder().join("amd64-6.17.btf")).expect("a fixture")).expect("well-formed");
    let listed = ["iommu_sva_invalidate_kva_range"].into();
    let told = built_in().of(&Kernel { types: &types, listed: Some(&listed) });
    let sva = told.told.iter().find(|told| told.id == "sva-stale-kernel-translations").expect("it is known");
    assert_eq!(sva.verdict, Verdict::Fixed);
}

const HEAD: &str = "date = 2026-11-22\n";

fn one(tell: &str) -> String {
    format!(
        "{HEAD}[[advisory]]\nid = \"a\"\ncve = []\ntitle = \"\"\neffect = \"\"\nwhat_to_do = \"\"\n\
         references = []\nundecided = \"\"\n[[advisory.tell]]\n{tell}\n"
    )
}

#[test]
fn data_that_is_wrong_is_refused_with_its_line() {
    let wrong = |text: &str| Data::parse(text).expect_err("it is wrong").to_string();
    let tell = |verdict: &str, when: &str| {
        one(&format!("verdict = \"{verdict}\"\nwhen = [\"{when}\"]\nbecause = \"\""))
    };
    assert!(Data::parse(&tell("fixed", "no function x")).is_ok());
    assert!(
        wrong(&tell("fixed", "release 6.12")).starts_with("line 12: `release 6.12` is no fact"),
        "{}",
        wrong(&tell("fixed", "release 6.12"))
    );
    assert!(wrong(&tell("fixed", "member x")).contains("STRUCT.PATH"));
    assert!(wrong(&tell("fixed", "parameters x many")).contains("`many` is no number"));
    assert!(wrong(&tell("undecided", "function x")).contains("where nothing tells"));
    assert!(wrong("date = 1\n").contains("line 1"));
    assert!(wrong("date = 2026-11-22T00:00:00Z\n").contains("no time of it"));
    assert!(wrong("").contains("date"));
    let twice = one("verdict = \"fixed\"\nwhen = []\nbecause = \"\"");
    let twice = format!("{twice}{}", twice.strip_prefix(HEAD).expect("it begins so"));
    assert!(wrong(&twice).contains("twice"));
    assert!(wrong(&format!("{HEAD}kernel = \"6.12\"\n")).contains("line 2"));
}

#[test]
fn newer_data_is_taken_from_a_file() {
    let file = std::env::temp_dir().join(format!("iommu-watch-advisories-{}.toml", std::process::id()));
    let text =
        one("verdict = \"affected\"\nwhen = [\"function iommu_group_release\"]\nbecause = \"it is there\"");
    fs::write(&file, text.replace("2026-11-22", "2030-01-01")).expect("written");
    let doctor = |data: &Path| {
        let output = Command::new(env!("CARGO_BIN_EXE_iommu-watch"))
            .args(["doctor", "--format", "json", "--btf"])
            .arg(folder().join("amd64-7.3.btf"))
            .arg("--advisories")
            .arg(data)
            .output();
        output.expect("it runs")
    };
    let output = doctor(&file);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["advisories"]["date"], "2030-01-01");
    assert_eq!(report["advisories"]["told"][0]["verdict"], "affected");
    fs::write(&file, "date = 2030-01-01\nadvisory = 1\n").expect("written");
    let output = doctor(&file);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    fs::remove_file(&file).expect("removed");
    assert_eq!(output.status.code(), Some(2));
    assert!(told.lines().count() == 1 && told.contains("--advisories") && told.contains("line 2"), "{told}");
}
