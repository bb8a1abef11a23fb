//! A group as a state machine: which results a call can have in a state, and what it makes of it.
//! From drivers/iommu/iommu.c, 6.1 to 7.3; told a second time, and not by the code that makes the histories.

use std::collections::BTreeMap;

use crate::kernel::{Call, EBUSY, EINVAL, EPERM, Era, Fact, State};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attached {
    pub domain: u64,
    /// The call of the history that attached it; `None`: it was there before.
    pub by: Option<usize>,
    /// The array does not name the domain.
    bare: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    pub owner: u64,
    pub count: u32,
    pub domain: u64,
    pub default_domain: u64,
    blocking_domain: u64,
    /// Members that a reset keeps blocked.
    recovering: u32,
    /// Index 0 is the RID's own handle.
    pub array: BTreeMap<u32, Attached>,
}

impl Attached {
    pub fn is_bare(&self) -> bool {
        self.bare
    }
}

impl Group {
    /// As it is before the first call of a history.
    pub fn new(state: &State) -> Group {
        let attached = |&domain: &Option<u64>| Attached {
            domain: domain.unwrap_or(0),
            by: None,
            bare: domain.is_none(),
        };
        Group {
            owner: state.owner,
            count: state.count,
            domain: state.domain,
            default_domain: state.default_domain,
            blocking_domain: state.blocking_domain,
            recovering: state.recovery_cnt,
            array: state.array.iter().map(|(&pasid, domain)| (pasid, attached(domain))).collect(),
        }
    }

    /// What a reader of the kernel's memory would see.
    pub fn state(&self) -> State {
        State {
            owner: self.owner,
            count: self.count,
            domain: self.domain,
            default_domain: self.default_domain,
            blocking_domain: self.blocking_domain,
            recovery_cnt: self.recovering,
            array: self.array.iter().map(|(&pasid, at)| (pasid, (!at.bare).then_some(at.domain))).collect(),
        }
    }

    pub fn generation(&self) -> u64 {
        self.default_domain
    }

    /// Whether a call that gives a hold back gives the last one back. A group's claim is the only one.
    pub fn lets_last_go(&self, call: &Call) -> bool {
        match call {
            Call::Release { .. } => self.count > 0,
            _ => self.count == 1,
        }
    }

    fn is_empty(&self, era: Era) -> bool {
        era == Era::Owners || self.array.is_empty()
    }

    fn core_domain(&self) -> u64 {
        if self.owner == 0 { self.default_domain } else { self.blocking_domain }
    }

    /// While a member is blocked by a reset, nobody switches the others but who has to.
    fn may_switch(&self, to: u64) -> bool {
        self.recovering == 0 || self.domain == to
    }

    /// A caller of `__iommu_attach_group` finds it unattached.
    fn is_unattached(&self) -> bool {
        self.domain == self.default_domain || self.domain == self.blocking_domain
    }
}

