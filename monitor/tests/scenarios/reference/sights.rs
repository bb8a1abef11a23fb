//! What who looks at a group sees broken.

use std::collections::{BTreeMap, BTreeSet};

use super::{DIVERGENCE, LEFT, MISMATCH, OFF_DEFAULT};
use crate::kernel::{Call, Dev, Fact, Sight};

/// A sentence that one look shows broken, with the PASIDs that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub check: &'static str,
    pub pasids: Vec<u32>,
    /// Nobody can be blamed for it: a device that joins later doesn't get the group's PASIDs.
    pub excused: bool,
}

pub fn seen(facts: &[Fact], sight: &Sight) -> Vec<Seen> {
    let state = &sight.state;
    let free = state.owner == 0 && state.count == 0;
    let user = state.owner != 0 && state.count > 0;
    let on_default = state.domain == state.default_domain;
    let mut found = Vec::new();
    // "not judged while a member is blocked by a reset"
    let settled = state.recovery_cnt == 0;
    // "a FREE group that has a default domain sits on it; a USER group never does"
    if settled && (free && !on_default || user && on_default) {
        found.push(broken(OFF_DEFAULT, Vec::new(), false));
    }
    // "when ownership of a group is all released, the group's PASID table must be empty": of what was attached while
    // somebody held it. Who attaches when nobody does leaves nothing by a release.
    let left: Vec<u32> =
        state.array.keys().copied().filter(|&pasid| pasid != 0 && was_held(facts, sight, pasid)).collect();
    if free && !left.is_empty() {
        found.push(broken(LEFT, left, false));
    }
    if !settled {
        return found;
    }
    // "no PASID >= 1 present that the core doesn't know; none missing that it does"
    let able: Vec<&Dev> = sight.devices.iter().filter(|device| device.max_pasids > 0).collect();
    for device in &able {
        let extra: Vec<u32> =
            device.present.keys().copied().filter(|pasid| !state.array.contains_key(pasid)).collect();
        if !extra.is_empty() {
            found.push(broken(MISMATCH, extra, false));
        }
    }
    // The drivers clear the PASID of a process that exits; the core keeps it until the unbind.
    let exited = |domain: &Option<u64>| domain.is_some_and(|domain| sight.exited.contains(&domain));
    let core = state.array.iter().filter(|(pasid, domain)| **pasid != 0 && !exited(domain));
    let known: BTreeSet<u32> = core.map(|(&pasid, _)| pasid).collect();
    let lacks = |device: &Dev, pasid: &u32| !device.present.contains_key(pasid);
    let missing = |pasid: &u32| !able.is_empty() && able.iter().all(|device| lacks(device, pasid));
    let nowhere: Vec<u32> = known.iter().copied().filter(|pasid| missing(pasid)).collect();
    if !nowhere.is_empty() {
        found.push(broken(MISMATCH, nowhere, false));
    }
    // "all PASID-capable members of a group have the same domain on a PASID; a member that joined later is info"
    let uneven = |pasid: &&u32| !missing(pasid) && able.iter().any(|device| lacks(device, pasid));
    let joined_later = |pasid: u32| {
        let attached = attached_at(facts, sight, pasid);
        able.iter()
            .filter(|device| lacks(device, &pasid))
            .any(|device| attached.is_none_or(|at| device.joined > at))
    };
    let (excused, proved): (Vec<u32>, Vec<u32>) =
        known.iter().filter(uneven).partition(|&&pasid| joined_later(pasid));
    let pasids: BTreeSet<u32> = able.iter().flat_map(|device| device.present.keys().copied()).collect();
    let differs = |pasid: &u32| {
        let domains: BTreeMap<u64, ()> =
            able.iter().filter_map(|device| Some((*device.present.get(pasid)?, ()))).collect();
        domains.len() > 1
    };
    let diverging: Vec<u32> = pasids.into_iter().filter(differs).collect();
    for (pasids, excused) in [(excused, true), (proved, false), (diverging, false)] {
        if !pasids.is_empty() {
            found.push(broken(DIVERGENCE, pasids, excused));
        }
    }
    found
}

fn broken(check: &'static str, pasids: Vec<u32>, excused: bool) -> Seen {
    Seen { check, pasids, excused }
}

/// The call that attached a PASID that is there; `None`: it was there before.
fn attached_at(facts: &[Fact], sight: &Sight, pasid: u32) -> Option<usize> {
    let attaches = |fact: &Fact| {
        let of = match fact.call {
            Call::Attach { pasid, .. } | Call::AttachBare { pasid, .. } | Call::Replace { pasid, .. } => {
                pasid
            }
            _ => return false,
        };
        fact.group == sight.group && of == pasid && fact.ret == 0
    };
    facts[..sight.at].iter().rposition(attaches)
}

fn was_held(facts: &[Fact], sight: &Sight, pasid: u32) -> bool {
    attached_at(facts, sight, pasid).is_none_or(|at| facts[at].before.count > 0)
}
