//! What ships, `cargo xtask package`: the static binary, a Debian package, a tarball; and what holds them against the
//! tools that will read them.

mod deb;
mod manifests;
mod stage;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};

use self::deb::Package;
use crate::cross::Cross;
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

#[derive(clap::Args)]
pub struct Arguments {
    /// The architecture of the hosts that it is for
    #[arg(long, value_enum, default_value = "x86_64")]
    target: Architecture,
    /// Of aarch64: run the tests that need no second process under qemu-user first
    #[arg(long)]
    test: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Architecture {
    #[value(name = "x86_64")]
    X86_64,
    Aarch64,
}

impl Architecture {
    fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    fn debian(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }
}

/// Builds all that ships.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let binary = match arguments.target {
        Architecture::X86_64 => build::iommu_watch()?,
        Architecture::Aarch64 => {
            let cross = Cross::find()?;
            if arguments.test {
                cross.test()?;
            }
            cross.build()?
        }
    };
    let log = Log::new("package")?;
    let files =
        make(arguments.target, &binary, &log).with_context(|| format!("see {}", log.path.display()))?;
    files.iter().for_each(|file| println!("{}", file.display()));
    Ok(ExitCode::SUCCESS)
}

/// Makes the package of the binary that is there, and tries it out.
pub fn package(log: &Log) -> Result<Tally> {
    ensure!(build::binary().is_file(), "the step `static` builds what is packaged");
    if !setup::runs(Command::new("dpkg-deb").arg("--version")) {
        return Ok(Tally::skipped("dpkg is not installed"));
    }
    let (directory, here) = (directory(), Architecture::X86_64);
    make(here, &build::binary(), log)?;
    let next = directory.join("next.deb");
    let package = Package {
        version: &format!("{VERSION}+next"),
        architecture: here.debian(),
        time: &time()?,
        compression: "none",
    };
    let mut build = deb::build(&root(here), &package, &next)?;
    ensure!(log.run(&mut build)?, "the package of the next version can't be built");
    let tried = deb::try_out(&debian_package(here), &next, &directory.join("installed"), log);
    if let Err(wrong) = &tried {
        println!("      {wrong}");
    }
    Ok(Tally::of(tried.is_ok()))
}

/// The Debian package of the binary that is there, made where it is older than that or than what else makes it.
pub fn debian(log: &Log) -> Result<PathBuf> {
    let (here, binary) = (Architecture::X86_64, build::binary());
    let (file, source) = (debian_package(here), paths::workspace().join("packaging"));
    let made = |path: &Path| fs::metadata(path).and_then(|found| found.modified()).ok();
    let parts = stage::below(&source)?.into_iter().map(|part| source.join(part)).chain([binary.clone()]);
    if parts.map(|part| made(&part)).max() > Some(made(&file)) {
        make(here, &binary, log)?;
    }
    Ok(file)
}

fn directory() -> PathBuf {
    paths::target_dir().join("package")
}

/// Where all of it is laid out.
fn root(architecture: Architecture) -> PathBuf {
    directory().join(match architecture {
        Architecture::X86_64 => "root",
        Architecture::Aarch64 => "root-aarch64",
    })
}

fn debian_package(architecture: Architecture) -> PathBuf {
    directory().join(format!("iommu-watch_{VERSION}_{}.deb", architecture.debian()))
}

/// What it makes of a binary.
fn make(architecture: Architecture, binary: &Path, log: &Log) -> Result<Vec<PathBuf>> {
    let (directory, root, time) = (directory(), root(architecture), time()?);
    stage::lay_out(&root, binary)?;
    let tarball = directory.join(format!("iommu-watch-{VERSION}-{}.tar.gz", architecture.name()));
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mtime"])
        .arg(format!("@{time}"))
        .args(["--use-compress-program", "gzip -9n", "-C"])
        .args([&root, Path::new("-cf"), &tarball, Path::new(".")]);
    ensure!(log.run(&mut tar)?, "the tarball can't be made");
    let file = debian_package(architecture);
    let package =
        Package { version: VERSION, architecture: architecture.debian(), time: &time, compression: "xz" };
    ensure!(log.run(&mut deb::build(&root, &package, &file)?)?, "the package can't be built");
    let sums = directory.join(match architecture {
        Architecture::X86_64 => "SHA256SUMS",
        Architecture::Aarch64 => "SHA256SUMS.aarch64",
    });
    let names = [&file, &tarball].map(|file| file.file_name().unwrap_or_default().to_owned());
    let told = Command::new("sha256sum").current_dir(directory).args(names).output();
    fs::write(&sums, told.context("can't run sha256sum")?.stdout).context("can't write SHA256SUMS")?;
    Ok(vec![file, tarball, sums])
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
