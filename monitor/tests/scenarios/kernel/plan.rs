//! What the core's calls do under `group->mutex`, one thing after the other: drivers/iommu/iommu.c, retold.
//!
//! A plan is made when the mutex is taken: nobody else changes the group until it is dropped. Who reads without the
//! mutex sees the group as it is between two steps.

use monitor_ebpf::wire::{Encoding, Hook, Phase};

use super::{Call, Dev, EBUSY, EINVAL, EPERM, Entry, Era, Faults, Grp, reset};

/// One thing that a call does while it holds the mutex.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// A record of `__iommu_release_dma_ownership`.
    Locked(Phase),
    /// A record of `__iommu_attach_device` on the member of this index.
    Rid {
        index: usize,
        phase: Phase,
        domain: u64,
        ret: Option<i32>,
    },
    Owner {
        owner: u64,
        count: u32,
    },
    /// `group->domain`
    Sit(u64),
    Store(u32, Entry),
    Erase(u32),
    /// The driver writes the entry of a member's hardware PASID table, or clears it.
    Hardware {
        index: usize,
        pasid: u32,
        domain: Option<u64>,
    },
    /// The driver clears every PASID of a member, or frees its whole table.
    Lose {
        index: usize,
        table: bool,
    },
    /// The driver switches a capability off.
    Off {
        index: usize,
        hook: Hook,
    },
    /// The driver says what came of taking a PASID off a member.
    Detached {
        index: usize,
        pasid: u32,
        ret: i32,
    },
    /// How many resets of a member are prepared, and how many members are blocked.
    Reset {
        index: usize,
        resets: u32,
        blocked: u32,
    },
}

/// The steps of a call, and what it returns.
pub(super) type Plan = (Vec<Step>, i32);

/// A domain of these numbers doesn't fit the member of that index: its driver refuses it.
pub const ODD: u64 = 3900;

fn refuses(index: usize, domain: u64) -> bool {
    domain == ODD + index as u64
}

pub(super) fn plan(call: &Call, era: Era, faults: Faults, group: &Grp) -> Plan {
    match *call {
        Call::Use { .. } => use_default(era, group),
        Call::Unuse { .. } => unuse_default(era, faults, group),
        Call::Claim { .. } if group.owner_cnt > 0 => refused(EPERM),
        Call::Claim { owner, .. } => take(era, faults, group, owner),
        Call::ClaimDevice { owner, .. } if group.owner_cnt > 0 => match group.owner == owner {
            true => (vec![Step::Owner { owner, count: group.owner_cnt + 1 }], 0),
            false => refused(EPERM),
        },
        Call::ClaimDevice { owner, .. } => take(era, faults, group, owner),
        Call::ReleaseDevice { .. } if group.owner_cnt > 1 => {
            (vec![Step::Owner { owner: group.owner, count: group.owner_cnt - 1 }], 0)
        }
        Call::Release { .. } | Call::ReleaseDevice { .. } => (release(era, faults, group), 0),
        Call::AttachDevice { .. } if group.devices.len() != 1 => refused(EINVAL),
        Call::AttachDevice { domain, .. } | Call::AttachGroup { domain, .. } => {
            attach_group(faults, group, domain)
        }
        // WARN_ON(group->domain != domain || list_count_nodes(&group->devices) != 1)
        Call::DetachDevice { domain, .. } if group.domain != domain || group.devices.len() != 1 => refused(0),
        Call::DetachDevice { .. } | Call::DetachGroup { .. } => (core_domain(faults, group), 0),
        Call::AttachGroupHandle { domain, .. } => attach_handle(faults, group, domain),
        Call::ReplaceGroupHandle { domain, .. } => replace_handle(faults, group, domain),
        Call::ReplaceGroup { domain, .. } => set_domain(faults, group, domain, false),
        Call::DetachGroupHandle { .. } => {
            let mut steps = core_domain(faults, group);
            steps.push(Step::Erase(0));
            (steps, 0)
        }
        Call::Attach { pasid, domain, .. } => {
            attach(era, faults, group, pasid, entry(era, domain, true), domain)
        }
        Call::AttachBare { pasid, domain, .. } => {
            attach(era, faults, group, pasid, entry(era, domain, false), domain)
        }
        Call::Replace { pasid, domain, .. } => replace(era, faults, group, pasid, domain),
        Call::Detach { pasid, .. } => (detach(era, faults, group, pasid), 0),
        Call::ResetPrepare { device } => reset::prepare(faults, group, device),
        Call::ResetDone { device } => reset::done(faults, group, device),
        Call::ResetFunction { .. } | Call::ResetFlr { .. } => (Vec::new(), 0),
        Call::Bind { .. } | Call::Unbind { .. } => {
            unreachable!("they take the mutex in the calls inside them")
        }
    }
}

