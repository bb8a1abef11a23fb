//! Embeds the eBPF object where `cargo xtask build-ebpf` has built one, else an empty stub, so that
//! check, clippy and the tests need no eBPF toolchain.

use std::{env, fs, io, path::PathBuf};

/// Set to embed another object.
const OVERRIDE: &str = "IOMMU_WATCH_EBPF";

fn main() -> io::Result<()> {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let object = env::var_os(OVERRIDE)
        .map_or_else(|| manifest.join("../target/ebpf/iommu-watch.bpf.o"), PathBuf::from);
    println!("cargo::rerun-if-env-changed={OVERRIDE}");
    println!("cargo::rerun-if-changed={}", object.display());
    let bytes = match fs::read(&object) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    fs::write(out.join("iommu-watch.bpf.o"), bytes)
}
