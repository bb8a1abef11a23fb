//! What the kernel side keeps account of when it can't report.
//!
//! Each loss is counted in two places: first where it belongs, at its group in the map of losses or, where
//! that isn't known, among the `ELSEWHERE` of its CPU; then in the sum of its CPU. Userspace reads them the
//! other way round. So a loss that it sees in the sums is one that it finds at its place too.

/// How many groups have their own account of losses; those of further groups count as `ELSEWHERE`.
pub const LOSS_GROUPS: u32 = 4096;

/// What can be lost of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum LossKind {
    /// A record: the ring had no room for it.
    Record = 0,
    /// That a call is under way: it could not be remembered, so that its end will be missing.
    Call = 1,
}

impl LossKind {
    pub const ALL: [LossKind; 2] = [LossKind::Record, LossKind::Call];
    /// How many kinds there are.
    pub const COUNT: usize = Self::ALL.len();
}

/// The losses of one group, by [`LossKind`]. They only ever grow.
pub type Losses = [u64; LossKind::COUNT];

/// The counters of each CPU, by index in their map.
pub mod count {
    use super::LossKind;

    /// Records that were to be made.
    pub const TRIED: u32 = 0;
    /// How many counters there are.
    pub const LEN: u32 = 1 + 2 * LossKind::COUNT as u32;

    /// All that was lost of a kind.
    pub const fn lost(what: LossKind) -> u32 {
        1 + what as u32
    }

    /// What of it is not in the map of losses by group.
    pub const fn elsewhere(what: LossKind) -> u32 {
        1 + LossKind::COUNT as u32 + what as u32
    }
}
