//! `cargo xtask setup`: what the builds and the testbed need from this machine.
//!
//! As root on Debian it is installed; else it is said what to install. What is there is left alone.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::toolchain::{self, Toolchain};

/// Something that must be there.
struct Need {
    what: &'static str,
    there: fn() -> bool,
    packages: &'static [&'static str],
}

const NEEDS: [Need; 3] = [
    Need {
        what: "a Rust toolchain for eBPF",
        there: || Toolchain::find().is_ok(),
        packages: &["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf"],
    },
    Need {
        what: "LLVM, to build bpf-linker",
        there: || toolchain::bpf_linker().is_ok(),
        packages: &["llvm-22-dev", "libpolly-22-dev"],
    },
    Need {
        what: "a C compiler and make, for the test modules",
        there: || ["gcc", "make", "strip"].iter().all(|tool| runs(Command::new(tool).arg("--version"))),
        packages: &["build-essential"],
    },
];

const BPF_LINKER: &str = "bpf-linker@0.13.0";
const LLVM_PREFIX: &str = "/usr/lib/llvm-22";

/// Installs what is missing, or says how to.
pub fn ensure_all() -> Result<()> {
    let missing: Vec<&Need> = NEEDS.iter().filter(|need| !(need.there)()).collect();
    let packages: Vec<&str> = missing.iter().flat_map(|need| need.packages.iter().copied()).collect();
    if !packages.is_empty() {
        let whats = missing.iter().map(|need| need.what).collect::<Vec<_>>().join("; ");
        if !may_install() {
            bail!(
                "missing: {whats}. As root on Debian this command installs it; else run\n  \
                 sudo apt-get install {}\n  \
                 LLVM_PREFIX={LLVM_PREFIX} cargo install {BPF_LINKER} --locked --no-default-features --features llvm-22",
                packages.join(" ")
            );
        }
        eprintln!("setup: missing: {whats}");
        install(&packages)?;
    }
    if toolchain::bpf_linker().is_err() {
        install_bpf_linker()?;
    }
    Toolchain::find().map(drop)
}

pub fn install(packages: &[&str]) -> Result<()> {
    eprintln!("setup: apt-get install {}", packages.join(" "));
    for arguments in
        [vec!["update"], [vec!["install", "--yes", "--no-install-recommends"], packages.to_vec()].concat()]
    {
        let status = Command::new("apt-get")
            .arg("-q")
            .args(&arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null())
            .status()
            .context("can't run apt-get")?;
        ensure!(status.success(), "apt-get {} failed", arguments.join(" "));
    }
    Ok(())
}

fn install_bpf_linker() -> Result<()> {
    eprintln!("setup: cargo install {BPF_LINKER} (about a minute)");
    let status = Command::new("cargo")
        .args(["install", BPF_LINKER, "--locked", "--no-default-features", "--features", "llvm-22"])
        .env("LLVM_PREFIX", LLVM_PREFIX)
        .env_remove("RUSTFLAGS")
        .status()
        .context("can't run cargo")?;
    ensure!(status.success(), "cargo install {BPF_LINKER} failed");
    Ok(())
}

/// Whether this is root on Debian.
pub fn may_install() -> bool {
    let root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    root && runs(Command::new("apt-get").arg("--version"))
}

/// Whether a program is there at all.
pub fn runs(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}
