//! The eBPF programs of iommu-watch: one file for each family of hooks under `probe/`.
//!
//! They report what the kernel did and never decide whether that was right. Built for the eBPF target
//! by `cargo xtask build-ebpf`; for the host this is an empty program, so that the workspace builds
//! without an eBPF toolchain.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
// `core` has no atomic addition for this target: see `probe/loss.rs`.
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

#[cfg(target_arch = "bpf")]
mod probe;

#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    // The verifier refuses a program from which this could be reached.
    loop {}
}

/// Some helpers (stack ids, probe reads) are for GPL-compatible programs only.
#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
