//! The pieces that calls are made of, and those that several calls have in common.

use monitor_ebpf::wire::{self, Hook, Phase};

use crate::world::{Call, Entry, address};

/// Handles of bonds that a failed call can't return.
const BONDS: u64 = 0xffff_8890_0000_0000;

/// A piece of a call.
pub enum Step {
    Record(Call, Phase, i64),
    Attach(Entry),
    Replace(u32, u16),
    Detach(u32),
    /// No call is under way on the PASID any more.
    Calm(u32),
    /// `owner`, `owner_cnt` and domain as they are from now on.
    Own(u64, u32, wire::Domain),
    /// One use more or one less.
    Count(i32),
    Domain(wire::Domain),
    /// The group is free for the other tasks.
    Leave,
}

/// What iommu_sva_bind_device returns.
pub fn bond(group: usize, pasid: u32) -> i64 {
    (BONDS + ((group as u64) << 24) + u64::from(pasid) * 8) as i64
}

/// The last user of a process's memory is gone, and its PASID goes back.
pub fn process_goes(pasid: u32, group: usize, task: usize) -> [Step; 4] {
    let on = |hook| Call { mm: address(7, pasid), pasid, device: false, ..Call::on(hook, group, task) };
    [
        Step::Record(on(Hook::MmExit), Phase::Point, 0),
        Step::Record(on(Hook::MmDrop), Phase::Begin, 0),
        Step::Record(on(Hook::PasidFree), Phase::Point, 0),
        Step::Record(on(Hook::MmDrop), Phase::End, 0),
    ]
}

/// The one RID of a group gets a domain.
pub fn attach_rid(group: usize, task: usize, to: wire::Domain) -> [Step; 2] {
    let call = Call { domain: Some(to), ..Call::on(Hook::RidAttach, group, task) };
    [Step::Record(call, Phase::Begin, 0), Step::Record(call, Phase::End, 0)]
}

/// The same by a caller whose return is seen.
pub fn rid(group: usize, task: usize, to: wire::Domain, hook: Hook) -> [Step; 4] {
    let call = Call { device: false, domain: Some(to), ..Call::on(hook, group, task) };
    let [begin, end] = attach_rid(group, task, to);
    [begin, end, Step::Domain(to), Step::Record(call, Phase::End, 0)]
}
