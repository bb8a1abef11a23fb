//! The testbed: real kernels under an emulated IOMMU, with faults on demand.
//!
//! From below upwards:
//! - [`cache`] keeps what was fetched; [`apt`] fetches Debian packages without touching the machine.
//! - [`qemu`], [`kernel`], [`busybox`], [`debian`], [`prometheus`] and [`bpftrace`] are made from such packages.
//! - [`kbuild`] builds the test modules for a kernel, [`program`] the programs that run beside them.
//! - [`initramfs`] packs the guest that [`guest`] describes; [`machine`] is what it runs on.
//! - [`vm`] boots it (by [`boot`]) and gives back what its script said.
//! - [`long_run`] is tried by itself, and outlasts them all.
//! - [`scenario`] is the table of what is tried; [`matrix`] tries it on every kernel; [`proof`] is what came of it.

pub mod apt;
pub mod boot;
pub mod bpftrace;
pub mod busybox;
pub mod cache;
pub mod debian;
pub mod error;
pub mod guest;
pub mod initramfs;
pub mod kbuild;
pub mod kernel;
pub mod long_run;
pub mod machine;
pub mod matrix;
pub mod modules;
pub mod process;
pub mod program;
pub mod progress;
pub mod prometheus;
pub mod proof;
pub mod qemu;
pub mod scenario;
pub mod serial;
pub mod vm;
pub mod vmlinux;

pub use error::{Error, Result};
pub use kernel::Series;
pub use machine::Iommu;
pub use scenario::Scenario;
pub use vm::{Kernel, Outcome, Script, Vm};
