//! Recordings: what a watcher was told, in a file, to be told again on any host. docs/recording.md is the format.
//!
//! A file is a mark, then blocks, each with its length and checksum; a block holds frames, each with its
//! kind, length and time. It knows neither a running kernel nor the model: it keeps and gives back what
//! came through the door (`input.rs`).

mod block;
mod content;
mod error;
mod frame;
mod head;
mod mark;
mod reader;
mod recorder;
mod store;
mod writer;

pub use error::{Damage, Error};
pub use head::{Head, Origin, RecordSizes};
pub use reader::{Entry, Item, Reader};
pub use recorder::{Recorder, Summary};
pub use store::{Store, Target, Unusable};

/// The greatest length of a block's content, in bytes: nothing longer is written or taken in.
const MAX_CONTENT: usize = 4 << 20;
/// The length at which a block is closed, in bytes. The window of DEFLATE is 32 KiB, so that longer ones
/// would hardly be smaller.
const FULL_CONTENT: usize = 256 << 10;
