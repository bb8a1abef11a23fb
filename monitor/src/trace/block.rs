//! Blocks: what is written, and lost, in one piece: a [`Header`] and its content, as a rule compressed by
//! DEFLATE (RFC 1951).

use miniz_oxide::{deflate, inflate};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian::U32};

use super::{Damage, MAX_CONTENT};

const BEGIN: [u8; 4] = *b"IWBK";
const STORED: u8 = 0;
const DEFLATE: u8 = 1;
/// Of zlib's ten: beyond it little is gained.
const LEVEL: u8 = 6;

/// What a block begins with.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    begin: [u8; 4],
    method: u8,
    reserved: [u8; 3],
    /// Counts the blocks of the file.
    number: U32,
    /// Length of the content, decompressed.
    content: U32,
    /// Length of what follows the header in the file.
    stored: U32,
    /// CRC-32 (IEEE) of the header up to here and of what follows it.
    checksum: U32,
}

/// Length of a block's header, in bytes.
pub const HEADER: usize = size_of::<Header>();

/// The block of this content, which is at most [`MAX_CONTENT`] long.
pub fn seal(number: u32, content: &[u8]) -> Vec<u8> {
    let packed = deflate::compress_to_vec(content, LEVEL);
    let (method, stored) =
        if packed.len() < content.len() { (DEFLATE, packed.as_slice()) } else { (STORED, content) };
    let length = |bytes: &[u8]| U32::new(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    let mut header = Header {
        begin: BEGIN,
        method,
        reserved: [0; 3],
        number: U32::new(number),
        content: length(content),
        stored: length(stored),
        checksum: U32::ZERO,
    };
    header.checksum = header.checksum_with(stored);
    [header.as_bytes(), stored].concat()
}

impl Header {
    /// How many bytes follow in the file. That is said before the checksum can be known to be right, so
    /// all it decides is how far to read.
    pub fn stored(&self) -> Result<usize, Damage> {
        if self.begin != BEGIN {
            return Err(Damage::NoBlock);
        }
        bounded(self.stored)
    }

    /// The content, from what follows the header in the file.
    pub fn open(&self, number: u32, stored: &[u8]) -> Result<Vec<u8>, Damage> {
        if self.checksum_with(stored) != self.checksum {
            return Err(Damage::Checksum);
        }
        if self.number != number {
            return Err(Damage::Order { expected: number, found: self.number.get() });
        }
        let length = bounded(self.content)?;
        let content = match self.method {
            STORED => stored.to_vec(),
            DEFLATE => {
                inflate::decompress_to_vec_with_limit(stored, length).map_err(|_| Damage::Compression)?
            }
            method => return Err(Damage::Method(method)),
        };
        if content.len() == length { Ok(content) } else { Err(Damage::Compression) }
    }

    fn checksum_with(&self, stored: &[u8]) -> U32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.as_bytes()[..HEADER - size_of::<U32>()]);
        hasher.update(stored);
        U32::new(hasher.finalize())
    }
}

fn bounded(length: U32) -> Result<usize, Damage> {
    match length.get() as usize {
        bounded if bounded <= MAX_CONTENT => Ok(bounded),
        _ => Err(Damage::TooLong(length.get())),
    }
}
