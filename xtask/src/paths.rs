//! Where things are in the checkout.

use std::path::{Path, PathBuf};

/// The root of the checkout.
pub fn workspace() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}

/// The place of the eBPF object. It is fixed, whatever `CARGO_TARGET_DIR` says: the build script of
/// `monitor` embeds what it finds there.
pub fn ebpf_object() -> PathBuf {
    ebpf_target_dir().join("iommu-watch.bpf.o")
}

/// The target directory of the eBPF build: its own, since another compiler may write to it.
pub fn ebpf_target_dir() -> PathBuf {
    workspace().join("target/ebpf")
}

/// Where builds of the workspace may lie: cargo's own place, then the user's.
pub fn target_dirs() -> Vec<PathBuf> {
    let own = std::env::var_os("CARGO_TARGET_DIR").map(|dir| workspace().join(dir));
    own.into_iter().chain([workspace().join("target")]).collect()
}

/// Where logs of guests are kept for a person to read.
pub fn artefacts() -> PathBuf {
    workspace().join("target/testbed")
}
