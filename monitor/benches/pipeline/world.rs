//! A host that behaves: its groups, and the wire records that the hooks would send of what is done there.

use monitor_ebpf::wire::{
    self, ARRAY_CAPACITY, ArrayEntry, Encoding, Header, Hook, Inventory, NAME_LEN, Operation, PasidArray,
    Phase, known,
};
use zerocopy::{FromZeros, IntoBytes};

/// Domains, as the kernel numbers their kinds (include/linux/iommu.h).
const BLOCKED: u32 = 0;
const UNMANAGED: u32 = 1;
const DMA_FQ: u32 = 0xb;
const SVA: u32 = 0x10;

/// The first of a group's domains that is of a process.
pub const SVA_DOMAINS: u16 = 16;

/// Time from one record to the next, in ns.
const TICK: u64 = 300;
/// When the first record is made: long enough after the start that no call from before is under way.
const START: u64 = 1_000_000_000;
/// CPUs that the records come from.
const CPUS: usize = 8;

/// Records as they lie in the ring, one after the other.
#[derive(Default)]
pub struct Batch {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// What is about to be counted by the watcher, by hook: every record but those of a begin.
    pub counted: Vec<u64>,
}

impl Batch {
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn records(&self) -> impl Iterator<Item = &[u8]> {
        let mut from = 0;
        self.ends.iter().map(move |&to| &self.bytes[std::mem::replace(&mut from, to)..to])
    }

    pub fn push(&mut self, bytes: &[u8], hook: Hook, phase: Phase) {
        self.bytes.extend_from_slice(bytes);
        self.ends.push(self.bytes.len());
        self.counted.resize(Hook::COUNT, 0);
        self.counted[hook as usize] += u64::from(phase != Phase::Begin);
    }
}

/// Whom a group serves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// A tenant holds it, and attaches PASIDs of his own domains.
    Tenant,
    /// A driver of the host holds it, and binds the memory of processes.
    Driver,
    /// Nobody: it is claimed, used and given back.
    Spare,
}

/// A PASID that is attached. Small: what the host keeps must not drive the watcher's state out of the caches.
#[derive(Clone, Copy)]
pub struct Entry {
    pub pasid: u32,
    /// Which of the group's domains.
    pub domain: u16,
    /// A call on it is under way.
    pub busy: bool,
}

pub struct Group {
    pub id: u32,
    pub serves: Use,
    pub owner: u64,
    pub count: u32,
    /// Uses that are being given back.
    pub leaving: u32,
    pub domain: wire::Domain,
    /// In ascending order of PASID.
    pub array: Vec<Entry>,
    /// One task has it for itself.
    pub taken: bool,
}

impl Group {
    fn new(id: u32, serves: Use) -> Group {
        let (owner, count, domain) = match serves {
            Use::Tenant => (address(6, id), 1, domain(id, 2)),
            Use::Driver => (0, 1, domain(id, 0)),
            Use::Spare => (0, 0, domain(id, 0)),
        };
        Group { id, serves, owner, count, leaving: 0, domain, array: Vec::new(), taken: false }
    }

    pub fn find(&self, pasid: u32) -> Result<usize, usize> {
        self.array.binary_search_by_key(&pasid, |entry| entry.pasid)
    }
}

/// A call as the hooks see it; 0 is what it doesn't name.
#[derive(Clone, Copy)]
pub struct Call {
    pub hook: Hook,
    pub group: usize,
    pub task: usize,
    pub device: bool,
    pub pasid: u32,
    pub domain: Option<wire::Domain>,
    pub owner: u64,
    pub handle: u64,
    pub mm: u64,
}

pub struct World {
    pub groups: Vec<Group>,
    pub now: u64,
    sequences: [u64; CPUS],
}

impl World {
    /// `serves` says of a group's number whom it serves.
    pub fn new(groups: u32, serves: impl Fn(u32) -> Use) -> World {
        let groups = (1..=groups).map(|id| Group::new(id, serves(id))).collect();
        World { groups, now: START, sequences: [0; CPUS] }
    }

    /// Every group has a tenant with as many PASIDs.
    pub fn with_pasids(groups: u32, pasids: u32) -> World {
        let mut world = World::new(groups, |_| Use::Tenant);
        for group in &mut world.groups {
            let entry = |pasid| Entry { pasid, domain: 2, busy: false };
            group.array = (1..=pasids).map(entry).collect();
        }
        world
    }

    pub fn live(&self) -> usize {
        self.groups.iter().map(|group| group.array.len()).sum()
    }

    /// Appends what a hook reports of a call, with the group as it is now.
    pub fn record(&mut self, call: &Call, phase: Phase, ret: i64, batch: &mut Batch) {
        let operation = self.operation(call, phase, ret);
        if reads_array(call.hook) {
            let mut record = Inventory { operation, array: array(&self.groups[call.group]) };
            record.operation.header.known |= known::ARRAY;
            batch.push(record.as_bytes(), call.hook, phase);
        } else {
            batch.push(operation.as_bytes(), call.hook, phase);
        }
    }

