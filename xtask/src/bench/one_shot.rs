//! How long the one-shot takes on a host with 64 groups, as it is emulated here, and where the time goes.

use anyhow::{Context, Result};
use serde_json::Value;
use testbed::{Series, Vm};

use super::{LIMIT, guest};
use crate::{build, ebpf};

/// Measures on the kernels, and gives the numbers and the lines of a table.
pub fn measure(kernels: &[Series]) -> Result<(Value, String)> {
    ebpf::build()?;
    let iommu_watch = build::iommu_watch()?;
    let mut results = Vec::new();
    for &series in kernels {
        eprintln!("bench: the one-shot with 64 groups on {series}");
        let vm = Vm::new(series).test_module("softiommu");
        let vm = vm.add(&iommu_watch, "/bin/iommu-watch").timeout(LIMIT);
        results.push(guest::told(&guest::output(vm, series, "one-shot.sh")?)?);
    }
    let mut table =
        "| kernel | groups | run | all | types read | maps made | programs attached | groups read |\n\
                     |---|---|---|---|---|---|---|---|"
            .to_owned();
    for result in &results {
        for run in ["first", "again"] {
            table += &row(result, run)?;
        }
    }
    Ok((Value::Array(results), table + "\n"))
}

fn row(result: &Value, run: &str) -> Result<String> {
    let number = |value: &Value| value.as_f64().with_context(|| format!("no number in {result}"));
    let parts = &result[run]["parts"];
    let part = |name: &str| number(&parts[name]).map(|seconds| format!("{seconds:.2} s"));
    let all = number(&result[run]["real"])? / 1e3;
    let kernel = result["kernel"].as_str().context("the guest told no kernel")?;
    let [types, maps, programs, groups] = [part("types")?, part("maps")?, part("programs")?, part("groups")?];
    Ok(format!(
        "\n| {kernel} | {} | {run} | {all:.2} s | {types} | {maps} | {programs} | {groups} |",
        result["groups"]
    ))
}
