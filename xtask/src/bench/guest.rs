//! A guest that measures: one script, whose last line of JSON has the numbers.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testbed::{Script, Series, Vm};

use crate::paths;

/// What a script of the guests' directory wrote.
pub fn output(vm: Vm, series: Series, script: &str) -> Result<String> {
    let name = script.trim_end_matches(".sh");
    let outcome = vm
        .script(Script::File(testbed::vm::guest_scripts().join(script)))
        .console(paths::artefacts().join(format!("bench-{name}-{series}.console")))
        .run()?;
    ensure!(
        outcome.exit == 0,
        "{script} ended with {}: {}\n{}",
        outcome.exit,
        outcome.console.display(),
        outcome.output
    );
    Ok(outcome.output)
}

/// Its numbers.
pub fn told(output: &str) -> Result<Value> {
    let mut lines = output.lines().filter_map(|line| serde_json::from_str::<Value>(line.trim()).ok());
    lines.rfind(Value::is_object).context("the guest told no numbers")
}