    /// What all records begin with.
    pub fn operation(&mut self, call: &Call, phase: Phase, ret: i64) -> Operation {
        self.now += TICK;
        let cpu = call.task % CPUS;
        self.sequences[cpu] += 1;
        let group = &self.groups[call.group];
        let mut known = 0;
        let mut record = Operation::new_zeroed();
        if names_group(call.hook) {
            known |= known::GROUP | known::OWNER | known::RECOVERY;
            record.group = view(group);
        }
        if call.device {
            known |= known::DEVICE | known::MAX_PASIDS;
            record.device = device(group.id);
        }
        if reads_table(call.hook) {
            known |= known::TABLE;
            record.device.table = address(3, group.id);
        }
        if let Some(domain) = call.domain {
            known |= known::DOMAIN;
            record.domain = domain;
        }
        if call.pasid != 0 {
            known |= known::PASID;
            record.pasid = call.pasid;
        }
        if reads_slot(call.hook) {
            known |= known::SLOT;
            record.slot = slot(group, call.pasid);
        }
        for (value, bit, member) in [
            (call.owner, known::CLAIMANT, &mut record.owner),
            (call.handle, known::HANDLE, &mut record.handle),
            (call.mm, known::MM, &mut record.mm),
        ] {
            if value != 0 {
                known |= bit;
                *member = value;
            }
        }
        record.ret = ret;
        let stack = phase != Phase::End && call.hook != Hook::RidAttach && !wire::is_snapshot(call.hook);
        record.header = Header {
            time_ns: self.now,
            sequence: self.sequences[cpu],
            task: task(call.task),
            cpu: cpu as u32,
            stack: if stack { call.hook as i32 } else { -1 },
            hook: call.hook as u16,
            phase: phase as u8,
            set: 0,
            known,
        };
        record
    }
}

impl Call {
    pub fn on(hook: Hook, group: usize, task: usize) -> Call {
        Call { hook, group, task, device: true, pasid: 0, domain: None, owner: 0, handle: 0, mm: 0 }
    }
}

/// An address as the kernel's allocator gives them out: objects of one kind lie side by side.
pub fn address(kind: u64, number: u32) -> u64 {
    0xffff_8880_0000_0000 + (kind << 32) + u64::from(number) * 0x400
}

/// A domain of a group: its default domain, its blocking domain, those of its owner, then those of processes.
pub fn domain(group: u32, number: u16) -> wire::Domain {
    let key = address(4, 0) + (u64::from(group) << 20) + u64::from(number) * 0x80;
    let kind = match number {
        0 => DMA_FQ,
        1 => BLOCKED,
        2..SVA_DOMAINS => UNMANAGED,
        _ => SVA,
    };
    wire::Domain { key, kind, kind_known: 1 }
}

fn view(group: &Group) -> wire::Group {
    wire::Group {
        key: address(1, group.id),
        owner: group.owner,
        domain: group.domain,
        default_domain: domain(group.id, 0),
        blocking_domain: domain(group.id, 1),
        id: group.id,
        owner_cnt: group.count,
        recovery_cnt: 0,
        reserved: 0,
    }
}

fn device(group: u32) -> wire::Device {
    let text = format!("{:04x}:{:02x}:{:02x}.0", group >> 13, group >> 5 & 0xff, group & 0x1f);
    let mut name = [0; NAME_LEN];
    name[..text.len()].copy_from_slice(text.as_bytes());
    wire::Device { key: address(2, group), table: 0, name, max_pasids: 1 << 20, took_us: 0 }
}

fn task(number: usize) -> wire::Task {
    let mut comm = [0; 16];
    let text = format!("vmm-worker-{number}");
    comm[..text.len()].copy_from_slice(text.as_bytes());
    wire::Task { tid: 1000 + number as u32, tgid: 1000, comm }
}

fn slot(group: &Group, pasid: u32) -> ArrayEntry {
    match group.find(pasid) {
        Ok(index) => entry(group, &group.array[index]),
        Err(_) => ArrayEntry { pasid, encoding: Encoding::Empty as u16, ..ArrayEntry::default() },
    }
}

pub fn entry(group: &Group, entry: &Entry) -> ArrayEntry {
    let domain = domain(group.id, entry.domain);
    ArrayEntry { domain, pasid: entry.pasid, encoding: Encoding::Domain as u16, flags: 0 }
}

/// The walker's view: as many entries as fit a record.
fn array(group: &Group) -> PasidArray {
    let mut array = PasidArray::new_zeroed();
    for (to, from) in array.entries.iter_mut().zip(&group.array) {
        *to = entry(group, from);
    }
    array.len = group.array.len().min(ARRAY_CAPACITY) as u32;
    array.complete = u32::from(group.array.len() <= ARRAY_CAPACITY);
    array
}

/// Hooks that read the whole array, as the programs have it.
fn reads_array(hook: Hook) -> bool {
    matches!(
        hook,
        Hook::ClaimDevice | Hook::ReleaseDevice | Hook::UseDefault | Hook::UnuseDefault | Hook::ReleaseLocked
    )
}

/// A process, its PASID and a domain are on no group.
fn names_group(hook: Hook) -> bool {
    !matches!(hook, Hook::MmExit | Hook::MmDrop | Hook::PasidFree | Hook::DomainFree)
}

/// Hooks that read the entry of their PASID.
fn reads_slot(hook: Hook) -> bool {
    matches!(hook, Hook::PasidAttach | Hook::PasidReplace | Hook::PasidDetach)
}

/// Hooks that read the root of the device's PASID table.
fn reads_table(hook: Hook) -> bool {
    matches!(hook, Hook::VtdSetupFirst | Hook::VtdSetupSecond | Hook::VtdTearDown | Hook::SnapshotIntel)
}