pub(super) fn refused(errno: i32) -> Plan {
    (Vec::new(), errno)
}

fn occupied(era: Era, group: &Grp) -> bool {
    era.has_pasids() && !group.array.is_empty()
}

/// `iommu_device_use_default_domain`
fn use_default(era: Era, group: &Grp) -> Plan {
    let elsewhere = group.domain != group.default_domain || group.owner != 0 || occupied(era, group);
    if group.owner_cnt != 0 && elsewhere {
        return refused(EBUSY);
    }
    (vec![Step::Owner { owner: group.owner, count: group.owner_cnt + 1 }], 0)
}

/// `iommu_device_unuse_default_domain`: WARNs with anything in the array, and keeps the count.
fn unuse_default(era: Era, faults: Faults, group: &Grp) -> Plan {
    let warns = group.owner_cnt == 0 || occupied(era, group);
    match warns || faults.unuse_keeps_count {
        true => refused(0),
        false => (vec![Step::Owner { owner: group.owner, count: group.owner_cnt - 1 }], 0),
    }
}

/// `__iommu_take_dma_ownership`
fn take(era: Era, faults: Faults, group: &Grp, owner: u64) -> Plan {
    if group.domain != group.default_domain || occupied(era, group) {
        return refused(EBUSY);
    }
    let (mut steps, ret) = set_domain(faults, group, group.blocking_domain, false);
    if ret == 0 {
        steps.push(Step::Owner { owner, count: group.owner_cnt + 1 });
    }
    (steps, ret)
}

/// `__iommu_release_dma_ownership`: WARNs with anything in the array, and returns early.
fn release(era: Era, faults: Faults, group: &Grp) -> Vec<Step> {
    let mut steps = Vec::new();
    if group.owner_cnt != 0 && group.owner != 0 && !occupied(era, group) {
        if !faults.release_keeps_owner {
            steps.push(Step::Owner { owner: 0, count: 0 });
        }
        if !faults.release_keeps_domain {
            steps.extend(set_domain(faults, group, group.default_domain, true).0);
        }
    }
    if era.has_locked_release() {
        steps.insert(0, Step::Locked(Phase::Begin));
        steps.push(Step::Locked(Phase::End));
    }
    steps
}

/// `__iommu_group_set_domain_internal`: the group's domain changes after the loop over its devices. Where one of
/// them refuses, it and those before it go back. One that a reset keeps blocked stays where it is.
fn set_domain(faults: Faults, group: &Grp, to: u64, must_succeed: bool) -> Plan {
    let mut steps = Vec::new();
    if group.domain == to {
        return (steps, 0);
    }
    if group.recovery_cnt > 0 && !must_succeed {
        return refused(EBUSY);
    }
    let there: Vec<usize> = (0..group.devices.len()).filter(|&at| group.devices[at].resets == 0).collect();
    for (place, &index) in there.iter().enumerate() {
        let ret = switch(&mut steps, faults, group, index, to);
        if ret != 0 && !must_succeed {
            for &back in &there[..=place] {
                switch(&mut steps, Faults::default(), group, back, group.domain);
            }
            return (steps, ret);
        }
    }
    steps.push(Step::Sit(to));
    (steps, 0)
}

