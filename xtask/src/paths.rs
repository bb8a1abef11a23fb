//! Where things are in the checkout.

use std::env;
use std::path::{Path, PathBuf};

/// The root of the checkout.
pub fn workspace() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}

/// The eBPF object in its target directory.
pub const EBPF_OBJECT: &str = "iommu-watch.bpf.o";

/// The target directory of the eBPF build: its own, since another compiler may write to it. It is fixed, whatever
/// `CARGO_TARGET_DIR` says: the build script of `monitor` embeds what it finds there.
pub fn ebpf_target_dir() -> PathBuf {
    workspace().join("target/ebpf")
}

/// Where cargo builds for another machine than this one, the eBPF object of that one included.
pub fn cross_target_dir() -> PathBuf {
    workspace().join("target/cross")
}

/// Where cargo builds for the host.
pub fn target_dir() -> PathBuf {
    workspace().join(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

/// Where logs are kept for a person to read.
pub fn artefacts() -> PathBuf {
    workspace().join("target/testbed")
}
