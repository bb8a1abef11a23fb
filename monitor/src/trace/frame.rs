//! Frames: what a block's content is made of: a [`Header`] each, and what it says.

use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    little_endian::{U32, U64},
};

use super::{Damage, MAX_CONTENT};

/// In `flags`: whoever doesn't know this kind of frame must not read on.
const REQUIRED: u8 = 1;

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $number:literal,)*) => {
        /// What a frame says. Numbers are part of the format: append, never renumber.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Kind {
            $($(#[$doc])* $variant = $number,)*
        }

        impl Kind {
            fn from_number(number: u8) -> Option<Kind> {
                match number { $($number => Some(Kind::$variant),)* _ => None }
            }
        }
    };
}

kinds! {
    /// What was recorded, where and by what: the first frame of a file, and only that.
    Head = 1,
    /// From this time on every hook listens.
    Start = 2,
    /// A record as it came from the kernel, its identities renamed.
    Event = 3,
    /// What sysfs says.
    Inventory = 4,
    /// Which hooks report.
    Coverage = 5,
    /// Events were lost.
    Loss = 6,
    /// Groups are about to be read.
    Resync = 7,
    /// A group is gone.
    Gone = 8,
    /// The ring was found empty.
    Settled = 9,
    /// The frames of a kernel stack, before the first event that refers to it.
    Stack = 10,
    /// The recording ends here.
    End = 11,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    kind: u8,
    flags: u8,
    reserved: [u8; 2],
    /// Length of what the frame says, in bytes.
    length: U32,
    /// CLOCK_MONOTONIC, ns.
    mono_ns: U64,
}

pub const HEADER: usize = size_of::<Header>();

/// The longest that a frame can say, in bytes.
pub const MAX_BODY: usize = MAX_CONTENT - HEADER;

/// Appends a frame to a block's content. What it says is at most [`MAX_BODY`] long.
pub fn put(content: &mut Vec<u8>, kind: Kind, mono_ns: u64, body: &[u8]) {
    let header = Header {
        kind: kind as u8,
        flags: REQUIRED,
        reserved: [0; 2],
        length: U32::new(u32::try_from(body.len()).unwrap_or(u32::MAX)),
        mono_ns: U64::new(mono_ns),
    };
    content.extend(header.as_bytes());
    content.extend(body);
}

/// A frame within a block's content.
#[derive(Debug)]
pub struct Frame<'a> {
    /// `None`: a kind that this version doesn't know, and that may be left out.
    pub kind: Option<Kind>,
    pub mono_ns: u64,
    /// What it says.
    pub body: &'a [u8],
    /// Where in the content it ends.
    pub end: usize,
}

/// The frame that begins at `at`; `None` at the end of the content.
pub fn read(content: &[u8], at: usize) -> Result<Option<Frame<'_>>, Damage> {
    let rest = content.get(at..).unwrap_or_default();
    if rest.is_empty() {
        return Ok(None);
    }
    let (header, rest) = Header::read_from_prefix(rest).map_err(|_| Damage::Frame { at })?;
    let body = rest.get(..header.length.get() as usize).ok_or(Damage::Frame { at })?;
    let kind = Kind::from_number(header.kind);
    if kind.is_none() && header.flags & REQUIRED != 0 {
        return Err(Damage::Newer { at, kind: header.kind });
    }
    Ok(Some(Frame { kind, mono_ns: header.mono_ns.get(), body, end: at + HEADER + body.len() }))
}