/// `__iommu_attach_device`: the driver replaces the RID's own entry, and nothing else.
pub(super) fn switch(steps: &mut Vec<Step>, faults: Faults, group: &Grp, index: usize, to: u64) -> i32 {
    let has_pasids = |device: &Dev| device.present.keys().any(|&pasid| pasid != 0);
    let refuses = refuses(index, to).then_some(EINVAL);
    let busy = (faults.switch_refuses && has_pasids(&group.devices[index])).then_some(EBUSY);
    let ret = refuses.or(busy).unwrap_or(0);
    steps.push(Step::Rid { index, phase: Phase::Begin, domain: to, ret: None });
    if ret == 0 {
        let offs = [(faults.switch_ats_off, Hook::AtsOff), (faults.switch_pasid_off, Hook::PasidOff)];
        steps.extend(offs.iter().filter(|(off, _)| *off).map(|&(_, hook)| Step::Off { index, hook }));
        steps.push(Step::Hardware { index, pasid: 0, domain: None });
        if group.devices.iter().position(has_pasids) == Some(index)
            && (faults.switch_clears || faults.switch_frees)
        {
            steps.push(Step::Lose { index, table: faults.switch_frees });
        }
        steps.push(Step::Hardware { index, pasid: 0, domain: Some(to) });
    }
    steps.push(Step::Rid { index, phase: Phase::End, domain: to, ret: Some(ret) });
    ret
}

/// `iommu_detach_device_pasid`: whatever the driver says, the core forgets the PASID.
fn detach(era: Era, faults: Faults, group: &Grp, pasid: u32) -> Vec<Step> {
    let mut steps = Vec::new();
    let clearing = hardware(group, pasid, None);
    let last = clearing.len().saturating_sub(1);
    for (place, step) in clearing.into_iter().enumerate() {
        let Step::Hardware { index, .. } = step else { continue };
        // Up to 6.13 it can't say so.
        let fails = faults.detach_fails && place == 0 && era == Era::Tagged;
        let keeps = faults.detach_keeps_entry && place == last;
        if !fails && !keeps {
            steps.push(step);
        }
        if era == Era::Tagged {
            let ret = if fails { EINVAL } else { 0 };
            steps.push(Step::Detached { index, pasid, ret });
        }
    }
    steps.push(Step::Erase(pasid));
    steps
}

/// `__iommu_attach_group`
fn attach_group(faults: Faults, group: &Grp, to: u64) -> Plan {
    match group.domain == group.default_domain || group.domain == group.blocking_domain {
        true => set_domain(faults, group, to, false),
        false => refused(EBUSY),
    }
}

/// `__iommu_group_set_core_domain`
fn core_domain(faults: Faults, group: &Grp) -> Vec<Step> {
    let core = if group.owner == 0 { group.default_domain } else { group.blocking_domain };
    set_domain(faults, group, core, true).0
}

/// `iommu_attach_group_handle`: the handle stands at index 0.
fn attach_handle(faults: Faults, group: &Grp, to: u64) -> Plan {
    if group.array.contains_key(&0) {
        return refused(EBUSY);
    }
    let handle = Entry { encoding: Encoding::Handle, domain: Some(to) };
    let (steps, ret) = attach_group(faults, group, to);
    let mut all = vec![Step::Store(0, handle)];
    all.extend(steps);
    if ret != 0 {
        all.push(Step::Erase(0));
    }
    (all, ret)
}

/// `iommu_replace_group_handle`
fn replace_handle(faults: Faults, group: &Grp, to: u64) -> Plan {
    let (mut steps, ret) = set_domain(faults, group, to, false);
    if ret == 0 {
        steps.push(Step::Store(0, Entry { encoding: Encoding::Handle, domain: Some(to) }));
    }
    (steps, ret)
}

