//! Recordings: what is written is read back, whatever is broken is told with its place, and what was
//! recorded on real kernels replays to what was said there.

mod advisories;
mod corpus;
mod golden;
mod harness;
mod hostile;
mod metamorphic;
mod rig;
mod rotation;
mod roundtrip;
mod synthetic;
