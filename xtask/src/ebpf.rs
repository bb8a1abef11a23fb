//! `cargo xtask build-ebpf`: the eBPF object of `monitor-ebpf`.
//!
//! The object is always built optimised: what the verifier sees must be what is shipped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::paths;
use crate::toolchain::{self, Core, TARGET, Toolchain};

const PACKAGE: &str = "monitor-ebpf";

/// What the outer cargo sets, or a user has set for host builds, must not reach the inner build.
pub const CLEARED: [&str; 8] = [
    "RUSTUP_TOOLCHAIN",
    "RUSTC",
    "CARGO",
    "RUSTFLAGS",
    "CARGO_ENCODED_RUSTFLAGS",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "CARGO_TARGET_DIR",
];

/// The release profile of the workspace is made for the host; bpf-linker does the link-time work itself,
/// and `--btf` needs the debug information.
const PROFILE: [(&str, &str); 5] = [
    ("CARGO_PROFILE_RELEASE_LTO", "off"),
    ("CARGO_PROFILE_RELEASE_DEBUG", "2"),
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "3"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1"),
    ("CARGO_PROFILE_RELEASE_PANIC", "abort"),
];

/// Builds the object, puts it at [`paths::ebpf_object`] and returns that place.
pub fn build() -> Result<PathBuf> {
    let mut cargo = command()?;
    let status = cargo.status().with_context(|| format!("can't run {}", cargo.get_program().display()))?;
    ensure!(status.success(), "the eBPF build failed");
    let object = install()?;
    eprintln!("build-ebpf: {}", object.display());
    Ok(object)
}

/// The cargo command that builds it.
pub fn command() -> Result<Command> {
    command_for("x86_64", &paths::ebpf_target_dir())
}

/// The object for kernels of another architecture, in a directory of its own; returns its place.
pub fn build_for(architecture: &str, directory: &Path) -> Result<PathBuf> {
    let status = command_for(architecture, directory)?.status().context("can't run cargo")?;
    ensure!(status.success(), "the eBPF build failed");
    install_in(directory)
}

fn command_for(architecture: &str, directory: &Path) -> Result<Command> {
    let toolchain = Toolchain::find()?;
    let linker = toolchain::bpf_linker()?;
    let core = match toolchain.core {
        Core::Prebuilt => "prebuilt core",
        Core::Source => "build-std",
    };
    eprintln!("build-ebpf: {} ({core}), {}", toolchain.rustc().display(), linker.display());

    let flags = [
        format!("-Clinker={}", linker.display()),
        "-Cdebuginfo=2".into(),
        "-Clink-arg=--btf".into(),
        // Else each zeroing of some bytes is a call of a loop over them, which the verifier goes through byte by byte.
        "-Clink-arg=--disable-expand-memcpy-in-order".into(),
        format!("--cfg=bpf_target_arch=\"{architecture}\""),
    ];
    let mut cargo = Command::new(toolchain.cargo());
    for name in CLEARED {
        cargo.env_remove(name);
    }
    cargo
        .current_dir(paths::workspace())
        .env("RUSTC", toolchain.rustc())
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .envs(PROFILE)
        .args(["build", "--locked", "--release", "--package", PACKAGE, "--bin", PACKAGE])
        .args(["--target", TARGET])
        .arg("--target-dir")
        .arg(directory);
    if toolchain.core == Core::Source {
        cargo.arg("-Zbuild-std=core");
    }
    Ok(cargo)
}

/// Puts what was built at its fixed place, without its DWARF, and returns that place.
pub fn install() -> Result<PathBuf> {
    install_in(&paths::ebpf_target_dir())
}

fn install_in(directory: &Path) -> Result<PathBuf> {
    let built = directory.join(TARGET).join("release").join(PACKAGE);
    let whole = fs::read(&built).with_context(|| format!("can't read {}", built.display()))?;
    let stripped = strip(&whole).with_context(|| format!("can't strip {}", built.display()))?;
    let object = directory.join(paths::EBPF_OBJECT);
    replace_if_changed(&stripped, &object)?;
    Ok(object)
}

/// Takes the DWARF out of an object: three quarters of it, which nobody reads once the BTF is made.
fn strip(elf: &[u8]) -> Result<Vec<u8>, object::build::Error> {
    let mut builder = object::build::elf::Builder::read(elf)?;
    for section in &mut builder.sections {
        let name = &section.name;
        section.delete = name.starts_with(b".debug_") || name.starts_with(b".rel.debug_");
    }
    builder.delete_orphans();
    // LLVM keeps the names of sections and of symbols in one table; the writer wants one for each.
    let names = builder.sections.add();
    names.name = b".shstrtab"[..].into();
    names.sh_type = object::elf::SHT_STRTAB;
    names.sh_addralign = 1;
    names.data = object::build::elf::SectionData::SectionString;
    let mut stripped = Vec::new();
    builder.write(&mut stripped)?;
    Ok(stripped)
}

/// Writes `new` to `to` in one step, and only where it differs, so that nothing is rebuilt for nothing.
fn replace_if_changed(new: &[u8], to: &Path) -> Result<()> {
    if fs::read(to).is_ok_and(|old| old == new) {
        return Ok(());
    }
    let beside = to.with_extension("new");
    fs::write(&beside, new).with_context(|| format!("can't write {}", beside.display()))?;
    fs::rename(&beside, to).with_context(|| format!("can't write {}", to.display()))
}
