//! What the sets of programs say of themselves that share a journal: each in a place of its own, by its number, so that one
//! is written while another one is read.

use zerocopy::{FromBytes, IntoBytes};

use super::{MANIFEST, MANIFEST_LEN, Memory};

/// How many sets can share a journal: the one that records, the one that follows it, and what was left of two that were to.
pub const SETS: usize = 4;
const PLACE: usize = MANIFEST_LEN / SETS;
const HEAD: usize = size_of::<[u32; 2]>();

/// Writes what the set of this number says. It counts when its length is written, which comes last.
pub(super) fn write(memory: &Memory, number: usize, manifest: &[u8]) -> bool {
    let at = MANIFEST + number * PLACE;
    number < SETS
        && manifest.len() <= PLACE - HEAD
        && memory.write(at, [0_u32; 2].as_bytes())
        && memory.write(at + HEAD, manifest)
        && memory.write(at, [manifest.len() as u32, crc32fast::hash(manifest)].as_bytes())
}

/// What it says; `None`: nothing, or nothing whole.
pub(super) fn read(memory: &Memory, number: usize) -> Option<Vec<u8>> {
    let at = MANIFEST + number * PLACE;
    let head = memory.read(at, HEAD).filter(|_| number < SETS)?;
    let [length, checksum] = <[u32; 2]>::read_from_bytes(&head).ok()?;
    let length = Some(length as usize).filter(|&length| (1..=PLACE - HEAD).contains(&length))?;
    memory.read(at + HEAD, length).filter(|bytes| crc32fast::hash(bytes) == checksum)
}