/// What the group is after a call with this result; `None`: from this state it could not have had it.
pub fn act(era: Era, fact: &Fact, index: usize, group: &Group) -> Option<Group> {
    let mut next = group.clone();
    let (ret, faults) = (fact.ret, fact.faults);
    let possible = match fact.call {
        Call::Use { .. } => {
            let elsewhere = group.owner != 0 || group.domain != group.default_domain || !group.is_empty(era);
            next.count += u32::from(ret == 0);
            ret == if group.count > 0 && elsewhere { EBUSY } else { 0 }
        }
        Call::Unuse { .. } => {
            let gives = group.count > 0 && group.is_empty(era) && !faults.unuse_keeps_count;
            next.count -= u32::from(gives);
            true
        }
        Call::ClaimDevice { owner, .. } if group.count > 0 => {
            next.count += u32::from(ret == 0);
            ret == if group.owner == owner { 0 } else { EPERM }
        }
        Call::Claim { .. } if group.count > 0 => ret == EPERM,
        Call::Claim { owner, .. } | Call::ClaimDevice { owner, .. } => {
            let ready = group.domain == group.default_domain && group.is_empty(era) && group.recovering == 0;
            if ret == 0 {
                (next.owner, next.count, next.domain) = (owner, 1, group.blocking_domain);
            }
            ret == if ready { 0 } else { EBUSY }
        }
        Call::ReleaseDevice { .. } if group.count > 1 => {
            next.count -= 1;
            true
        }
        Call::Release { .. } | Call::ReleaseDevice { .. } => {
            if group.count > 0 && group.owner != 0 && group.is_empty(era) {
                if !faults.release_keeps_owner {
                    (next.owner, next.count) = (0, 0);
                }
                if !faults.release_keeps_domain {
                    next.domain = group.default_domain;
                }
            }
            true
        }
        // A group of several devices refuses these two: what it has is not known here.
        Call::AttachDevice { .. } if ret == EINVAL => true,
        Call::DetachDevice { .. } => {
            // It WARNs, and does nothing, where the domain is another one.
            next.domain =
                if fact.before.domain == fact.after.domain { group.domain } else { group.core_domain() };
            true
        }
        Call::AttachDevice { domain, .. } | Call::AttachGroup { domain, .. } => {
            next.domain = if ret == 0 { domain } else { group.domain };
            (ret == EBUSY) != (group.is_unattached() && group.may_switch(domain))
        }
        Call::AttachGroupHandle { domain, .. } => {
            let free = group.is_unattached() && !group.array.contains_key(&0) && group.may_switch(domain);
            if ret == 0 {
                next.domain = domain;
                next.array.insert(0, Attached { domain, by: Some(index), bare: false });
            }
            (ret == EBUSY) != free
        }
        Call::ReplaceGroup { domain, .. } => {
            next.domain = if ret == 0 { domain } else { group.domain };
            true
        }
        Call::ReplaceGroupHandle { domain, .. } => {
            if ret == 0 {
                next.domain = domain;
                next.array.insert(0, Attached { domain, by: Some(index), bare: false });
            }
            true
        }
        Call::DetachGroup { .. } => {
            next.domain = group.core_domain();
            true
        }
        Call::DetachGroupHandle { .. } => {
            next.domain = group.core_domain();
            next.array.remove(&0);
            true
        }
        Call::Attach { pasid, domain, .. } | Call::AttachBare { pasid, domain, .. } => {
            let there = group.array.contains_key(&pasid) && !faults.attach_over;
            if ret == 0 {
                let bare = era == Era::Handles && matches!(fact.call, Call::AttachBare { .. });
                next.array.insert(pasid, Attached { domain, by: Some(index), bare });
            }
            // A device that doesn't take the PASID or the domain refuses it in any state.
            ret == EINVAL || faults.attach_over || (ret == EBUSY) == (there || group.recovering > 0)
        }
        Call::Replace { pasid, domain, .. } => {
            let there = group.array.contains_key(&pasid) || faults.replace_nothing;
            if ret == 0 {
                next.array.insert(pasid, Attached { domain, by: Some(index), bare: false });
            }
            ret != 0 || there
        }
        Call::Detach { pasid, .. } => {
            next.array.remove(&pasid);
            true
        }
        // What is attached stays attached in the core. How many members are blocked is all that changes, and of resets
        // of one member that overlap only the first and the last count: that is taken as it was.
        Call::ResetPrepare { .. } | Call::ResetDone { .. } => {
            let (before, after) = (fact.before.recovery_cnt, fact.after.recovery_cnt);
            next.recovering = (group.recovering + after).checked_sub(before)?;
            true
        }
        Call::ResetFunction { .. } | Call::ResetFlr { .. } => true,
        // The calls on PASIDs inside them are calls of their own.
        Call::Bind { .. } | Call::Unbind { .. } => true,
    };
    possible.then_some(next)
}
