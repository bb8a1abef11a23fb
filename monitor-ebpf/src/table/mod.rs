//! Walks over what hangs together in the kernel's memory: a group's `pasid_array` and the PASID tables of three
//! vendors' hardware, which are trees, and the cache tags of a VT-d domain and a device's page requests, which are lists.
//!
//! Each walk is a state with a bounded step, so that the same code runs from `bpf_loop` in the kernel, where
//! no loop may be endless, and over memory laid out by hand in the tests. A step reads, compares and moves on;
//! nothing is written and nothing is waited for.
//!
//! What can't be read is never taken for empty: the walk goes on and ends as incomplete.

pub mod amd;
mod hardware;
pub mod requests;
pub mod smmuv3;
pub mod tags;
pub mod vtd;
pub mod xarray;

pub use hardware::{Entry, Level, Shape, Walk};

/// Words that are read at one go.
pub const WINDOW: usize = 64;

/// PASIDs have 20 bits (PCIe 6.0, 10.5).
pub const PASID_BITS: u32 = 20;

/// Steps after which a walk is given up as incomplete: enough for 8,192 PASIDs side by side, or for 800 that
/// have a leaf each.
pub const STEPS: u32 = 1 << 16;

/// The memory that a walk reads.
pub trait Memory {
    /// The 64-bit word at an address; `None` if it can't be read.
    fn word(&self, address: u64) -> Option<u64>;
    /// The byte at an address; `None` if it can't be read.
    fn byte(&self, address: u64) -> Option<u8>;
    /// [`WINDOW`] words from an address on. `false` if they can't be read: then they mean nothing.
    fn window(&self, address: u64, into: &mut [u64; WINDOW]) -> bool;
}

/// 32 bits at an address that is a multiple of 4.
#[inline(always)]
fn half(memory: &impl Memory, address: u64) -> Option<u32> {
    memory.word(address & !7).map(|word| (word >> ((address & 4) * 8)) as u32)
}

/// What one step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<T> {
    /// Nothing yet: step again.
    Next,
    /// An entry: step again for the next.
    Found(T),
    /// The end was reached.
    Done,
}

#[cfg(test)]
mod testing;
