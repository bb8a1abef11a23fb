//! What is held against `dashboards/`: promtool over the rules, Grafana's published types over the dashboards, and a
//! Prometheus with data of a real daemon under both.

mod live;
mod rules;
mod schema;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

pub use live::run as live;
pub use rules::run as rules;
pub use schema::run as schema;

use crate::paths;

/// A dashboard as it is checked in.
struct Dashboard {
    name: String,
    json: Value,
}

fn dashboards() -> Result<Vec<Dashboard>> {
    let read = |path: &PathBuf| {
        let text = fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()))?;
        let json = serde_json::from_str(&text).with_context(|| format!("{} is no JSON", path.display()))?;
        Ok(Dashboard { name: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(), json })
    };
    files(&directory().join("grafana"), "json").iter().map(read).collect()
}

fn directory() -> PathBuf {
    paths::workspace().join("dashboards")
}

/// The files of this ending below a directory.
fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let Ok(entries) = dir.read_dir() else { return Vec::new() };
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .flat_map(|path| if path.is_dir() { files(&path, ending) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|extension| extension == ending))
        .collect();
    found.sort();
    found
}

/// The members of a JSON array, none where it is something else.
fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
