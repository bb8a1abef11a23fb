//! What is installed where: one list, for the Debian package and the tarball.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::{docs, paths};

/// Files of the checkout.
const FILES: [(&str, &str); 7] = [
    ("packaging/iommu-watch.service", "usr/lib/systemd/system/iommu-watch.service"),
    ("packaging/iommu-watch.socket", "usr/lib/systemd/system/iommu-watch.socket"),
    ("docs/iommu-watch.toml", "etc/iommu-watch/iommu-watch.toml"),
    ("packaging/deb/copyright", "usr/share/doc/iommu-watch/copyright"),
    ("LICENSE-MIT", "usr/share/doc/iommu-watch/LICENSE-MIT"),
    ("LICENSE-APACHE", "usr/share/doc/iommu-watch/LICENSE-APACHE"),
    ("CHANGELOG.md", "usr/share/doc/iommu-watch/changelog"),
];

/// Directories of the checkout, of which the files of one ending go.
const DIRECTORIES: [(&str, &str, &str); 4] = [
    ("dashboards/rules", "rules.yml", "usr/share/iommu-watch/rules"),
    ("dashboards/grafana", "json", "usr/share/iommu-watch/grafana"),
    ("docs", "md", "usr/share/doc/iommu-watch"),
    ("docs/checks", "md", "usr/share/doc/iommu-watch/checks"),
];

/// What the administrator may change, and keeps.
pub const CONFIGURATION: &str = "etc/iommu-watch/iommu-watch.toml";
pub const BINARY: &str = "usr/bin/iommu-watch";
const MANUAL: &str = "usr/share/man/man1";

/// Lays everything out below `root`, which is made anew, with this binary.
pub fn lay_out(root: &Path, binary: &Path) -> Result<()> {
    if root.exists() {
        fs::remove_dir_all(root).with_context(|| format!("can't remove {}", root.display()))?;
    }
    let workspace = paths::workspace();
    copy(binary, &root.join(BINARY), 0o755)?;
    for (from, to) in FILES {
        copy(&workspace.join(from), &root.join(to), 0o644)?;
    }
    for (from, ending, to) in DIRECTORIES {
        let from = workspace.join(from);
        // Those in it, and not in others below.
        let named =
            |file: &&PathBuf| file.components().count() == 1 && file.to_string_lossy().ends_with(ending);
        for file in below(&from)?.iter().filter(named) {
            copy(&from.join(file), &root.join(to).join(file), 0o644)?;
        }
    }
    let done = docs::manual(root).status().context("can't run cargo")?;
    ensure!(done.success(), "the man pages can't be written");
    compress(&root.join("usr/share/doc/iommu-watch/changelog"))?;
    let manual = root.join(MANUAL);
    below(&manual)?.iter().try_for_each(|page| compress(&manual.join(page)))
}

/// Whether the list itself has a file: what a directory of the checkout brings is not looked at.
#[cfg(test)]
pub fn lays_out(file: &str) -> bool {
    file == BINARY || FILES.iter().any(|(_, to)| *to == file)
}

/// The files below a directory, by their paths from there.
pub fn below(directory: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut files = BTreeSet::new();
    let mut directories = vec![directory.to_path_buf()];
    while let Some(next) = directories.pop() {
        for entry in fs::read_dir(&next).with_context(|| format!("can't read {}", next.display()))?.flatten()
        {
            let path = entry.path();
            if path.is_dir() {
                directories.push(path);
            } else if let Ok(path) = path.strip_prefix(directory) {
                files.insert(path.to_path_buf());
            }
        }
    }
    Ok(files)
}

fn copy(from: &Path, to: &Path, mode: u32) -> Result<()> {
    let copied = to.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::copy(from, to));
    let done = copied.and_then(|_| fs::set_permissions(to, fs::Permissions::from_mode(mode)));
    done.with_context(|| format!("can't copy {} to {}", from.display(), to.display()))
}

/// As Debian has it, and without a time.
fn compress(file: &Path) -> Result<()> {
    let done = Command::new("gzip").args(["-9nf"]).arg(file).status().context("can't run gzip")?;
    ensure!(done.success(), "gzip of {} failed", file.display());
    Ok(())
}
