//! How an entry lies in a half of the journal, and going from one to the next.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Entry, HALF, HALVES, Memory};

/// What an entry begins with.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Header {
    pub length: u32,
    pub checksum: u32,
    pub mono_ns: u64,
    pub position: u64,
    pub kind: u8,
    pub opening: u8,
    pub reserved: [u8; 6],
}

pub(super) const HEADER: usize = size_of::<Header>();

/// Where in a half.
pub(super) struct Walk<'a> {
    pub memory: &'a Memory,
    pub half: usize,
    pub at: usize,
    pub len: usize,
    pub number: u64,
}

impl Walk<'_> {
    /// The next entry, and whether it is of the half's opening.
    pub fn step(&mut self) -> Option<(bool, Entry)> {
        let left = self.len.checked_sub(self.at).filter(|&left| left >= HEADER)?;
        let at = base(self.half) + self.at;
        let header = Header::read_from_bytes(&self.memory.read(at, HEADER)?).ok()?;
        let size = size(header.length as usize);
        let body = self.memory.read(at + HEADER, Some(header.length as usize).filter(|_| size <= left)?)?;
        if checksum(&header, &body) != header.checksum {
            return None;
        }
        let number = self.number;
        self.at += size;
        self.number = number.checked_add(1)?;
        let Header { kind, mono_ns, position, .. } = header;
        Some((header.opening != 0, Entry { number, kind, mono_ns, position, body, again: false }))
    }
}

pub(super) fn base(half: usize) -> usize {
    HALVES + half * HALF
}

/// What an entry takes, so that the next one is aligned.
pub(super) fn size(body: usize) -> usize {
    (HEADER + body).next_multiple_of(8)
}

pub(super) fn checksum(header: &Header, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(Header { checksum: 0, ..*header }.as_bytes());
    hasher.update(body);
    hasher.finalize()
}
