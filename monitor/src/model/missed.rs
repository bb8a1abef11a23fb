//! Our own missed events: what a look shows and no call that was seen accounts for.

use monitor_ebpf::wire::{Hook, is_snapshot};

use crate::event::Event;

use super::group::{Group, Presence};

/// The hook that must have missed a call, if a sound reading shows what no call accounts for. What a call
/// that is under way may be changing accounts for itself. What was read without the mutex proves nothing here: it can be
/// half-way, or newer than its place in the ring.
pub(super) fn missed(group: &Group, event: &Event) -> Option<Hook> {
    // Inside a call of its own the state is half-way: only our own read comes from outside of all.
    if !is_snapshot(event.hook) || !group.synced || event.incomplete {
        return None;
    }
    let seen = event.group.as_ref()?;
    let changing = group.in_flight.others(event.task.tid).overlap();
    if let (Some(known), Some(read), false) = (group.proved.0, seen.ownership, changing.ownership())
        && known != read
    {
        return Some(match (known.owner, read.owner) {
            (None, Some(_)) => Hook::ClaimGroup,
            (Some(_), None) => Hook::ReleaseGroup,
            _ if known.count < read.count => Hook::UseDefault,
            _ => Hook::UnuseDefault,
        });
    }
    // A member that a reset keeps blocked is not switched with its group: of the last one no attach tells.
    if let (Some(known), Some(read), false) = (group.proved.1, seen.domain, changing.domain())
        && known.key != read.key
        && seen.recovery_cnt == 0
    {
        return Some(Hook::RidAttach);
    }
    let array = event.array.as_ref()?;
    let settled = |pasid: u32| {
        !changing.pasid(pasid) && !group.stirred.may_have(pasid) && group.presence(pasid) != Presence::Unknown
    };
    for entry in array.pasids().filter(|entry| settled(entry.pasid)) {
        let Some(known) = group.attachment(entry.pasid) else { return Some(Hook::PasidAttach) };
        let replaced = known.domain.zip(entry.domain).is_some_and(|(known, read)| known.key != read.key);
        if replaced {
            return Some(Hook::PasidReplace);
        }
    }
    let there = |pasid: u32| array.has(pasid);
    let mut gone = group.pasids.keys().filter(|&&pasid| settled(pasid) && !there(pasid));
    (array.complete && gone.next().is_some()).then_some(Hook::PasidDetach)
}
