//! A tiny honest kernel: the IOMMU core's calls as drivers/iommu/iommu.c has them, era by era, with the
//! events that the hooks would report. Written from the kernel's sources; it knows nothing of the model
//! or of the checks.
//!
//! A call has three moments, so that calls of several tasks can overlap: [`Kernel::begin`] reports the
//! entry, [`Kernel::act`] does the work under `group->mutex`, [`Kernel::end`] reports the return. The work
//! can be done step by step, too: [`Kernel::advance`].

mod call;
pub mod commands;
mod course;
mod faults;
pub mod flush;
mod history;
mod hotplug;
mod lifetime;
mod plan;
mod reset;
mod ring;
pub mod tags;

pub use call::Call;
pub use faults::Faults;
pub use history::{Fact, Read, Reads, Sight, State};
pub use hotplug::Look;
pub use lifetime::{Mm, sva_domain};
pub use plan::ODD;
pub use ring::Loss;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use monitor::event::{Domain, DomainKind, Event, Key, Task};
use monitor_ebpf::wire::{Encoding, Hook};

/// What a kernel of a time is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Era {
    /// 6.1: ownership, no PASIDs in the core.
    Owners,
    /// 6.2 to 6.10: the array holds domains.
    Domains,
    /// 6.11 to 6.14: the array holds handles, or XA_ZERO_ENTRY where there is none.
    Handles,
    /// 6.15 and later: tagged entries, stored after the driver's call; replace.
    Tagged,
}

impl Era {
    pub const WITH_PASIDS: [Era; 3] = [Era::Domains, Era::Handles, Era::Tagged];

    pub fn has_pasids(self) -> bool {
        self > Era::Owners
    }

    /// `__iommu_release_dma_ownership` is a function of its own that can be hooked.
    pub fn has_locked_release(self) -> bool {
        self >= Era::Handles
    }
}

#[derive(Clone, Debug)]
pub struct Dev {
    pub key: u64,
    pub name: &'static str,
    pub max_pasids: u32,
    pub table: u64,
    /// The domain that its RID was attached to last; 0: its group's from the start.
    pub on: u64,
    /// What is present in its hardware PASID table.
    pub present: BTreeMap<u32, u64>,
    /// PASIDs of page requests that wait for their response, the longest waiting first.
    pub waiting: Vec<u32>,
    /// Resets that are prepared and not done: it is on the blocking domain.
    pub resets: u32,
    /// A driver is bound to it.
    pub bound: bool,
    /// How many calls there had been when it joined its group.
    pub joined: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    encoding: Encoding,
    /// What an attach handle or a domain pointer leads to.
    domain: Option<u64>,
}

#[derive(Clone, Debug)]
pub struct Grp {
    pub key: u64,
    pub devices: Vec<Dev>,
    pub owner: u64,
    pub owner_cnt: u32,
    pub domain: u64,
    pub default_domain: u64,
    pub blocking_domain: u64,
    pub recovery_cnt: u32,
    array: BTreeMap<u32, Entry>,
    /// By mm.
    pub bonds: BTreeMap<u64, Bond>,
    /// The task that holds the mutex.
    holder: Option<u32>,
}

/// An SVA bond: `struct iommu_sva`.
#[derive(Clone, Debug)]
pub struct Bond {
    pub handle: u64,
    pub pasid: u32,
    domain: u64,
    pub users: u32,
}

/// A call under way.
#[derive(Clone, Debug)]
pub struct Running {
    pub call: Call,
    pub task: Task,
    group: u32,
    hook: Hook,
    ret: i32,
    moment: Moment,
    bond: Option<u64>,
    faults: Faults,
    /// Its programs don't run.
    unseen: bool,
    /// The call on a PASID inside an SVA bind or unbind.
    nested: Option<Box<Running>>,
    /// Where it stands in [`Kernel::history`].
    fact: Option<usize>,
    /// The place of its first record.
    began: usize,
    /// The places of its first and last record under the mutex.
    locked: Option<(usize, usize)>,
    lost: Vec<u32>,
    kept: Vec<u32>,
}

#[derive(Clone, Debug)]
enum Moment {
    Begun,
    /// It holds the mutex.
    Inside {
        steps: VecDeque<plan::Step>,
        before: State,
    },
    /// The call inside an SVA bind or unbind has returned.
    Bonding,
    Acted,
}

impl Running {
    /// The call returns this error at once.
    pub fn refuse(&mut self, errno: i32) {
        (self.moment, self.ret) = (Moment::Acted, errno);
    }

    pub fn acted(&self) -> bool {
        matches!(self.moment, Moment::Acted)
    }

    pub fn group(&self) -> u32 {
        self.group
    }

    /// It did not take the mutex yet.
    pub fn waits(&self) -> bool {
        matches!(self.nested.as_deref().unwrap_or(self).moment, Moment::Begun)
    }
}

pub const EPERM: i32 = -1;
pub const EBUSY: i32 = -16;
pub const EINVAL: i32 = -22;

