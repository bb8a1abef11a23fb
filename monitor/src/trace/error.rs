//! What can be wrong with a recording, and where.

use std::io;

use crate::event::Malformed;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it is no recording of iommu-watch")]
    Foreign,
    #[error("it is a recording of format {major}, and this iommu-watch reads format {ours}", ours = super::mark::MAJOR)]
    Format { major: u16 },
    #[error(
        "it was recorded by iommu-watch {program} with records of version {wire}, and this iommu-watch reads version {ours}: replay it with iommu-watch {program}",
        ours = monitor_ebpf::wire::WIRE_VERSION
    )]
    Wire { program: String, wire: u32 },
    #[error("damaged at offset {offset}: {what}")]
    Damaged { offset: u64, what: Damage },
}

/// What is wrong at an offset of the file. Up to there it is as it was written.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    #[error("the mark at the beginning fails its checksum")]
    Mark,
    #[error("it is cut off: {missing} bytes of what begins here are missing")]
    Truncated { missing: u64 },
    #[error(
        "it ends without its end mark: the recorder was killed or records still, or the rest was cut off"
    )]
    Unfinished,
    #[error("no block begins here")]
    NoBlock,
    #[error("the block fails its checksum")]
    Checksum,
    #[error("a block of {0} bytes is longer than any can be")]
    TooLong(u32),
    #[error("block {found} follows where block {expected} should")]
    Order { expected: u32, found: u32 },
    #[error("the block is compressed by an unknown method, {0}")]
    Method(u8),
    #[error("the block can't be decompressed")]
    Compression,
    #[error("the block's content ends within the frame at {at}")]
    Frame { at: usize },
    #[error(
        "the frame at {at} of the block's content is of kind {kind}, which a newer iommu-watch wrote and which can't be left out"
    )]
    Newer { at: usize, kind: u8 },
    #[error("the frame at {at} of the block's content: {why}")]
    Content { at: usize, why: String },
    #[error("the frame at {at} of the block's content: {why}")]
    Record { at: usize, why: Malformed },
    #[error("the frame at {at} of the block's content is none that may stand there")]
    Place { at: usize },
    #[error("something follows the end mark")]
    AfterEnd,
}
