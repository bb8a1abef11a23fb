//! What a file begins with, before its blocks.

use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    little_endian::{U16, U32},
};

use super::{Damage, Error};

/// The bytes beyond ASCII and the line ends show a transfer that took the file for text.
const NAME: [u8; 8] = *b"\x89IWREC\r\n";
/// Another major version is not read. A minor one adds kinds of frames, which an older reader leaves out.
pub const MAJOR: u16 = 1;
const MINOR: u16 = 0;

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Mark {
    name: [u8; 8],
    major: U16,
    minor: U16,
    /// CRC-32 (IEEE) of the mark up to here.
    checksum: U32,
}

impl Mark {
    pub fn new() -> Mark {
        let mark = Mark { name: NAME, major: U16::new(MAJOR), minor: U16::new(MINOR), checksum: U32::ZERO };
        Mark { checksum: mark.sum(), ..mark }
    }

    /// Whether a file that begins so is to be read.
    pub fn check(&self) -> Result<(), Error> {
        if self.name != NAME {
            Err(Error::Foreign)
        } else if self.checksum != self.sum() {
            Err(Error::Damaged { offset: 0, what: Damage::Mark })
        } else if self.major != MAJOR {
            Err(Error::Format { major: self.major.get() })
        } else {
            Ok(())
        }
    }

    fn sum(&self) -> U32 {
        let bytes = self.as_bytes();
        U32::new(crc32fast::hash(&bytes[..bytes.len() - size_of::<U32>()]))
    }
}