pub struct Kernel {
    pub era: Era,
    pub faults: Faults,
    pub now: u64,
    pub groups: BTreeMap<u32, Grp>,
    /// What the hooks reported, in the order of the ring.
    pub log: Vec<Event>,
    /// What truly happened, in the order in which it did.
    pub history: Vec<Fact>,
    /// The driver's own hooks report what it does to its tables.
    pub driver_reports: bool,
    /// The hook on what a driver frees with a device.
    pub table_hook: Hook,
    pub looks: Vec<Sight>,
    /// Records of calls are reserved only, and filled by [`Kernel::fill`].
    pub lazy: bool,
    /// By task: the record that it reserved and is to fill.
    unfilled: BTreeMap<u32, ring::Unfilled>,
    /// By task: what the record of the entry of its last call read.
    entries: BTreeMap<u32, Vec<Read>>,
    /// How many records were taken out of the log.
    taken: usize,
    /// What becomes of records on their way.
    pub loss: Option<Loss>,
    /// Tasks whose last record found no room, and who did not come to count it yet.
    uncounted: BTreeSet<u32>,
    /// Records that found no room in the ring, and programs that did not run, as far as they are counted.
    pub dropped: u64,
    pub missed: u64,
    /// On which CPU a task runs; else one of four.
    pub cpus: BTreeMap<u32, u32>,
    sequences: BTreeMap<u32, u64>,
    /// Processes that have a PASID, by `mm_struct`.
    pub mms: BTreeMap<u64, Mm>,
    /// `iommu_sva_lock`, by task.
    sva_lock: Option<u32>,
    pointer: u64,
}

pub fn task(tid: u32, comm: &str) -> Task {
    Task { tid, tgid: tid, comm: comm.into() }
}

/// The kinds of domains by their address: the thousands digit tells.
pub fn domain(key: u64) -> Option<Domain> {
    let kind = match key / 1000 {
        1 => DomainKind::DmaFq,
        2 => DomainKind::Blocked,
        3 => DomainKind::Unmanaged,
        4 => DomainKind::Sva,
        5 => DomainKind::Nested,
        _ => DomainKind::Unknown,
    };
    Key::new(key).map(|key| Domain { key, kind })
}

impl Kernel {
    pub fn new(era: Era) -> Kernel {
        Kernel {
            era,
            faults: Faults::default(),
            now: 1_000_000_000,
            groups: BTreeMap::new(),
            log: Vec::new(),
            history: Vec::new(),
            looks: Vec::new(),
            driver_reports: false,
            table_hook: Hook::VtdTableLeft,
            lazy: false,
            loss: None,
            uncounted: BTreeSet::new(),
            dropped: 0,
            missed: 0,
            unfilled: BTreeMap::new(),
            entries: BTreeMap::new(),
            taken: 0,
            cpus: BTreeMap::new(),
            mms: BTreeMap::new(),
            sva_lock: None,
            sequences: BTreeMap::new(),
            pointer: 900_000,
        }
    }

    /// A group of these devices, free, on its default domain. It was there before anybody watched.
    pub fn group(&mut self, id: u32, names: &[&'static str]) {
        let devices = names.iter().map(|&name| self.device(name)).collect();
        let default_domain = 1000 + u64::from(id);
        self.groups.insert(
            id,
            Grp {
                key: 10_000 + u64::from(id),
                devices,
                owner: 0,
                owner_cnt: 0,
                domain: default_domain,
                default_domain,
                blocking_domain: 2000 + u64::from(id),
                recovery_cnt: 0,
                array: BTreeMap::new(),
                bonds: BTreeMap::new(),
                holder: None,
            },
        );
    }

    pub fn device(&mut self, name: &'static str) -> Dev {
        let key = self.pointer();
        let table = self.pointer();
        let joined = self.history.len();
        Dev {
            key,
            name,
            max_pasids: 1 << 20,
            table,
            on: 0,
            present: BTreeMap::new(),
            waiting: Vec::new(),
            resets: 0,
            bound: true,
            joined,
        }
    }

    fn pointer(&mut self) -> u64 {
        self.pointer += 64;
        self.pointer
    }

    pub fn sleep(&mut self, ns: u64) {
        self.now += ns;
    }

    /// A device asks for a page, and a handler takes the request (`iommu_report_device_fault`, from 6.11). `false`: the
    /// PASID isn't attached, and the request got an error at once.
    pub fn asks(&mut self, device: &str, pasid: u32) -> bool {
        let id = self.group_of(device);
        let handled = self.groups[&id].array.contains_key(&pasid);
        if handled {
            self.waiting_of(device).push(pasid);
        }
        handled
    }

    /// The device's requests that wait: who answers them takes them out.
    pub fn waiting_of(&mut self, device: &str) -> &mut Vec<u32> {
        let id = self.group_of(device);
        let mut devices = self.group_mut(id).devices.iter_mut();
        &mut devices.find(|member| member.name == device).expect("a member").waiting
    }

    /// iommufd's handle of the RID, at index 0.
    pub fn put_rid_handle(&mut self, group: u32, domain: u64) {
        let entry = Entry { encoding: Encoding::Handle, domain: Some(domain) };
        self.group_mut(group).array.insert(0, entry);
    }

    pub fn take_rid_handle(&mut self, group: u32) {
        self.group_mut(group).array.remove(&0);
    }

    pub fn group_mut(&mut self, group: u32) -> &mut Grp {
        self.groups.get_mut(&group).expect("a group of this number")
    }

    pub fn group_of(&self, device: &str) -> u32 {
        let holds = |group: &Grp| group.devices.iter().any(|member| member.name == device);
        *self.groups.iter().find(|(_, group)| holds(group)).expect("a group of this device").0
    }

    /// The group as it truly is.
    pub fn state(&self, id: u32) -> State {
        let group = &self.groups[&id];
        State {
            owner: group.owner,
            count: group.owner_cnt,
            domain: group.domain,
            default_domain: group.default_domain,
            blocking_domain: group.blocking_domain,
            recovery_cnt: group.recovery_cnt,
            array: group.array.iter().map(|(&pasid, entry)| (pasid, entry.domain)).collect(),
        }
    }
}
