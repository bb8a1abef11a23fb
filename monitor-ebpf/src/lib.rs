//! What the eBPF programs and the userspace share: the wire records, and the walks over the kernel's tables,
//! which are here so that they can be tested without a kernel.
#![no_std]
#![deny(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod table;
pub mod wire;
