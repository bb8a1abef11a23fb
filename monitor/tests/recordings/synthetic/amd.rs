//! The sequence that all of this began with, on AMD: d1 is attached to a device, a process is bound to it, d1 is
//! detached. Told from drivers/iommu/iommu.c, amd/iommu.c and amd/pasid.c of Linux 7.3.4, booted with
//! `amd_iommu=pgtbl_v2`, so that paging domains have a GCR3 table (`pdom_is_sva_capable`); from 6.9 on they are alike in
//! this. On every switch of the RID `detach_device` switches the device's capabilities off (`pdev_disable_caps`) and
//! frees its GCR3 table with all that is in it (`destroy_gcr3_table`); `attach_device` makes an empty one and switches
//! them on again.

use monitor::coverage::{Backend, Coverage, HookState};
use monitor::input::{Input, Resync};
use monitor::inventory::{DeviceEntry, GroupEntry, Inventory};
use monitor::trace::Origin;
use monitor_ebpf::wire::{
    ArrayEntry, Domain, Encoding, Group, Hook, Operation, Part, Phase, SnapshotHead, State, TableEntry,
    TableKind, known, state,
};
use zerocopy::{FromZeros, IntoBytes};

use crate::rig::{Told, pointer};

pub const GROUP: u32 = 12;
pub const DEVICE: &str = "0000:c1:00.0";
pub const PASID: u32 = 1;

const SOURCE: &str =
    "drivers/iommu/amd/iommu.c of Linux 7.3.4 (detach_device, attach_device; alike from 6.9 on)";

pub fn origin() -> Origin {
    Origin {
        host: "synthetic".into(),
        kernel: "7.3.4".into(),
        boot_id: "synthetic".into(),
        btf: "00".repeat(32),
        clock_offset_ns: 1_795_353_000_000_000_000,
        synthetic: Some(SOURCE.into()),
    }
}

/// Every hook that such a kernel has on x86.
pub fn coverage() -> Coverage {
    let mut coverage = Coverage::default();
    coverage.core_pasids = true;
    let arm = [Hook::SmmuClear, Hook::SmmuDetach];
    for &hook in Hook::ALL.iter().filter(|hook| !arm.contains(hook)) {
        coverage.set(hook, HookState::Attached { backend: Backend::Fentry });
    }
    coverage
}

fn inventory() -> Inventory {
    let device = DeviceEntry {
        name: DEVICE.into(),
        driver: Some("accel".into()),
        iommu: Some("ivhd0".into()),
        iommu_driver: Some("amd".into()),
    };
    Inventory {
        groups: vec![GroupEntry { id: GROUP, default_domain: Some("DMA-FQ".into()), devices: vec![device] }],
    }
}

/// `iommu_domain::type`
const BLOCKED: u32 = 0;
const UNMANAGED: u32 = 1;
const DMA_FQ: u32 = 0xb;
const SVA: u32 = 0x10;

fn domain(number: u64, kind: u32) -> Domain {
    Domain { key: pointer(number), kind, kind_known: 1 }
}

fn default_domain() -> Domain {
    domain(10, DMA_FQ)
}

fn blocked() -> Domain {
    domain(11, BLOCKED)
}

fn d1() -> Domain {
    domain(12, UNMANAGED)
}

/// The process's.
fn d2() -> Domain {
    domain(13, SVA)
}

const BOND: u64 = 20;
const MM: u64 = 21;

