//! What the eBPF programs and the userspace share: the wire records, the walks over the kernel's tables and the
//! descriptors of its command queues, which are here so that they can be tested without a kernel.
#![no_std]
#![deny(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod descriptor;
pub mod table;
pub mod wire;
