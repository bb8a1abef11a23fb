//! One fault, planted at a random moment of a correct program: by two tasks of their own, the one often attaching
//! what the other leaves, amid everybody else's calls.

use std::collections::VecDeque;

use crate::kernel::{Call, Era, Faults, ODD};
use crate::random::Random;

use super::moves::Move;
use super::run::Run;
use super::worker::Worker;
use super::world::TASKS;

/// The PASIDs of the culprits; nobody else uses them.
const PASID: u32 = 60;
const MM: u64 = 15;
const D1: u64 = 3001;
const D2: u64 = 3002;
const OWNER: u64 = 99_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    LeaveAtUnuse,
    LeaveBondAtUnuse,
    LeaveAtRelease,
    LeaveAtDeviceRelease,
    DoubleDetach,
    DetachOther,
    AttachOver,
    ReplaceNothing,
    ReleaseKeepsOwner,
    ReleaseKeepsDomain,
    UnuseKeepsCount,
    SwitchClears,
    SwitchFrees,
    DetachFails,
    SharedTable,
    FailedAttachStays,
}

const ALL: [Fault; 16] = [
    Fault::LeaveAtUnuse,
    Fault::LeaveBondAtUnuse,
    Fault::LeaveAtRelease,
    Fault::LeaveAtDeviceRelease,
    Fault::DoubleDetach,
    Fault::DetachOther,
    Fault::AttachOver,
    Fault::ReplaceNothing,
    Fault::ReleaseKeepsOwner,
    Fault::ReleaseKeepsDomain,
    Fault::UnuseKeepsCount,
    Fault::SwitchClears,
    Fault::SwitchFrees,
    Fault::DetachFails,
    Fault::SharedTable,
    Fault::FailedAttachStays,
];

impl Fault {
    fn is_in(self, era: Era) -> bool {
        match self {
            Fault::ReleaseKeepsOwner
            | Fault::ReleaseKeepsDomain
            | Fault::UnuseKeepsCount
            | Fault::SharedTable => true,
            Fault::ReplaceNothing | Fault::DetachFails => era == Era::Tagged,
            _ => era.has_pasids(),
        }
    }

    /// It is about who holds the group: the culprits must be the only ones.
    fn wants_the_group(self) -> bool {
        !matches!(
            self,
            Fault::DoubleDetach
                | Fault::DetachOther
                | Fault::AttachOver
                | Fault::ReplaceNothing
                | Fault::DetachFails
                | Fault::SharedTable
                | Fault::FailedAttachStays
        )
    }
}

/// A fault on its way into a program.
#[derive(Clone, Debug)]
pub struct Plant {
    pub fault: Fault,
    begun: bool,
    /// Who makes which call; the next one when the last has returned.
    script: VecDeque<(usize, Call, Faults)>,
    shared: bool,
}

impl Plant {
    pub fn random(random: &mut Random, era: Era) -> Plant {
        let faults: Vec<Fault> = ALL.into_iter().filter(|fault| fault.is_in(era)).collect();
        let fault = *random.pick(&faults).expect("every era has some");
        Plant { fault, begun: false, script: VecDeque::new(), shared: false }
    }

    pub fn is_done(&self, run: &Run) -> bool {
        self.begun
            && self.script.is_empty()
            && (self.fault != Fault::SharedTable || self.shared)
            && self.is_idle(run)
    }

    fn is_idle(&self, run: &Run) -> bool {
        let idle = |culprit: usize| {
            let worker = &run.workers[culprit];
            worker.running.is_none() && !run.kernel.is_busy(worker.task.tid)
        };
        idle(TASKS) && idle(TASKS + 1)
    }

    /// The culprits' next move, if it is time for it.
    pub fn next(&mut self, run: &Run, random: &mut Random) -> Option<Move> {
        if !self.begun {
            return self.begin(run, random);
        }
        let alone =
            run.planted.first().is_none_or(|&group| !self.fault.wants_the_group() || is_vacated(run, group));
        let resets = run.planted.first().is_some_and(|&group| run.resets(group));
        if !self.is_idle(run) || !alone || resets {
            return None;
        }
        if self.fault == Fault::SharedTable && !self.shared {
            self.shared = true;
            let devices: Vec<&'static str> = run
                .planted
                .iter()
                .flat_map(|group| &run.kernel.groups[group].devices)
                .map(|device| device.name)
                .collect();
            let device = *random.pick(&devices)?;
            let others: Vec<&'static str> = devices.into_iter().filter(|&other| other != device).collect();
            return random.pick(&others).map(|&with| Move::Share { device, with });
        }
        let (task, call, faults) = self.script.pop_front()?;
        Some(Move::Begin { task, call, faults })
    }

