//! A tiny honest kernel: the IOMMU core's calls as drivers/iommu/iommu.c has them, era by era, with the
//! events that the hooks would report. Written from the kernel's sources; it knows nothing of the model
//! or of the checks.
//!
//! A call has three moments, so that calls of several tasks can overlap: [`Kernel::begin`] reports the
//! entry, [`Kernel::act`] does the work under `group->mutex`, [`Kernel::end`] reports the return.

mod calls;
mod ring;

use std::collections::BTreeMap;

use monitor::event::{Domain, DomainKind, Event, Key, Task};
use monitor_ebpf::wire::{Encoding, Hook, Phase};

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
    fn has_locked_release(self) -> bool {
        self >= Era::Handles
    }
}

/// What a kernel, or what calls it, may do wrong.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// The last release forgets to give the owner up.
    pub release_keeps_owner: bool,
    /// The last release forgets to go back to the default domain.
    pub release_keeps_domain: bool,
    /// `iommu_device_unuse_default_domain` forgets to count down.
    pub unuse_keeps_count: bool,
    /// An attach doesn't look whether the PASID is attached.
    pub attach_over: bool,
    /// A replace doesn't look whether the PASID is attached.
    pub replace_nothing: bool,
}

#[derive(Clone, Debug)]
pub struct Dev {
    pub key: u64,
    pub name: &'static str,
    pub max_pasids: u32,
    pub table: u64,
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
    bonds: BTreeMap<u64, Bond>,
}

#[derive(Clone, Debug)]
struct Bond {
    handle: u64,
    pasid: u32,
    domain: u64,
    users: u32,
}

/// A call into the IOMMU core. Groups by their number, devices by their name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    Claim {
        group: u32,
        owner: u64,
    },
    Release {
        group: u32,
    },
    ClaimDevice {
        device: &'static str,
        owner: u64,
    },
    ReleaseDevice {
        device: &'static str,
    },
    Use {
        device: &'static str,
    },
    Unuse {
        device: &'static str,
    },
    AttachGroup {
        group: u32,
        domain: u64,
    },
    DetachGroup {
        group: u32,
        domain: u64,
    },
    Attach {
        device: &'static str,
        pasid: u32,
        domain: u64,
    },
    /// An attach without a handle: idxd's system PASID.
    AttachBare {
        device: &'static str,
        pasid: u32,
        domain: u64,
    },
    Replace {
        device: &'static str,
        pasid: u32,
        domain: u64,
    },
    Detach {
        device: &'static str,
        pasid: u32,
        domain: u64,
    },
    Bind {
        device: &'static str,
        mm: u64,
        pasid: u32,
    },
    Unbind {
        device: &'static str,
        mm: u64,
    },
}

/// A call under way.
#[derive(Clone, Debug)]
pub struct Running {
    pub call: Call,
    pub task: Task,
    group: u32,
    hook: Hook,
    ret: i32,
    acted: bool,
    bond: Option<u64>,
}

impl Running {
    /// The call returns this error at once.
    pub fn refuse(&mut self, errno: i32) {
        (self.acted, self.ret) = (true, errno);
    }