/// `iommu_attach_device_pasid`: up to 6.14 the entry is stored before the drivers are asked.
fn attach(era: Era, faults: Faults, group: &Grp, pasid: u32, entry: Entry, to: u64) -> Plan {
    let capable = || group.devices.iter().filter(|device| device.max_pasids > 0);
    if pasid == 0 || capable().count() == 0 || capable().any(|device| pasid >= device.max_pasids) {
        return refused(EINVAL);
    }
    if group.array.contains_key(&pasid) && (!faults.attach_over || refusing(group, to).is_some())
        || group.recovery_cnt > 0
    {
        return refused(EBUSY);
    }
    let first = match era {
        Era::Tagged => Entry { encoding: Encoding::Reserved, domain: None },
        _ => entry,
    };
    let mut steps = vec![Step::Store(pasid, first)];
    let refusing = refusing(group, to);
    steps.extend(hardware(group, pasid, Some(to)).into_iter().take_while(|step| before(step, refusing)));
    if refusing.is_some() {
        steps.extend(stays(faults, refusing, pasid, to));
        if !faults.no_way_back {
            steps.extend(hardware(group, pasid, None).into_iter().take_while(|step| before(step, refusing)));
        }
        steps.push(Step::Erase(pasid));
        return (steps, EINVAL);
    }
    if faults.skips_last {
        steps.pop();
    }
    if era == Era::Tagged {
        steps.push(Step::Store(pasid, entry));
    }
    (steps, 0)
}

/// `iommu_replace_device_pasid`
fn replace(era: Era, faults: Faults, group: &Grp, pasid: u32, to: u64) -> Plan {
    if group.recovery_cnt > 0 {
        return refused(EBUSY);
    }
    let old = group.array.get(&pasid).copied();
    if old.is_none() && !faults.replace_nothing {
        return refused(EINVAL);
    }
    let refusing = refusing(group, to);
    let mut steps: Vec<Step> = hardware(group, pasid, Some(to));
    if refusing.is_some() {
        steps.retain(|step| before(step, refusing));
        steps.extend(stays(faults, refusing, pasid, to));
        if faults.no_way_back {
            return (steps, EINVAL);
        }
        let back = hardware(group, pasid, old.and_then(|old| old.domain));
        steps.extend(back.into_iter().filter(|step| before(step, refusing)));
        return (steps, EINVAL);
    }
    steps.push(Step::Store(pasid, entry(era, to, true)));
    (steps, 0)
}

/// What a member that refuses a domain does by fault.
fn stays(faults: Faults, refusing: Option<usize>, pasid: u32, to: u64) -> Option<Step> {
    let index = refusing.filter(|_| faults.refusal_stays)?;
    Some(Step::Hardware { index, pasid, domain: Some(to) })
}

/// The loop over the members that have PASIDs.
fn hardware(group: &Grp, pasid: u32, domain: Option<u64>) -> Vec<Step> {
    let capable = |device: &Dev| device.max_pasids > 0 && device.resets == 0;
    let capable = group.devices.iter().enumerate().filter(|(_, device)| capable(device));
    capable.map(|(index, _)| Step::Hardware { index, pasid, domain }).collect()
}

/// The first member with PASIDs that refuses the domain.
fn refusing(group: &Grp, domain: u64) -> Option<usize> {
    let mut capable = group.devices.iter().enumerate().filter(|(_, device)| device.max_pasids > 0);
    capable.find(|(index, _)| refuses(*index, domain)).map(|(index, _)| index)
}

fn before(step: &Step, refusing: Option<usize>) -> bool {
    match (step, refusing) {
        (Step::Hardware { index, .. }, Some(refusing)) => *index < refusing,
        _ => true,
    }
}

fn entry(era: Era, domain: u64, handle: bool) -> Entry {
    match (era, handle) {
        (Era::Domains, _) | (Era::Tagged, false) => {
            Entry { encoding: Encoding::Domain, domain: Some(domain) }
        }
        (Era::Handles, false) => Entry { encoding: Encoding::Reserved, domain: None },
        _ => Entry { encoding: Encoding::Handle, domain: Some(domain) },
    }
}
