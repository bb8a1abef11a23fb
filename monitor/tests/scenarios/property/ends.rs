//! How a program ends: the model is where the kernel is.

use std::collections::{BTreeMap, BTreeSet};

use monitor::event::{Key, Ownership};
use monitor::model::Group;
use monitor_ebpf::wire::Hook;

use crate::kernel::{Grp, domain};
use crate::reference::{Attached, Reference};

use super::run::Run;

/// Everybody ends what he began, and the watcher reads every group.
pub fn finish(run: &mut Run) -> Result<(), String> {
    run.quiesce()?;
    run.settle();
    Ok(())
}

/// The model's groups are the kernel's, and so is what is known of where it came from.
pub fn same(run: &Run) -> Result<(), String> {
    compare(run, true)
}

/// The same after a loss: who attached a PASID, and which bonds there are, may not be known.
pub fn same_state(run: &Run) -> Result<(), String> {
    compare(run, false)
}

fn compare(run: &Run, lossless: bool) -> Result<(), String> {
    let unknown = run.watcher.unknown_groups();
    if !unknown.is_empty() {
        return Err(format!("groups are unknown: {unknown:?}"));
    }
    let mut known: Vec<u32> = run.watcher.host().groups().map(|group| group.id).collect();
    known.sort_unstable();
    if !known.iter().eq(run.kernel.groups.keys()) {
        return Err(format!("the groups are {:?}: the model has {known:?}", run.kernel.groups.keys()));
    }
    let leaky: Vec<&str> = Hook::ALL
        .iter()
        .filter(|&&hook| run.watcher.counters().leaks(hook) > 0)
        .map(|hook| hook.name())
        .collect();
    if lossless && !leaky.is_empty() {
        return Err(format!("hooks are said to miss calls: {leaky:?}"));
    }
    let reference = Reference::new(run.era(), &run.kernel.history)?;
    for (&id, truth) in &run.kernel.groups {
        let attached = reference.end(id);
        let group = run.watcher.host().group_by_id(id).ok_or("no group")?;
        same_group(run, truth, group, lossless)?;
        if run.era().has_pasids() {
            let contested = |pasid: u32, attached: &Attached| reference.is_contested(id, pasid, attached);
            same_pasids(&attached, group, lossless, contested)?;
        }
        if lossless && group.bonds() != truth.bonds.len() {
            return Err(format!(
                "bonds of group {id}: {}, the model has {}",
                truth.bonds.len(),
                group.bonds()
            ));
        }
    }
    Ok(())
}

fn same_group(run: &Run, truth: &Grp, group: &Group, lossless: bool) -> Result<(), String> {
    let key = |domain: Option<monitor::event::Domain>| domain.map(|domain| domain.key);
    let ownership = Some(Ownership { owner: Key::new(truth.owner), count: truth.owner_cnt });
    let names: BTreeSet<String> = truth.devices.iter().map(|device| device.name.to_owned()).collect();
    let known: BTreeSet<String> = run.watcher.host().names(group).into_iter().collect();
    // That a device left its group is told once.
    let members = known == names || !lossless && known.is_superset(&names);
    let same = group.ownership == ownership
        && key(group.domain) == Key::new(truth.domain)
        && key(group.default_domain) == Key::new(truth.default_domain)
        && members;
    match same {
        true => Ok(()),
        false => Err(format!("the end differs: {truth:?} is {group:?}")),
    }
}

fn same_pasids(
    truth: &BTreeMap<u32, (Attached, String)>,
    group: &Group,
    lossless: bool,
    contested: impl Fn(u32, &Attached) -> bool,
) -> Result<(), String> {
    let Some(known) = group.pasids() else { return Err(format!("PASIDs are unknown: group {}", group.id)) };
    let known: BTreeMap<u32, _> = known.collect();
    if !known.keys().eq(truth.keys()) {
        return Err(format!("PASIDs differ: {truth:?}, the model has {known:?} in group {}", group.id));
    }
    for (pasid, (attached, who)) in truth {
        let found = known[pasid];
        let domain_is =
            found.domain.map(|found| Some(found.key) == domain(attached.domain).map(|true_one| true_one.key));
        let by = found.attached_by.as_ref().map(|by| by.comm.to_string());
        let lied = domain_is == Some(false) || by.as_ref().is_some_and(|by| by != who);
        let unsure = !lossless || contested(*pasid, attached);
        let missing = by.is_none() && !unsure || domain_is.is_none() && (!unsure || !attached.is_bare());
        if lied || missing {
            return Err(format!(
                "a PASID differs: {pasid} of group {} is {attached:?} by {who}: {found:?}",
                group.id
            ));
        }
    }
    Ok(())
}