    pub fn acted(&self) -> bool {
        self.acted
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
    sequences: BTreeMap<u32, u64>,
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
            },
        );
    }

    pub fn device(&mut self, name: &'static str) -> Dev {
        let key = self.pointer();
        let table = self.pointer();
        Dev { key, name, max_pasids: 1 << 20, table }
    }

    fn pointer(&mut self) -> u64 {
        self.pointer += 64;
        self.pointer
    }

    pub fn sleep(&mut self, ns: u64) {
        self.now += ns;
    }

    /// The PASIDs that are attached, index 0 left out.
    pub fn pasids(&self, group: u32) -> Vec<u32> {
        self.groups[&group].array.keys().copied().filter(|&pasid| pasid != 0).collect()
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

    /// The whole call at once.
    pub fn call(&mut self, task: &Task, call: Call) -> i32 {
        let mut running = self.begin(task, call);
        self.act(&mut running);
        self.end(running)
    }

    /// Calls that were made before anybody watched, or that nobody saw.
    pub fn calls_before(&mut self, task: &Task, calls: impl IntoIterator<Item = Call>) {
        for call in calls {
            assert_eq!(self.call(task, call.clone()), 0, "{call:?}");
        }
        let unseen = std::mem::take(&mut self.log);
        for event in unseen {
            *self.sequences.entry(event.cpu).or_default() -= 1;
        }
    }

    pub fn begin(&mut self, task: &Task, call: Call) -> Running {
        let (hook, group) = self.target(&call);
        let mut running = Running { call, task: *task, group, hook, ret: 0, acted: false, bond: None };
        if let Call::Unbind { mm, .. } = running.call {
            running.bond = self.groups[&group].bonds.get(&mm).map(|bond| bond.handle);
        }
        self.report(&running, Phase::Begin, None);
        running
    }

    pub fn end(&mut self, running: Running) -> i32 {
        assert!(running.acted, "a call returns after it did its work");
        self.report(&running, Phase::End, Some(running.ret));
        running.ret
    }

    /// The work, under `group->mutex`.
    pub fn act(&mut self, running: &mut Running) {
        running.acted = true;
        let id = running.group;
        running.ret = match running.call.clone() {
            Call::Use { .. } => self.use_default(id),
            Call::Unuse { .. } => self.unuse_default(id),
            Call::Claim { owner, .. } => match self.groups[&id].owner_cnt {
                0 => self.take(running, owner),
                _ => EPERM,
            },
            Call::ClaimDevice { owner, .. } => match &mut self.group_mut(id) {
                group if group.owner_cnt > 0 && group.owner != owner => EPERM,
                group if group.owner_cnt > 0 => {
                    group.owner_cnt += 1;
                    0
                }
                _ => self.take(running, owner),
            },
            Call::Release { .. } => self.release(running),
            Call::ReleaseDevice { .. } => match self.groups[&id].owner_cnt {
                0 | 1 => self.release(running),
                _ => {
                    self.group_mut(id).owner_cnt -= 1;
                    0
                }
            },
            Call::AttachGroup { domain, .. } => {
                self.set_domain(running, domain);
                0
            }
            Call::DetachGroup { .. } => {
                let group = &self.groups[&id];
                let core = if group.owner == 0 { group.default_domain } else { group.blocking_domain };
                self.set_domain(running, core);
                0
            }
            Call::Attach { pasid, domain, .. } => self.attach(id, pasid, domain, true),
            Call::AttachBare { pasid, domain, .. } => self.attach(id, pasid, domain, false),
            Call::Replace { pasid, domain, .. } => self.replace(id, pasid, domain),
            Call::Detach { pasid, .. } => {
                self.group_mut(id).array.remove(&pasid);
                0
            }
            Call::Bind { device, mm, pasid } => self.bind(running, device, mm, pasid),
            Call::Unbind { device, mm } => self.unbind(running, device, mm),
        };
    }

    fn target(&self, call: &Call) -> (Hook, u32) {
        match *call {
            Call::Claim { group, .. } => (Hook::ClaimGroup, group),
            Call::Release { group } => (Hook::ReleaseGroup, group),
            Call::AttachGroup { group, .. } => (Hook::AttachGroup, group),
            Call::DetachGroup { group, .. } => (Hook::DetachGroup, group),
            Call::ClaimDevice { device, .. } => (Hook::ClaimDevice, self.group_of(device)),
            Call::ReleaseDevice { device } => (Hook::ReleaseDevice, self.group_of(device)),
            Call::Use { device } => (Hook::UseDefault, self.group_of(device)),
            Call::Unuse { device } => (Hook::UnuseDefault, self.group_of(device)),
            Call::Attach { device, .. } | Call::AttachBare { device, .. } => {
                (Hook::PasidAttach, self.group_of(device))
            }
            Call::Replace { device, .. } => (Hook::PasidReplace, self.group_of(device)),
            Call::Detach { device, .. } => (Hook::PasidDetach, self.group_of(device)),
            Call::Bind { device, .. } => (Hook::SvaBind, self.group_of(device)),
            Call::Unbind { device, .. } => (Hook::SvaUnbind, self.group_of(device)),
        }
    }
}
