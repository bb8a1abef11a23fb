//! docs/proof.md: what a whole run of the VM matrix showed, with what the recordings replay to; docs/faults.md and
//! docs/lacking.md: what the daemon made of what was broken around it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use testbed::proof::Proofs;

use crate::paths;

/// Writes the page, or holds the one that is there against it and says how they differ. None: there is none yet.
pub fn settle(proofs: &mut Proofs, iommu_watch: &Path, write: bool) -> Result<Option<bool>> {
    let kept = paths::workspace().join("docs/proof.md");
    if !write && !kept.is_file() {
        return Ok(None);
    }
    for recording in recordings()? {
        let name = recording.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        proofs.replayed(&name, &replay(iommu_watch, &recording)?);
    }
    let page = match proofs.page() {
        Ok(page) => page,
        Err(missing) => {
            missing.iter().for_each(|line| println!("      FAIL proof: {line}"));
            return Ok(Some(false));
        }
    };
    hold("proof", &page, "--write-proof", write).map(Some)
}

/// Writes the pages of what was broken around the daemon, or holds those that are there against what this run showed:
/// whether each is right.
pub fn broken(proofs: &Proofs, write: bool) -> Result<Vec<bool>> {
    proofs.broken().map(|(name, page)| hold(name, page, "--write-faults", write)).collect()
}

/// Writes docs/NAME.md, or holds the one that is there against the page and says how they differ.
fn hold(name: &str, page: &str, option: &str, write: bool) -> Result<bool> {
    let kept = paths::workspace().join(format!("docs/{name}.md"));
    if write {
        fs::write(&kept, page).with_context(|| kept.display().to_string())?;
        return Ok(true);
    }
    let there = fs::read_to_string(&kept).with_context(|| kept.display().to_string())?;
    if there == page {
        return Ok(true);
    }
    let shown = paths::artefacts().join(format!("{name}.md"));
    fs::write(&shown, page).with_context(|| shown.display().to_string())?;
    difference(&there, page).iter().for_each(|line| println!("           {line}"));
    println!("      FAIL {name}: docs/{name}.md is not what this run showed: see {}", shown.display());
    println!("           look at the difference, then copy it, or run the same again with {option}");
    Ok(false)
}

/// The lines of only one of the two pages.
fn difference(there: &str, page: &str) -> Vec<String> {
    let only = |mark: char, these: &str, those: &str| -> Vec<String> {
        let others: Vec<&str> = those.lines().collect();
        these.lines().filter(|line| !others.contains(line)).map(|line| format!("{mark} {line}")).collect()
    };
    [only('-', there, page), only('+', page, there)].concat()
}

/// The recordings that are kept with the tests.
fn recordings() -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for part in ["golden", "synthetic"] {
        let dir = paths::workspace().join("monitor/tests/recordings").join(part);
        let Ok(entries) = dir.read_dir() else { continue };
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "iwrec") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The verdict, as JSON lines. Its exit code only says whether something was wrong, unless it is 2.
fn replay(iommu_watch: &Path, recording: &Path) -> Result<String> {
    let output = Command::new(iommu_watch).args(["replay", "--format", "json"]).arg(recording).output()?;
    if output.status.code().is_none_or(|code| code > 1) {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{} does not replay: {}", recording.display(), said.trim());
    }
    Ok(String::from_utf8(output.stdout)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_one_page_only_is_shown() {
        assert_eq!(difference("a\nb\nc\n", "a\nd\nc\n"), ["- b", "+ d"]);
        assert!(difference("a\n", "a\n").is_empty());
    }
}
