//! What leaves the daemon beside its pages: lines on stdout or entries of the journal, held within bounds and kept on a disk
//! while nobody takes them, and violations that are pushed. None of it ever holds up the watching.

mod chunk;
pub mod journal;
pub mod limit;
pub mod marks;
pub mod push;
pub mod sink;
pub mod spool;
pub mod stdout;
mod stuck;
#[cfg(test)]
mod testing;