/// Who does it.
#[derive(Clone, Copy)]
struct Who(u32, &'static [u8]);

const WATCHER: Who = Who(300, b"iommu-watch");
const DRIVER: Who = Who(410, b"driver");
const USER: Who = Who(512, b"user");

/// The telling so far, and the group as it is then.
struct Telling {
    told: Vec<Told>,
    now: u64,
    sequence: u64,
    owner_cnt: u32,
    domain: Domain,
    attached: bool,
}

impl Telling {
    fn operation(&mut self, who: Who, hook: Hook, phase: Phase) -> Operation {
        self.now += 40_000;
        self.sequence += 1;
        let mut record = Operation::new_zeroed();
        let header = &mut record.header;
        (header.time_ns, header.sequence, header.cpu, header.stack) = (self.now, self.sequence, 2, -1);
        (header.task.tid, header.task.tgid) = (who.0, who.0);
        header.task.comm[..who.1.len()].copy_from_slice(who.1);
        (header.hook, header.phase) = (hook as u16, phase as u8);
        header.known = known::GROUP | known::OWNER | known::RECOVERY | known::DEVICE | known::MAX_PASIDS;
        record.group = Group {
            key: pointer(1),
            owner: 0,
            domain: self.domain,
            default_domain: default_domain(),
            blocking_domain: blocked(),
            id: GROUP,
            owner_cnt: self.owner_cnt,
            recovery_cnt: 0,
            reserved: 0,
        };
        record.device.key = pointer(2);
        record.device.name[..DEVICE.len()].copy_from_slice(DEVICE.as_bytes());
        record.device.max_pasids = 1 << 16;
        record
    }

    /// A record that says no more than who, what and about which device.
    fn plain(&mut self, who: Who, hook: Hook, phase: Phase) {
        let record = self.operation(who, hook, phase);
        self.told.push(Told::event(&record));
    }

    /// A record about a domain, and perhaps a PASID.
    fn about(&mut self, who: Who, hook: Hook, phase: Phase, domain: Domain, pasid: Option<u32>) {
        let mut record = self.operation(who, hook, phase);
        record.domain = domain;
        record.header.known |= known::DOMAIN;
        if let Some(pasid) = pasid {
            record.pasid = pasid;
            record.header.known |= known::PASID;
            if matches!(hook, Hook::PasidAttach | Hook::PasidDetach) {
                record.header.known |= known::SLOT;
                record.slot = self.slot();
            }
        }
        self.told.push(Told::event(&record));
    }

    fn slot(&self) -> ArrayEntry {
        let (domain, encoding) = match self.attached {
            true => (d2(), Encoding::Handle),
            false => (Domain::default(), Encoding::Empty),
        };
        ArrayEntry { domain, pasid: PASID, encoding: encoding as u16, flags: 0 }
    }

    /// A call that reads the whole array.
    fn with_array(&mut self, who: Who, hook: Hook, phase: Phase) {
        let mut record = monitor_ebpf::wire::Inventory::new_zeroed();
        record.operation = self.operation(who, hook, phase);
        record.operation.header.known |= known::ARRAY;
        record.array.complete = 1;
        if self.attached {
            (record.array.len, record.array.entries[0]) = (1, self.slot());
        }
        self.told.push(Told::Event(record.as_bytes().to_vec(), self.now));
    }

    /// `__iommu_attach_device`: `detach_device` and `attach_device` of AMD's driver.
    fn switch(&mut self, to: Domain) {
        let old = self.domain;
        let mut begin = self.operation(DRIVER, Hook::RidAttach, Phase::Begin);
        (begin.domain, begin.old) = (to, old);
        begin.header.known |= known::DOMAIN | known::OLD;
        self.told.push(Told::event(&begin));
        self.plain(DRIVER, Hook::AtsOff, Phase::Point);
        self.plain(DRIVER, Hook::PasidOff, Phase::Point);
        self.plain(DRIVER, Hook::AmdTableFree, Phase::Point);
        self.plain(DRIVER, Hook::PasidOn, Phase::End);
        self.plain(DRIVER, Hook::AtsOn, Phase::End);
        let mut end = self.operation(DRIVER, Hook::RidAttach, Phase::End);
        (end.domain, end.old) = (to, old);
        end.header.known |= known::DOMAIN | known::OLD;
        self.told.push(Told::event(&end));
        self.domain = to;
    }

    /// A read of the group's `reserved_regions`: its member and the group, the member under the mutex, and both again.
    fn look(&mut self) {
        self.told.push(Told::input(Input::Resync(Resync::Start), self.now));
        for (hook, phase, of_member) in [
            (Hook::SnapshotGroup, Phase::Begin, true),
            (Hook::SnapshotGroup, Phase::Begin, false),
            (Hook::SnapshotAmd, Phase::Point, true),
            (Hook::SnapshotGroup, Phase::End, true),
            (Hook::SnapshotGroup, Phase::End, false),
        ] {
            let locked = hook == Hook::SnapshotAmd;
            let mut head = SnapshotHead::new_zeroed();
            head.operation = self.operation(WATCHER, hook, phase);
            if of_member {
                let flags = state::BOUND | state::ATS | state::PRI | state::PASID | state::BLOCKED;
                head.state = State { iommu: pointer(3), set: flags & !state::BLOCKED, known: flags };
                head.operation.header.known |= known::STATE;
            } else {
                head.operation.header.known &= !(known::DEVICE | known::MAX_PASIDS);
                head.operation.device = FromZeros::new_zeroed();
                head.members = Part { len: 1, complete: 1 };
                head.operation.header.known |= known::MEMBERS;
            }
            let (mut array, mut table) = (Vec::new(), Vec::new());
            if locked || !of_member {
                array.extend(self.attached.then(|| self.slot()));
                head.array = Part { len: array.len() as u32, complete: 1 };
                head.operation.header.known |= known::ARRAY;
            }
            if locked {
                // Entry 0 is the RID's own; what a process's PASID adds is behind it.
                table.extend([0].into_iter().chain(self.attached.then_some(PASID)).map(|pasid| TableEntry {
                    pasid,
                    kind: 1,
                    tag: 7,
                    reserved: [0; 3],
                }));
                head.table = Part { len: table.len() as u32, complete: 1 };
                head.table_kind = TableKind::Amd as u32;
                head.operation.device.table = pointer(4);
                head.operation.header.known |= known::ENTRIES | known::TABLE;
            }
            let mut bytes = head.as_bytes().to_vec();
            array.iter().for_each(|entry| bytes.extend(entry.as_bytes()));
            table.iter().for_each(|entry| bytes.extend(entry.as_bytes()));
            self.told.push(Told::Event(bytes, self.now));
        }
        self.settle(0);
    }

    /// The ring is empty, and so long nothing happens.
    fn settle(&mut self, ns: u64) {
        self.now += ns;
        self.told.push(Told::input(Input::Settled, self.now));
    }
}

pub fn told() -> Vec<Told> {
    let now = 60_000_000_000;
    let mut telling = Telling {
        told: vec![Told::input(Input::Start, now), Told::input(Input::Inventory(inventory()), now)],
        now,
        sequence: 0,
        owner_cnt: 0,
        domain: default_domain(),
        attached: false,
    };
    telling.look();
    telling.settle(1_000_000_000);

    // The driver binds; d1 = alloc, attach d1: its table holds nothing that could be lost.
    telling.with_array(DRIVER, Hook::UseDefault, Phase::Begin);
    telling.owner_cnt = 1;
    telling.with_array(DRIVER, Hook::UseDefault, Phase::End);
    telling.switch(d1());
    telling.about(DRIVER, Hook::AttachDevice, Phase::End, d1(), None);
    telling.settle(1_000_000_000);

    // d2 = bind: iommu_sva_set_dev_pasid, amd_iommu_set_gcr3.
    telling.about(USER, Hook::PasidAttach, Phase::Begin, d2(), Some(PASID));
    telling.attached = true;
    telling.about(USER, Hook::PasidAttach, Phase::End, d2(), Some(PASID));
    let mut bound = telling.operation(USER, Hook::SvaBind, Phase::End);
    (bound.ret, bound.mm) = (pointer(BOND) as i64, pointer(MM));
    bound.header.known |= known::MM;
    telling.told.push(Told::event(&bound));
    telling.settle(1_000_000_000);

    // Detach d1: the RID goes back to its default domain, and the table with the process's PASID is freed.
    telling.switch(default_domain());
    telling.about(DRIVER, Hook::DetachDevice, Phase::End, d1(), None);
    telling.settle(1_000_000_000);

    // The process is unbound: amd_iommu_clear_gcr3 clears an entry of the new table that was never set.
    let mut unbind = telling.operation(USER, Hook::SvaUnbind, Phase::Begin);
    (unbind.handle, unbind.domain) = (pointer(BOND), d2());
    unbind.header.known |= known::HANDLE | known::DOMAIN;
    telling.told.push(Told::event(&unbind));
    telling.about(USER, Hook::PasidDetach, Phase::Begin, d2(), Some(PASID));
    telling.about(USER, Hook::AmdClear, Phase::Begin, Domain::default(), Some(PASID));
    telling.about(USER, Hook::AmdClear, Phase::End, Domain::default(), Some(PASID));
    let mut taken_off = telling.operation(USER, Hook::AmdDetach, Phase::End);
    (taken_off.domain, taken_off.old, taken_off.pasid) = (blocked(), d2(), PASID);
    taken_off.header.known |= known::DOMAIN | known::OLD | known::PASID;
    telling.told.push(Told::event(&taken_off));
    telling.attached = false;
    telling.about(USER, Hook::PasidDetach, Phase::End, d2(), Some(PASID));
    let mut unbound = telling.operation(USER, Hook::SvaUnbind, Phase::End);
    (unbound.handle, unbound.domain) = (pointer(BOND), d2());
    unbound.header.known |= known::HANDLE | known::DOMAIN;
    telling.told.push(Told::event(&unbound));
    telling.settle(1_000_000_000);

    telling.with_array(DRIVER, Hook::UnuseDefault, Phase::Begin);
    telling.owner_cnt = 0;
    telling.with_array(DRIVER, Hook::UnuseDefault, Phase::End);
    telling.settle(1_000_000_000);
    telling.look();
    telling.told
}
