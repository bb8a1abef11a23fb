//! The Debian package, by dpkg-deb; and what becomes of it in a root of its own.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::stage::{BINARY, CONFIGURATION, below};
use crate::log::Log;
use crate::paths;

const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

/// A package to be.
pub struct Package<'a> {
    pub version: &'a str,
    /// As Debian calls it.
    pub architecture: &'a str,
    /// Of the files in it, in seconds since the epoch.
    pub time: &'a str,
    pub compression: &'a str,
}

/// What makes the package out of what lies below `stage`.
pub fn build(stage: &Path, package: &Package<'_>, to: &Path) -> Result<Command> {
    let control = stage.join("DEBIAN");
    fs::create_dir_all(&control).with_context(|| format!("can't make {}", control.display()))?;
    let source = paths::workspace().join("packaging/deb");
    let text = fs::read_to_string(source.join("control")).context("can't read packaging/deb/control")?;
    let size = size_of_files(stage)?.div_ceil(1024);
    let text = text
        .replace("@VERSION@", package.version)
        .replace("@ARCHITECTURE@", package.architecture)
        .replace("@SIZE@", &size.to_string());
    write(&control.join("control"), &text, 0o644)?;
    write(&control.join("conffiles"), &format!("/{CONFIGURATION}\n"), 0o644)?;
    for script in SCRIPTS {
        let text = fs::read_to_string(source.join(script)).with_context(|| format!("can't read {script}"))?;
        write(&control.join(script), &text, 0o755)?;
    }
    let mut dpkg = Command::new("dpkg-deb");
    dpkg.env("SOURCE_DATE_EPOCH", package.time).arg("--root-owner-group");
    dpkg.arg(format!("-Z{}", package.compression));
    dpkg.arg("--build").arg(stage).arg(to);
    Ok(dpkg)
}

fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    fs::write(path, text)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
        .with_context(|| format!("can't write {}", path.display()))
}

fn size_of_files(directory: &Path) -> Result<u64> {
    Ok(below(directory)?.iter().filter_map(|file| Some(fs::metadata(directory.join(file)).ok()?.len())).sum())
}

/// A root with nothing in it but dpkg's own account.
struct Root<'a> {
    directory: &'a Path,
    log: &'a Log,
}

/// Installed, changed by its administrator, upgraded, removed and purged: `first`, then `next`.
pub fn try_out(first: &Path, next: &Path, directory: &Path, log: &Log) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory).with_context(|| format!("can't remove {}", directory.display()))?;
    }
    let account = directory.join("var/lib/dpkg");
    for part in ["info", "updates", "triggers"] {
        fs::create_dir_all(account.join(part))
            .with_context(|| format!("can't make {}", account.display()))?;
    }
    write(&account.join("status"), "", 0o644)?;
    let root = Root { directory, log };
    root.dpkg(&["--install"], first.as_os_str())?;
    let unit = |kind: &str| format!("usr/lib/systemd/system/iommu-watch.{kind}");
    root.has(&[BINARY, CONFIGURATION, &unit("service"), &unit("socket")])?;
    let (configuration, changed) = (directory.join(CONFIGURATION), "[watch]\naudit_seconds = 30\n");
    write(&configuration, changed, 0o644)?;
    root.dpkg(&["--install"], next.as_os_str())?;
    root.has(&[BINARY])?;
    let kept = fs::read_to_string(&configuration).unwrap_or_default();
    ensure!(kept == changed, "the upgrade has replaced the administrator's configuration by its own");
    root.dpkg(&["--remove"], "iommu-watch".as_ref())?;
    let left = root.files()?;
    ensure!(left == BTreeSet::from([PathBuf::from(CONFIGURATION)]), "after its removal there are {left:?}");
    // What the unit's StateDirectory= left, as systemd lays it out.
    let kept = directory.join("var/lib/private/iommu-watch/spool");
    fs::create_dir_all(&kept).with_context(|| format!("can't make {}", kept.display()))?;
    write(&kept.join("0000000000000000-0000000000000000.lines"), "{}\n", 0o600)?;
    std::os::unix::fs::symlink("private/iommu-watch", directory.join("var/lib/iommu-watch"))
        .context("can't make a link")?;
    root.dpkg(&["--purge"], "iommu-watch".as_ref())?;
    let left = root.files()?;
    ensure!(left.is_empty(), "after its purge there are {left:?}");
    Ok(())
}

impl Root<'_> {
    fn dpkg(&self, arguments: &[&str], of: &std::ffi::OsStr) -> Result<()> {
        let mut dpkg = Command::new("dpkg");
        dpkg.arg(format!("--root={}", self.directory.display()))
            .args(["--force-not-root", "--force-script-chrootless", "--force-bad-path", "--force-confold"])
            .args(["--log", "/dev/null"])
            .args(arguments)
            .arg(of);
        ensure!(self.log.run(&mut dpkg)?, "dpkg {} fails", arguments.join(" "));
        Ok(())
    }

    fn has(&self, files: &[&str]) -> Result<()> {
        let there = self.files()?;
        let missing: Vec<&&str> = files.iter().filter(|file| !there.contains(Path::new(file))).collect();
        ensure!(missing.is_empty(), "the package doesn't install {missing:?}");
        Ok(())
    }

    /// Those that are not dpkg's own.
    fn files(&self) -> Result<BTreeSet<PathBuf>> {
        let mut files = below(self.directory)?;
        files.retain(|file| !file.starts_with("var/lib/dpkg"));
        Ok(files)
    }
}
