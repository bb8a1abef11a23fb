//! A task of a correct program: what it holds, and so has to give back; and which calls are right for it to make.

use monitor::event::Task;

use crate::kernel::{Call, Era, Kernel, Running};

use super::world::TASKS;

pub struct Worker {
    pub task: Task,
    pub running: Option<Running>,
    pub debts: Vec<Debt>,
    /// Its last call, and the group.
    pub last: Option<(u32, Call)>,
}

/// Something that a task took and has to give back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Debt {
    pub group: u32,
    pub thing: Thing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thing {
    Use { device: &'static str },
    Claim,
    ClaimDevice { device: &'static str },
    Rid { way: Way, domain: u64 },
    Pasid { device: &'static str, pasid: u32, domain: u64 },
    Bond { device: &'static str, mm: u64 },
    Reset { device: &'static str },
}

/// By which calls a RID was attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Device(&'static str),
    Group,
    Handle,
}

impl Debt {
    pub fn is_hold(&self) -> bool {
        matches!(self.thing, Thing::Use { .. } | Thing::Claim | Thing::ClaimDevice { .. })
    }

    /// The call that gives it back.
    pub fn back(&self) -> Call {
        let group = self.group;
        match self.thing {
            Thing::Use { device } => Call::Unuse { device },
            Thing::Claim => Call::Release { group },
            Thing::ClaimDevice { device } => Call::ReleaseDevice { device },
            Thing::Rid { way: Way::Device(device), domain } => Call::DetachDevice { device, domain },
            Thing::Rid { way: Way::Group, domain } => Call::DetachGroup { group, domain },
            Thing::Rid { way: Way::Handle, domain } => Call::DetachGroupHandle { group, domain },
            Thing::Pasid { device, pasid, domain } => Call::Detach { device, pasid, domain },
            Thing::Bond { device, mm } => Call::Unbind { device, mm },
            Thing::Reset { device } => Call::ResetDone { device },
        }
    }

    /// What a successful call leaves to be given back.
    fn of(group: u32, call: &Call) -> Option<Debt> {
        let thing = match *call {
            Call::Use { device } => Thing::Use { device },
            Call::Claim { .. } => Thing::Claim,
            Call::ClaimDevice { device, .. } => Thing::ClaimDevice { device },
            Call::AttachDevice { device, domain } => Thing::Rid { way: Way::Device(device), domain },
            Call::AttachGroup { domain, .. } | Call::ReplaceGroup { domain, .. } => {
                Thing::Rid { way: Way::Group, domain }
            }
            Call::AttachGroupHandle { domain, .. } | Call::ReplaceGroupHandle { domain, .. } => {
                Thing::Rid { way: Way::Handle, domain }
            }
            Call::Attach { device, pasid, domain }
            | Call::AttachBare { device, pasid, domain }
            | Call::Replace { device, pasid, domain } => Thing::Pasid { device, pasid, domain },
            Call::Bind { device, mm, .. } => Thing::Bond { device, mm },
            Call::ResetPrepare { device } => Thing::Reset { device },
            _ => return None,
        };
        Some(Debt { group, thing })
    }
}

impl Worker {
    pub fn owes(&self, group: u32, what: impl Fn(&Thing) -> bool) -> bool {
        self.debts.iter().any(|debt| debt.group == group && what(&debt.thing))
    }

    /// What it holds after a call.
    pub fn note(&mut self, group: u32, call: &Call, ret: i32) {
        if ret != 0 {
            return;
        }
        if let Some(at) = self.debts.iter().position(|debt| debt.back() == *call) {
            self.debts.remove(at);
        }
        let Some(debt) = Debt::of(group, call) else { return };
        match call {
            Call::Replace { pasid, .. } => {
                self.debts.retain(|debt| {
                    debt.group != group
                        || !matches!(debt.thing, Thing::Pasid { pasid: had, .. } if had == *pasid)
                });
            }
            Call::ReplaceGroup { .. } | Call::ReplaceGroupHandle { .. } => {
                self.debts.retain(|debt| debt.group != group || !matches!(debt.thing, Thing::Rid { .. }));
            }
            _ => {}
        }
        self.debts.push(debt);
    }
}

/// All the tasks, and the group that a call is about.
pub struct Scene<'a> {
    pub kernel: &'a Kernel,
    pub workers: &'a [Worker],
    pub group: u32,
    /// Others may work on PASIDs of a group that the culprits hold.
    pub guests: bool,
}

impl Scene<'_> {
    fn under_way(&self) -> impl Iterator<Item = &Call> {
        let running = self.workers.iter().filter_map(|worker| worker.running.as_ref());
        running.filter(|running| running.group() == self.group).map(|running| &running.call)
    }

    fn anybody_owes(&self, what: impl Fn(&Thing) -> bool) -> bool {
        self.workers.iter().any(|worker| worker.owes(self.group, &what))
    }

    /// Whether a correct program makes this call now, as the task of this index.
    pub fn allows(&self, index: usize, call: &Call, sealed: Option<u32>) -> bool {
        let worker = &self.workers[index];
        let group = self.group;
        let sealed = sealed == Some(group);
        let held = self.workers[TASKS..].iter().any(|host| host.debts.iter().any(Debt::is_hold));
        let guest = sealed && self.guests && held && !self.under_way().any(gives_hold_back);
        if sealed
            && !(guest && works_on_pasids(call))
            && !worker.debts.iter().any(|debt| debt.back() == *call)
        {
            return false;
        }
        let uses = worker.owes(group, |thing| matches!(thing, Thing::Use { .. }));
        let claims = worker.owes(group, |thing| matches!(thing, Thing::Claim | Thing::ClaimDevice { .. }));
        let in_kernel = call_is_in(call, self.kernel.era);
        let attached =
            |call: &Call| matches!(call, Call::Attach { .. } | Call::AttachBare { .. } | Call::Bind { .. });
        in_kernel
            && match *call {
                // A driver binds to a device once, and so does iommufd.
                Call::Use { device } => {
                    !claims
                        && !self.anybody_owes(|thing| *thing == Thing::Use { device })
                        && !self
                            .under_way()
                            .any(|other| *other == Call::Use { device } || *other == Call::Unuse { device })
                }
                Call::ClaimDevice { device, .. } => {
                    let same = |other: &Call| {
                        matches!(other, Call::ClaimDevice { .. } | Call::ReleaseDevice { .. })
                            && other.device() == Some(device)
                    };
                    !self.anybody_owes(|thing| *thing == Thing::ClaimDevice { device })
                        && !self.under_way().any(same)
                }
                Call::Claim { .. } => true,
                // Who lets go has ended what he began, and the last one waits for everybody's PASIDs.
                Call::Unuse { .. } | Call::Release { .. } | Call::ReleaseDevice { .. } => {
                    let holds =
                        worker.debts.iter().filter(|debt| debt.group == group && debt.is_hold()).count();
                    let others = worker.owes(group, |thing| {
                        !matches!(thing, Thing::Use { .. } | Thing::Claim | Thing::ClaimDevice { .. })
                    });
                    let own = worker.debts.iter().any(|debt| debt.back() == *call);
                    own && (holds > 1 || !others)
                        && !self.under_way().any(attached)
                        && (!self.lets_last_go(call) || self.going())
                }
                Call::AttachDevice { .. } => uses && self.no_rid(),
                Call::AttachGroup { .. } | Call::AttachGroupHandle { .. } => claims && self.no_rid(),
                Call::ReplaceGroup { .. } => {
                    worker.owes(group, |thing| matches!(thing, Thing::Rid { way: Way::Group, .. }))
                }
                Call::ReplaceGroupHandle { .. } => {
                    worker.owes(group, |thing| matches!(thing, Thing::Rid { way: Way::Handle, .. }))
                }
                Call::Attach { pasid, .. } | Call::AttachBare { pasid, .. } => {
                    let has = worker.owes(
                        group,
                        |thing| matches!(thing, Thing::Pasid { pasid: had, .. } if *had == pasid),
                    );
                    (uses || claims || guest) && !has
                }
                Call::Bind { .. } => {
                    let bonds =
                        worker.debts.iter().filter(|debt| matches!(debt.thing, Thing::Bond { .. })).count();
                    (uses || claims || guest) && bonds < 3
                }
                Call::Replace { device, pasid, domain } => worker.owes(group, |thing| {
                    matches!(*thing, Thing::Pasid { device: by, pasid: had, domain: from }
                        if by == device && had == pasid && from != domain)
                }),
                Call::ResetPrepare { device } => {
                    let same = |other: &Call| other.device() == Some(device) && is_reset(other);
                    !self.anybody_owes(|thing| *thing == Thing::Reset { device })
                        && !self.under_way().any(same)
                }
                Call::ResetFunction { .. } | Call::ResetFlr { .. } => true,
                Call::ResetDone { .. }
                | Call::DetachDevice { .. }
                | Call::DetachGroup { .. }
                | Call::DetachGroupHandle { .. }
                | Call::Detach { .. }
                | Call::Unbind { .. } => worker.debts.iter().any(|debt| debt.back() == *call),
            }
    }

    /// Whether a call that was begun may go on to take the mutex: a correct program has waited until then.
    pub fn may_go_on(&self, call: &Call) -> bool {
        !(gives_hold_back(call) && self.lets_last_go(call)) || self.kernel.state(self.group).array.is_empty()
    }

    fn lets_last_go(&self, call: &Call) -> bool {
        let count = self.kernel.groups[&self.group].owner_cnt;
        !matches!(call, Call::ReleaseDevice { .. }) || count <= 1
    }

    /// Everything in the array is about to be detached.
    fn going(&self) -> bool {
        let under_way: Vec<Call> = self.under_way().cloned().collect();
        self.kernel.state(self.group).array.keys().all(|&index| {
            under_way.iter().any(|call| matches!(*call, Call::Detach { pasid, .. } if pasid == index))
        })
    }

    fn no_rid(&self) -> bool {
        !self.anybody_owes(|thing| matches!(thing, Thing::Rid { .. }))
    }
}

pub fn gives_hold_back(call: &Call) -> bool {
    matches!(call, Call::Unuse { .. } | Call::Release { .. } | Call::ReleaseDevice { .. })
}

pub fn is_reset(call: &Call) -> bool {
    matches!(call, Call::ResetPrepare { .. } | Call::ResetDone { .. })
}

/// It may put a PASID into the array.
pub fn works_on_pasids(call: &Call) -> bool {
    matches!(call, Call::Attach { .. } | Call::AttachBare { .. } | Call::Replace { .. } | Call::Bind { .. })
}

/// Whether kernels of this time have the call.
pub fn call_is_in(call: &Call, era: Era) -> bool {
    match call {
        Call::Claim { .. }
        | Call::Release { .. }
        | Call::Use { .. }
        | Call::Unuse { .. }
        | Call::AttachDevice { .. }
        | Call::DetachDevice { .. }
        | Call::AttachGroup { .. }
        | Call::DetachGroup { .. } => true,
        Call::ReplaceGroup { .. } => matches!(era, Era::Domains | Era::Handles),
        Call::AttachGroupHandle { .. } | Call::ReplaceGroupHandle { .. } | Call::DetachGroupHandle { .. } => {
            era >= Era::Handles
        }
        Call::Replace { .. }
        | Call::ResetPrepare { .. }
        | Call::ResetDone { .. }
        | Call::ResetFunction { .. }
        | Call::ResetFlr { .. } => era == Era::Tagged,
        Call::ClaimDevice { .. }
        | Call::ReleaseDevice { .. }
        | Call::Attach { .. }
        | Call::AttachBare { .. }
        | Call::Detach { .. }
        | Call::Bind { .. }
        | Call::Unbind { .. } => era.has_pasids(),
    }
}
