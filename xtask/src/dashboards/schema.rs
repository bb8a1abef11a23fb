//! The dashboards against Grafana's own types: TypeScript's compiler holds each against those that Grafana publishes,
//! members that Grafana doesn't know included.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;
use testbed::cache::{Cache, Versions};
use testbed::process;

use super::{array, dashboards};
use crate::log::Log;
use crate::test::Tally;
use crate::{paths, setup};

const PACKAGES: [&str; 2] = ["@grafana/schema@13.2.3", "typescript@5.9.3"];

pub fn run(log: &Log) -> Result<Tally> {
    if !setup::runs(Command::new("npm").arg("--version")) {
        return Ok(Tally::skipped(
            "npm is not installed: the dashboards were not held against Grafana's types",
        ));
    }
    let modules = Cache::open()?.entry("grafana-schema", |dir, _| {
        let arguments = ["install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-save", "--prefix"];
        process::run(Command::new("npm").args(arguments).arg(dir).args(PACKAGES))?;
        Ok(Versions { release: PACKAGES.join(" "), ..Versions::default() })
    })?;
    let work = paths::artefacts().join("grafana");
    fs::create_dir_all(&work).context("can't make the work directory")?;
    link(&modules.dir.join("node_modules"), &work.join("node_modules"))?;
    let program = work.join("dashboards.ts");
    fs::write(&program, program_text()?).context("can't write the program")?;
    let options =
        "--noEmit --strict --skipLibCheck --module esnext --moduleResolution bundler --target es2022";
    let mut compiler = Command::new("node");
    compiler.arg(work.join("node_modules/typescript/bin/tsc")).args(options.split(' ')).arg(program);
    log.run(&mut compiler).map(Tally::of)
}

fn link(target: &Path, link: &Path) -> Result<()> {
    if link.is_symlink() {
        fs::remove_file(link).context("can't remove the old link")?;
    }
    symlink(target, link).context("can't link the modules")
}

/// An enumeration's values are written as their words: in JSON there is nothing else.
const TYPES: &str = r#"import type { Dashboard } from "@grafana/schema";
import type { Options as Stat } from "@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen";
import type { FieldConfig as TimeseriesField, Options as Timeseries }
    from "@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen";
import type { FieldConfig as TableField, Options as Table }
    from "@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen";
type Words<T> = T extends string ? `${T}`
    : T extends (infer U)[] ? Words<U>[]
    : T extends object ? { [K in keyof T]: Words<T[K]> }
    : T;
"#;

/// A constant for each dashboard, and for what its panels' kinds have of their own.
fn program_text() -> Result<String> {
    let mut text = String::from(TYPES);
    let mut count = 0;
    let mut constant = |kind: &str, value: &Value| {
        count += 1;
        let _ = writeln!(text, "const _{count}: Words<{kind}> = {value};");
    };
    for mut dashboard in dashboards()? {
        // It is of the file that is imported, not of the dashboard.
        if let Some(members) = dashboard.json.as_object_mut() {
            members.remove("__requires");
        }
        constant("Dashboard", &dashboard.json);
        for panel in array(&dashboard.json["panels"]) {
            let custom = &panel["fieldConfig"]["defaults"]["custom"];
            match panel["type"].as_str() {
                Some("row") => {}
                Some("stat") => constant("Stat", &panel["options"]),
                Some("timeseries") => {
                    constant("Timeseries", &panel["options"]);
                    constant("TimeseriesField", custom);
                }
                Some("table") => {
                    constant("Table", &panel["options"]);
                    constant("TableField", custom);
                }
                other => anyhow::bail!("{}: no types for a panel of kind {other:?}", dashboard.name),
            }
        }
    }
    Ok(text)
}
