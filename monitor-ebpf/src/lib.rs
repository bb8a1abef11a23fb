//! What the eBPF programs and the userspace share: the wire records.
#![no_std]
#![deny(unsafe_code)]

pub mod wire;
