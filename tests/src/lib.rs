//! The testbed: real kernels under an emulated IOMMU, with faults on demand.
//!
//! From below upwards:
//! [`cache`] keeps what was fetched; [`apt`] fetches Debian packages without touching the machine;
//! [`qemu`], [`kernel`] and [`busybox`] are made from such packages; [`kbuild`] builds the test modules for
//! a kernel and [`program`] the programs that run beside them; [`initramfs`] packs the guest that [`guest`] describes; [`vm`] boots it and gives back what its
//! script said.

pub mod apt;
pub mod busybox;
pub mod cache;
pub mod error;
pub mod guest;
pub mod initramfs;
pub mod kbuild;
pub mod kernel;
pub mod machine;
pub mod modules;
pub mod process;
pub mod program;
pub mod progress;
pub mod qemu;
pub mod serial;
pub mod vm;
pub mod vmlinux;

pub use error::{Error, Result};
pub use kernel::Series;
pub use machine::Iommu;
pub use vm::{Kernel, Outcome, Script, Vm};
