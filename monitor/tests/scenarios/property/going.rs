//! What attachments stand on goes: domains, PASIDs of the allocator, processes. Nobody takes `group->mutex` for it, so it
//! falls between any two steps of the calls.

use std::collections::{BTreeMap, BTreeSet};

use crate::kernel::{Call, Dev, Kernel, sva_domain};
use crate::rig::Raised;

use super::run::Run;
use super::worker::Worker;

const DOMAIN_FREED: &str = "domain-freed-while-attached";
const PASID_FREED: &str = "pasid-freed-while-attached";
const OUTLIVES: &str = "sva-outlives-mm";
const LEAKED: &str = "pasid-leaked";

/// The checks that judge it.
const CHECKS: [&str; 4] = [DOMAIN_FREED, PASID_FREED, OUTLIVES, LEAKED];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Going {
    /// `iommu_domain_free`
    Domain(u64),
    /// A driver takes a PASID for its own use.
    Take { device: &'static str, pasid: u32 },
    /// And gives it back.
    Back(u32),
    /// A process exits. Its `mm_struct` goes with its last bond.
    Exit(u64),
    /// `__mmdrop`, whoever has it bound: no correct program comes to that.
    Drop { mm: u64, gives_back: bool },
}

/// What was true when something went.
#[derive(Clone, Debug)]
pub struct Went {
    check: &'static str,
    by: String,
    held: BTreeMap<u32, Held>,
}

#[derive(Clone, Debug, Default)]
struct Held {
    rids: bool,
    pasids: BTreeSet<u32>,
}

/// Whether what was raised was so.
pub fn is_true(run: &Run, raised: &Raised) -> Option<Result<(), String>> {
    let check = CHECKS.iter().find(|check| **check == raised.check)?;
    let explains = |went: &&Went| {
        let held = raised.group.and_then(|group| went.held.get(&group));
        let shown = held.is_some_and(|held| match raised.pasids.as_slice() {
            [] => held.rids,
            pasids => pasids.iter().all(|pasid| held.pasids.contains(pasid)),
        });
        // Of a PASID that is lost it is only known where it was.
        went.check == *check && went.by == raised.triggered_by && (shown || *check == LEAKED)
    };
    Some(match run.went.iter().find(explains) {
        Some(_) => Ok(()),
        None => Err(format!("raised what never was: {raised:?}; what went: {:?}", run.went)),
    })
}

/// How much was raised of what went too early.
pub fn raised(run: &Run) -> u64 {
    run.raised().iter().filter(|raised| CHECKS.contains(&raised.check.as_str())).count() as u64
}

impl Run {
    /// `false`: it can't go now, or a correct program would not let it.
    pub fn goes(&mut self, index: usize, what: Going) -> bool {
        let worker = &self.workers[index];
        let (task, busy) = (worker.task, worker.running.is_some() || self.kernel.is_busy(worker.task.tid));
        if busy || !self.can_go(what) || !self.wild && !self.may_go(what) {
            return false;
        }
        let by = task.comm.to_string();
        let mut note = |check, held| self.went.push(Went { check, by: by.clone(), held });
        match what {
            Going::Domain(domain) => {
                // Of an entry without a handle the array itself doesn't say where it is.
                let on = |_, to: Option<u64>| to.is_none_or(|to| to == domain);
                note(DOMAIN_FREED, held(&self.kernel, Some(domain), on));
                self.kernel.free_domain(&task, domain);
            }
            Going::Take { device, pasid } => {
                self.taken.insert(pasid, self.kernel.group_of(device));
                self.kernel.take_pasid(&task, device, pasid);
            }
            Going::Back(pasid) => {
                note(PASID_FREED, held(&self.kernel, None, |attached, _| attached == pasid));
                self.taken.remove(&pasid);
                self.kernel.free_pasid(&task, pasid);
            }
            Going::Exit(mm) => self.kernel.exit(&task, mm),
            Going::Drop { mm, gives_back } => {
                let bound = held(&self.kernel, None, |_, to| to == Some(sva_domain(mm)));
                note(OUTLIVES, bound.clone());
                note(if gives_back { PASID_FREED } else { LEAKED }, bound);
                self.kernel.drop_mm(&task, mm, gives_back);
            }
        }
        true
    }

    /// What not even a wrong driver brings about: a process that is at a call exits not.
    fn can_go(&self, what: Going) -> bool {
        let at = |mm: u64| {
            let calls = self.workers.iter().filter_map(|worker| worker.running.as_ref());
            let mut calls = calls.map(|running| &running.call);
            calls.any(
                |call| matches!(*call, Call::Bind { mm: of, .. } | Call::Unbind { mm: of, .. } if of == mm),
            )
        };
        match what {
            Going::Domain(_) | Going::Back(_) => true,
            Going::Take { device, pasid } => self.is_there(device) && !self.taken.contains_key(&pasid),
            Going::Exit(mm) => self.kernel.mms.get(&mm).is_some_and(|mm| !mm.exited) && !at(mm),
            Going::Drop { mm, .. } => self.kernel.mms.contains_key(&mm) && !at(mm),
        }
    }

    /// Whether it goes last. Whoever used it has come back from the call that ended that.
    fn may_go(&self, what: Going) -> bool {
        match what {
            Going::Domain(domain) => {
                let used = |worker: &Worker| {
                    let owed = worker.debts.iter().any(|debt| debt.back().domain() == Some(domain));
                    owed || self
                        .at(worker)
                        .is_some_and(|call| call.domain() == Some(domain) || replaces(call))
                };
                let groups = self.kernel.groups.values();
                let defaults =
                    groups.flat_map(|group| [group.domain, group.default_domain, group.blocking_domain]);
                !self.workers.iter().any(used)
                    && held(&self.kernel, Some(domain), |_, to| to == Some(domain)).is_empty()
                    && !defaults.into_iter().any(|of_group| of_group == domain)
            }
            // Users of iommufd choose their PASIDs themselves: their groups have an owner.
            Going::Back(pasid) => self.taken.get(&pasid).is_some_and(|&group| {
                let at = |worker: &Worker| self.at(worker).is_some_and(|call| call.pasid() == Some(pasid));
                let attached = |group: u32| self.kernel.state(group).array.contains_key(&pasid);
                !(self.workers.iter().any(at) || self.exists(group) && attached(group))
            }),
            Going::Take { .. } | Going::Exit(_) => true,
            Going::Drop { .. } => false,
        }
    }

    /// The call that a task is in, or has returned from and still reports.
    fn at<'a>(&self, worker: &'a Worker) -> Option<&'a Call> {
        let last = worker.last.as_ref().filter(|_| self.kernel.is_busy(worker.task.tid));
        worker.running.as_ref().map(|running| &running.call).or(last.map(|(_, call)| call))
    }
}

/// What is attached, by group: the PASIDs that are on something, and whether the RIDs are on a domain.
fn held(kernel: &Kernel, domain: Option<u64>, on: impl Fn(u32, Option<u64>) -> bool) -> BTreeMap<u32, Held> {
    let held = kernel.groups.iter().map(|(&id, group)| {
        let array = kernel.state(id).array.into_iter();
        let pasids =
            array.filter(|&(pasid, to)| pasid != 0 && on(pasid, to)).map(|(pasid, _)| pasid).collect();
        let is_on = |device: &Dev| [device.on, group.domain].map(Some).contains(&domain);
        let rids = group.devices.iter().any(|device| device.resets == 0 && is_on(device));
        (id, Held { rids, pasids })
    });
    held.filter(|(_, held)| held.rids || !held.pasids.is_empty()).collect()
}

/// It ends the use of a domain that it does not name.
fn replaces(call: &Call) -> bool {
    matches!(call, Call::Replace { .. } | Call::ReplaceGroup { .. } | Call::ReplaceGroupHandle { .. })
}
