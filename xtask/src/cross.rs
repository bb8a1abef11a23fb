//! Builds for aarch64 on another machine: `std` is what a toolchain has of it, else that of Debian's package, which is
//! unpacked and not installed; the linker and the emulator are Debian's cross compiler and qemu-user.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use testbed::apt::{self, Apt};
use testbed::cache::{Cache, Versions};

use crate::{ebpf, paths, setup, toolchain};

const TARGET: &str = "aarch64-unknown-linux-gnu";
const LINKER: &str = "aarch64-linux-gnu-gcc";
const EMULATOR: &str = "qemu-aarch64";
const PACKAGES: [&str; 3] = ["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross", "qemu-user"];

/// What Debian calls the compiler that `cargo xtask setup` installs, and its libraries.
const COMPILER: &str = "rustc-web";
const STD: &str = "libstd-rust-web-dev";

/// Of the tests: none that starts a binary, which would have to be run by the emulator in its turn.
const TESTS: [&str; 5] = ["--package=monitor", "--package=monitor-ebpf", "--lib", "--test", "scenarios"];
/// Under emulation a case of the property tests takes twenty times as long.
const PROPERTY_CASES: &str = "20";

/// A compiler with a `std` for aarch64.
pub struct Cross {
    /// The directory above `bin/`.
    prefix: PathBuf,
    /// Where its `std` is, if not beside the compiler.
    sysroot: Option<PathBuf>,
}

impl Cross {
    pub fn find() -> Result<Self> {
        let there = |tool| setup::runs(Command::new(tool).arg("--version"));
        if !(there(LINKER) && there(EMULATOR)) {
            if !setup::may_install() {
                bail!("missing: {LINKER} and {EMULATOR}; apt-get install {}", PACKAGES.join(" "));
            }
            setup::install(&PACKAGES)?;
        }
        let candidates = toolchain::candidates();
        if let Some(prefix) = candidates.iter().find(|prefix| has_std(prefix)) {
            return Ok(Self { prefix: prefix.clone(), sysroot: None });
        }
        // Its libraries fit no other compiler.
        let version = toolchain::stdout(Command::new("dpkg-query").args(["-Wf", "${Version}", COMPILER]));
        let debian = candidates.into_iter().find(|prefix| prefix == Path::new("/usr"));
        let (Some(version), Some(prefix)) = (version, debian) else {
            bail!("no toolchain here has a std for {TARGET}; run\n  rustup target add {TARGET}");
        };
        Ok(Self { prefix, sysroot: Some(fetch_std(&version)?) })
    }

    /// Builds what ships, and returns its place.
    pub fn build(&self) -> Result<PathBuf> {
        let status = self.cargo("build")?.args(["--release", "--package", "monitor"]).status();
        ensure!(status.context("can't run cargo")?.success(), "the build of iommu-watch for {TARGET} failed");
        Ok(paths::cross_target_dir().join(TARGET).join("release/iommu-watch"))
    }

    /// Runs the tests under the emulator.
    pub fn test(&self) -> Result<()> {
        let mut cargo = self.cargo("test")?;
        let status = cargo.args(TESTS).env("PROPERTY_CASES", PROPERTY_CASES).status();
        ensure!(status.context("can't run cargo")?.success(), "the tests for {TARGET} failed");
        Ok(())
    }

    fn cargo(&self, command: &str) -> Result<Command> {
        let directory = paths::cross_target_dir();
        let object = ebpf::build_for("aarch64", &directory.join("ebpf"))?;
        let mut flags = "-C target-feature=+crt-static".to_owned();
        if let Some(sysroot) = &self.sysroot {
            flags.push_str(&format!(" --sysroot {}", sysroot.display()));
        }
        let mut cargo = Command::new(self.prefix.join("bin/cargo"));
        for name in ebpf::CLEARED {
            cargo.env_remove(name);
        }
        cargo
            .current_dir(paths::workspace())
            .env("RUSTC", self.prefix.join("bin/rustc"))
            .env("IOMMU_WATCH_EBPF", object)
            .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", LINKER)
            .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER", EMULATOR)
            .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS", flags)
            .env("CC_aarch64_unknown_linux_gnu", LINKER)
            .args([command, "--locked", "--target", TARGET, "--target-dir"])
            .arg(directory);
        Ok(cargo)
    }
}

fn has_std(prefix: &Path) -> bool {
    let mut rustc = Command::new(prefix.join("bin/rustc"));
    let libraries = toolchain::stdout(rustc.args(["--print", "target-libdir", "--target", TARGET]));
    libraries.is_some_and(|libraries| toolchain::has_library(Path::new(&libraries), "std"))
}

/// Debian's own `std` for the compiler of this version; its sysroot.
fn fetch_std(version: &str) -> Result<PathBuf> {
    let cache = Cache::open()?;
    let entry = cache.entry(&format!("{STD}-{version}"), |dir, _| {
        let debs = Apt::foreign(&cache, "arm64")?.download(&[format!("{STD}={version}")], dir)?;
        apt::unpack(&debs, &dir.join("root"))?;
        let packages = debs.into_iter().map(|deb| (deb.name, deb.version)).collect();
        Ok(Versions { release: version.into(), packages })
    })?;
    Ok(entry.dir.join("root/usr"))
}
