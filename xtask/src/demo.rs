//! `cargo xtask demo`: a driver misbehaves on a real kernel, and iommu-watch says so.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use testbed::{Script, Series, Vm};

use crate::{build, ebpf, paths, setup};

/// The check that the workload breaks.
const CHECK: &str = "pasid-left-on-release";
/// What its tenant leaves behind.
const PASIDS: [u32; 1] = [42];
/// The modules that the workload is made of.
const MODULES: [&str; 3] = ["pasidcap", "softiommu", "caller"];
/// TCG on a busy machine is slow.
const LIMIT: Duration = Duration::from_secs(180);

/// Succeeds only where the guest really showed the violation.
pub fn run() -> Result<ExitCode> {
    let script = testbed::vm::guest_scripts().join("demo.sh");
    ensure!(script.is_file(), "{} is missing", script.display());
    title("1/4", "what this machine must have");
    setup::ensure_all()?;
    title("2/4", "building the eBPF object");
    ebpf::build()?;
    title("3/4", "building iommu-watch, statically");
    let iommu_watch = build::iommu_watch()?;
    title("4/4", "booting a Debian kernel under an emulated VT-d");
    let mut vm = Vm::new(Series::V6_12)
        .add(iommu_watch, "/bin/iommu-watch")
        .script(Script::File(script))
        .console(paths::artefacts().join("demo.console"))
        .timeout(LIMIT)
        .echo(true);
    for module in MODULES {
        vm = vm.test_module(module);
    }
    let outcome = vm.run()?;
    println!();
    if outcome.exit == 0 && shows_violation(&outcome.output) {
        println!("demo: {CHECK} was raised ({:.1} s in the guest)", outcome.duration.as_secs_f64());
        Ok(ExitCode::SUCCESS)
    } else {
        println!(
            "demo: {CHECK} was NOT seen (the script ended with {}); console: {}",
            outcome.exit,
            outcome.console.display()
        );
        Ok(ExitCode::FAILURE)
    }
}

fn title(number: &str, what: &str) {
    eprintln!("demo [{number}]: {what}");
}

/// An element of the daemon's list of violations, not a word in a text.
fn shows_violation(output: &str) -> bool {
    output
        .lines()
        .filter_map(|line| serde_json::from_str::<Vec<serde_json::Value>>(line.trim()).ok())
        .flatten()
        .any(|violation| violation["check"] == CHECK && violation["pasid"] == serde_json::json!(PASIDS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_violation_of_that_check_counts() {
        assert!(shows_violation("x\n[{\"check\":\"pasid-left-on-release\",\"pasid\":[42]}]\n"));
        assert!(!shows_violation("[{\"check\":\"pasid-left-on-release\",\"pasid\":[41]}]\n"));
        assert!(!shows_violation("[{\"check\":\"ownership-stuck\",\"pasid\":[42]}]\n"));
        assert!(!shows_violation("[]\npasid-left-on-release [42]\n"));
    }
}
