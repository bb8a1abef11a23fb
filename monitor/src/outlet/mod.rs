//! What leaves the daemon beside its pages: lines on stdout, held within bounds and kept on a disk while nobody takes them,
//! and violations that are pushed. None of it ever holds up the watching.

mod chunk;
pub mod limit;
pub mod marks;
pub mod push;
mod sink;
pub mod spool;
pub mod stdout;
#[cfg(test)]
mod testing;
