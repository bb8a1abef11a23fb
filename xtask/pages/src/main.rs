//! Writes the pages and rules that come out of iommu-watch's own lists: `cargo xtask docs [--check]`.
//!
//! The lists are the registry of checks, the catalogue of hooks, the table of metrics, the JSON Schema and the journal's fields; beside them
//! `watcher.toml` has the alerts about the watcher itself.
//! Man pages and completions are written for a package alone (`--manual ROOT`), out of the command line's definition.
//! What else is written is checked in; `--check` writes nothing and fails where a file isn't what it should be.

mod checks;
mod grafana;
mod journal;
mod lines;
mod manual;
mod metrics;
mod rules;
mod schema;
mod text;
mod watcher;
mod yaml;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::watcher::Source;

/// A file that is written here: its path from the root of the checkout, and all of its text.
struct Page {
    path: String,
    text: String,
}

/// Directories in which every file of this ending is written here.
const WHOLE: [(&str, &str); 2] = [("docs/checks", "md"), ("dashboards/grafana", "json")];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments[..] {
        [] => write(),
        ["--check"] => check(),
        ["--manual", root] => manual::write(Path::new(root)),
        _ => Err(anyhow::anyhow!("usage: cargo xtask docs [--check]")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("docs: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().nth(2).unwrap_or(package).to_path_buf()
}

fn pages() -> Result<Vec<Page>> {
    let mut pages = checks::pages();
    pages.push(metrics::page()?);
    pages.push(lines::page(&root())?);
    pages.push(journal::page());
    pages.extend(rules::pages()?);
    pages.extend(Source::read()?.pages()?);
    pages.extend(grafana::pages()?);
    Ok(pages)
}

fn write() -> Result<()> {
    let pages = pages()?;
    for page in &pages {
        let path = root().join(&page.path);
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).with_context(|| format!("can't make {}", dir.display()))?;
        }
        if read(&page.path).as_ref() != Some(&page.text) {
            fs::write(&path, &page.text).with_context(|| format!("can't write {}", page.path))?;
            println!("{}", page.path);
        }
    }
    for path in strays(&pages) {
        fs::remove_file(root().join(&path)).with_context(|| format!("can't remove {path}"))?;
        println!("{path} removed");
    }
    metrics::names_exist(&root().join("dashboards"), &Source::read()?.records())
}

fn check() -> Result<()> {
    let pages = pages()?;
    let stale = pages.iter().filter(|page| read(&page.path).as_ref() != Some(&page.text));
    let mut wrong: Vec<String> = stale.map(|page| format!("{} is stale", page.path)).collect();
    wrong.extend(strays(&pages).into_iter().map(|path| format!("{path} belongs to nothing")));
    if !wrong.is_empty() {
        bail!("{}; run `cargo xtask docs`", wrong.join(", "));
    }
    metrics::names_exist(&root().join("dashboards"), &Source::read()?.records())?;
    println!("{} pages are as they should be", pages.len());
    Ok(())
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(root().join(path)).ok()
}

/// Files that would be of a check or a dashboard that is no more.
fn strays(pages: &[Page]) -> Vec<String> {
    let known: BTreeSet<&str> = pages.iter().map(|page| page.path.as_str()).collect();
    let mut strays = Vec::new();
    for (dir, ending) in WHOLE {
        let Ok(entries) = root().join(dir).read_dir() else { continue };
        let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        let paths =
            names.filter(|name| name.ends_with(&format!(".{ending}"))).map(|name| format!("{dir}/{name}"));
        strays.extend(paths.filter(|path| !known.contains(path.as_str())));
    }
    strays
}
