//! Which compiler and which linker of this machine can build for `bpfel-unknown-none`.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

pub const TARGET: &str = "bpfel-unknown-none";

/// Names a directory with `bin/rustc` and `bin/cargo` that is to be used and no other.
const OVERRIDE: &str = "IOMMU_WATCH_EBPF_TOOLCHAIN";

/// A compiler with a way to `core` for the target.
#[derive(Debug)]
pub struct Toolchain {
    /// The directory above `bin/`.
    pub prefix: PathBuf,
    pub core: Core,
}

/// Where `core` for the target comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Core {
    /// It lies beside the compiler, as in Debian's `libstd-rust-web-dev-bpf`.
    Prebuilt,
    /// It is built from the compiler's `rust-src`.
    Source,
}

impl Toolchain {
    /// The first toolchain that can build for the target: an override by the environment, rustup's
    /// nightly, rustup's stable, then the system's own.
    pub fn find() -> Result<Self> {
        let candidates = match env::var_os(OVERRIDE) {
            Some(prefix) => vec![PathBuf::from(prefix)],
            None => candidates(),
        };
        if let Some(toolchain) = candidates.iter().find_map(|prefix| Self::at(prefix)) {
            return Ok(toolchain);
        }
        let looked_at =
            candidates.iter().map(|prefix| prefix.display().to_string()).collect::<Vec<_>>().join(", ");
        bail!(
            "no Rust toolchain here can build for {TARGET} (looked at: {looked_at}); run one of\n  \
             rustup toolchain install nightly --component rust-src\n  \
             apt-get install rustc-web cargo-web libstd-rust-web-dev-bpf   (Debian)\n\
             or let {OVERRIDE} name the directory above its bin/"
        )
    }

    fn at(prefix: &Path) -> Option<Self> {
        let rustc = prefix.join("bin/rustc");
        if !rustc.is_file() || !prefix.join("bin/cargo").is_file() {
            return None;
        }
        let libraries = stdout(Command::new(&rustc).args(["--print", "target-libdir", "--target", TARGET]))?;
        let sysroot = stdout(Command::new(&rustc).args(["--print", "sysroot"]))?;
        let core = if has_library(Path::new(&libraries), "core") {
            Core::Prebuilt
        } else if Path::new(&sysroot).join("lib/rustlib/src/rust/library/Cargo.lock").is_file() {
            Core::Source
        } else {
            return None;
        };
        Some(Self { prefix: prefix.to_path_buf(), core })
    }

    pub fn cargo(&self) -> PathBuf {
        self.prefix.join("bin/cargo")
    }

    pub fn rustc(&self) -> PathBuf {
        self.prefix.join("bin/rustc")
    }
}

/// `bpf-linker`: in the PATH, else where `cargo install` puts it.
pub fn bpf_linker() -> Result<PathBuf> {
    let cargo_home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(".cargo")))
        .map(|home| home.join("bin"));
    let found = path_dirs()
        .into_iter()
        .chain(cargo_home)
        .map(|dir| dir.join("bpf-linker"))
        .find(|tool| tool.is_file());
    match found {
        Some(linker) => Ok(linker),
        None => bail!(
            "bpf-linker is missing; run one of\n  \
             cargo xtask setup   (Debian, as root)\n  \
             cargo binstall bpf-linker\n  \
             cargo install bpf-linker   (https://github.com/aya-rs/bpf-linker says what it needs)"
        ),
    }
}

/// The directories above `bin/` with a compiler: rustup's nightly, its stable one, then the system's own.
pub fn candidates() -> Vec<PathBuf> {
    let rustup = ["nightly", "stable"]
        .into_iter()
        .filter_map(|channel| stdout(Command::new("rustup").args(["which", "--toolchain", channel, "rustc"])))
        .filter_map(|rustc| prefix_of(Path::new(&rustc)));
    // A directory that holds `rustup` holds its proxies, not compilers.
    let system = path_dirs()
        .into_iter()
        .filter(|dir| !dir.join("rustup").exists())
        .filter_map(|dir| prefix_of(&dir.join("rustc")));
    let mut prefixes: Vec<PathBuf> = Vec::new();
    for prefix in rustup.chain(system) {
        if prefix.join("bin/rustc").is_file() && !prefixes.contains(&prefix) {
            prefixes.push(prefix);
        }
    }
    prefixes
}

/// `PREFIX/bin/rustc` → `PREFIX`.
fn prefix_of(rustc: &Path) -> Option<PathBuf> {
    Some(rustc.parent()?.parent()?.to_path_buf())
}

fn path_dirs() -> Vec<PathBuf> {
    env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default()
}

/// Whether a library of Rust's own lies beside the compiler.
pub fn has_library(libraries: &Path, name: &str) -> bool {
    libraries.read_dir().is_ok_and(|entries| {
        entries.flatten().any(|entry| {
            let file = entry.file_name();
            let file = file.to_string_lossy();
            file.starts_with(&format!("lib{name}-")) && file.ends_with(".rlib")
        })
    })
}

/// What a command writes, nothing where it fails.
pub fn stdout(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_prebuilt_core_is_an_rlib_beside_the_compiler() {
        let dir = env::temp_dir().join(format!("xtask-core-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("libcore-0123.rmeta"), "").unwrap();
        assert!(!has_library(&dir, "core"));
        fs::write(dir.join("libcore-0123.rlib"), "").unwrap();
        assert!(has_library(&dir, "core"));
        assert!(!has_library(&dir, "std"));
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn the_prefix_is_the_directory_above_bin() {
        assert_eq!(prefix_of(Path::new("/usr/bin/rustc")), Some(PathBuf::from("/usr")));
    }
}
