//! What ships, `cargo xtask package`: the static binary, a Debian package, a tarball; and what holds them against the
//! tools that will read them.

mod deb;
mod manifests;
mod stage;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};

use crate::log::Log;
use crate::test::Tally;
use crate::{build, paths, setup};

pub use manifests::run as manifests;

/// How much of the system the unit may leave open, in tenths, by systemd-analyze's own reckoning.
const EXPOSURE: &str = "20";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Holds the unit against what systemd thinks of it, without a systemd that runs.
pub fn service(log: &Log) -> Result<Tally> {
    if !setup::runs(Command::new("systemd-analyze").arg("--version")) {
        return Ok(Tally::skipped("systemd-analyze is not installed"));
    }
    let mut analyze = Command::new("systemd-analyze");
    analyze.args(["security", "--offline=yes", "--no-pager", "--threshold", EXPOSURE]);
    log.run(analyze.arg(paths::workspace().join("packaging/iommu-watch.service"))).map(Tally::of)
}

/// Builds all that ships.
pub fn run() -> Result<ExitCode> {
    build::iommu_watch()?;
    let log = Log::new("package")?;
    let files = make(&directory(), &log).with_context(|| format!("see {}", log.path.display()))?;
    files.iter().for_each(|file| println!("{}", file.display()));
    Ok(ExitCode::SUCCESS)
}

/// Makes the package of the binary that is there, and tries it out.
pub fn package(log: &Log) -> Result<Tally> {
    ensure!(build::binary().is_file(), "the step `static` builds what is packaged");
    if !setup::runs(Command::new("dpkg-deb").arg("--version")) {
        return Ok(Tally::skipped("dpkg is not installed"));
    }
    let directory = directory();
    make(&directory, log)?;
    let next = directory.join("next.deb");
    let build = deb::build(&directory.join("root"), &format!("{VERSION}+next"), &time()?, "none", &next);
    ensure!(log.run(&mut build?)?, "the package of the next version can't be built");
    let tried = deb::try_out(&debian_package(&directory), &next, &directory.join("installed"), log);
    if let Err(wrong) = &tried {
        println!("      {wrong}");
    }
    Ok(Tally::of(tried.is_ok()))
}

fn directory() -> PathBuf {
    paths::target_dir().join("package")
}

fn debian_package(directory: &Path) -> PathBuf {
    directory.join(format!("iommu-watch_{VERSION}_amd64.deb"))
}

/// What it makes of the binary that is there.
fn make(directory: &Path, log: &Log) -> Result<Vec<PathBuf>> {
    let (root, time) = (directory.join("root"), time()?);
    stage::lay_out(&root)?;
    let tarball = directory.join(format!("iommu-watch-{VERSION}-x86_64.tar.gz"));
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mtime"])
        .arg(format!("@{time}"))
        .args(["--use-compress-program", "gzip -9n", "-C"])
        .args([&root, Path::new("-cf"), &tarball, Path::new(".")]);
    ensure!(log.run(&mut tar)?, "the tarball can't be made");
    let package = debian_package(directory);
    ensure!(log.run(&mut deb::build(&root, VERSION, &time, "xz", &package)?)?, "the package can't be built");
    let sums = directory.join("SHA256SUMS");
    let names = [&package, &tarball].map(|file| file.file_name().unwrap_or_default().to_owned());
    let told = Command::new("sha256sum").current_dir(directory).args(names).output();
    fs::write(&sums, told.context("can't run sha256sum")?.stdout).context("can't write SHA256SUMS")?;
    Ok(vec![package, tarball, sums])
}

/// Of the last commit, in seconds since the epoch: what is made twice is the same.
fn time() -> Result<String> {
    let git = Command::new("git")
        .current_dir(paths::workspace())
        .args(["log", "-1", "--format=%ct"])
        .output()
        .context("can't run git")?;
    let time = String::from_utf8_lossy(&git.stdout).trim().to_owned();
    ensure!(time.parse::<u64>().is_ok(), "git doesn't say of when the last commit is");
    Ok(time)
}