    fn begin(&mut self, run: &Run, random: &mut Random) -> Option<Move> {
        let capable = |id: &u32| run.kernel.groups[id].devices.iter().any(|device| device.max_pasids > 0);
        let groups: Vec<u32> =
            run.kernel.groups.keys().copied().filter(|id| capable(id) && run.is_known(*id)).collect();
        let group = *random.pick(&groups)?;
        if self.fault == Fault::SharedTable {
            let all: Vec<u32> = run.kernel.groups.keys().copied().collect();
            let devices: usize = all.iter().map(|id| run.kernel.groups[id].devices.len()).sum();
            self.begun = devices > 1;
            return self.begun.then_some(Move::Plant { groups: all, alone: false, guests: true });
        }
        self.begun = true;
        let device = random.pick(&run.kernel.groups[&group].devices)?.name;
        self.script = script(self.fault, group, device, random);
        if self.fault == Fault::FailedAttachStays {
            let members = &run.kernel.groups[&group].devices;
            let index = members.iter().position(|member| member.max_pasids > 0)?;
            let call = Call::Attach { device, pasid: PASID, domain: ODD + index as u64 };
            let faults = Faults { refusal_stays: true, ..Faults::default() };
            self.script = VecDeque::from([(TASKS, call, faults)]);
        }
        let guests = !matches!(self.fault, Fault::SwitchClears | Fault::SwitchFrees);
        Some(Move::Plant { groups: vec![group], alone: self.fault.wants_the_group(), guests })
    }

    /// The PASIDs that will be left.
    pub fn left() -> impl Iterator<Item = u32> {
        (PASID..PASID + 3).chain([50 + MM as u32])
    }
}

/// Nobody but the culprits holds the group, or is in a call that has to do with that.
fn is_vacated(run: &Run, group: u32) -> bool {
    let holds = |worker: &Worker| worker.debts.iter().any(|debt| debt.group == group && debt.is_hold());
    let is_in = |worker: &Worker| match &worker.running {
        Some(running) => running.group() == group,
        None => {
            worker.last.as_ref().is_some_and(|(last, _)| *last == group)
                && run.kernel.is_busy(worker.task.tid)
        }
    };
    let (others, culprits) = run.workers.split_at(TASKS);
    let state = run.kernel.state(group);
    let deserted = !others.iter().any(|worker| holds(worker) || is_in(worker));
    culprits.iter().any(holds) || deserted && state.array.is_empty() && state.domain == state.default_domain
}

fn script(
    fault: Fault,
    group: u32,
    device: &'static str,
    random: &mut Random,
) -> VecDeque<(usize, Call, Faults)> {
    let (one, two) = (TASKS, TASKS + random.below(2) as usize);
    let right = Faults::default();
    let attach = |pasid, domain| (two, Call::Attach { device, pasid, domain }, right);
    let detach = |by, domain| (by, Call::Detach { device, pasid: PASID, domain }, right);
    let left: Vec<_> = (0..1 + random.below(3) as u32).map(|more| attach(PASID + more, D1)).collect();
    let around = |first: Call, inside: Vec<(usize, Call, Faults)>, last: Call, faults: Faults| {
        let mut all = VecDeque::from([(one, first, right)]);
        all.extend(inside);
        all.push_back((one, last, faults));
        all
    };
    let (use_it, unuse) = (Call::Use { device }, Call::Unuse { device });
    let (claim, release) = (Call::Claim { group, owner: OWNER }, Call::Release { group });
    match fault {
        Fault::LeaveAtUnuse => around(use_it, left, unuse, right),
        Fault::LeaveBondAtUnuse => {
            let bind = Call::Bind { device, mm: MM, pasid: 50 + MM as u32 };
            around(use_it, vec![(two, bind, right)], unuse, right)
        }
        Fault::LeaveAtRelease => around(claim, left, release, right),
        Fault::LeaveAtDeviceRelease => {
            around(Call::ClaimDevice { device, owner: OWNER }, left, Call::ReleaseDevice { device }, right)
        }
        Fault::DoubleDetach => VecDeque::from([attach(PASID, D1), detach(one, D1), detach(two, D1)]),
        Fault::DetachOther => VecDeque::from([attach(PASID, D1), detach(one, D2)]),
        Fault::AttachOver => {
            let again = (
                one,
                Call::Attach { device, pasid: PASID, domain: D2 },
                Faults { attach_over: true, ..right },
            );
            VecDeque::from([attach(PASID, D1), again, detach(one, D2)])
        }
        Fault::ReplaceNothing => {
            let replace = (
                one,
                Call::Replace { device, pasid: PASID, domain: D1 },
                Faults { replace_nothing: true, ..right },
            );
            VecDeque::from([replace, detach(two, D1)])
        }
        Fault::ReleaseKeepsOwner => {
            around(claim, Vec::new(), release, Faults { release_keeps_owner: true, ..right })
        }
        Fault::ReleaseKeepsDomain => {
            around(claim, Vec::new(), release, Faults { release_keeps_domain: true, ..right })
        }
        Fault::UnuseKeepsCount => {
            around(use_it, Vec::new(), unuse, Faults { unuse_keeps_count: true, ..right })
        }
        Fault::SwitchClears | Fault::SwitchFrees => {
            let (attach_rid, detach_rid) =
                (Call::AttachGroup { group, domain: D2 }, Call::DetachGroup { group, domain: D2 });
            let frees = fault == Fault::SwitchFrees;
            let faults = Faults { switch_clears: !frees, switch_frees: frees, ..right };
            let inside =
                vec![attach(PASID, D1), (one, attach_rid, faults), (one, detach_rid, right), detach(two, D1)];
            around(claim, inside, release, right)
        }
        Fault::DetachFails => {
            let fails = Faults { detach_fails: true, ..right };
            VecDeque::from([
                attach(PASID, D1),
                (one, Call::Detach { device, pasid: PASID, domain: D1 }, fails),
            ])
        }
        Fault::SharedTable | Fault::FailedAttachStays => VecDeque::new(),
    }
}
