//! Wire record → typed event. Pure: no I/O, no clock, no kernel.
//!
//! An [`Event`] is one moment of one call: who made it, what it was about, what the kernel's own
//! structures held at that moment, and, at the end of the call, what came of it.

use std::fmt;

use monitor_ebpf::wire::{self, Encoding, Hook, Phase, known};
use zerocopy::FromBytes;

/// Identity of a kernel object, stable while the object lives and reused after. It never prints as an
/// address: that would undo KASLR.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(u64);

impl Key {
    /// `None` for the null pointer.
    pub fn new(raw: u64) -> Option<Key> {
        (raw != 0).then_some(Key(raw))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

/// What a domain is for: `iommu_domain::type` (include/linux/iommu.h; values the same from 6.1 to 7.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DomainKind {
    Blocked,
    Unmanaged,
    Dma,
    DmaFq,
    Identity,
    Sva,
    Platform,
    Nested,
    /// A type that this version does not know.
    Other(u32),
    /// The type could not be read.
    Unknown,
}

impl DomainKind {
    pub fn from_type(value: u32) -> DomainKind {
        match value {
            0 => DomainKind::Blocked,
            1 => DomainKind::Unmanaged,
            3 => DomainKind::Dma,
            0xb => DomainKind::DmaFq,
            4 => DomainKind::Identity,
            0x10 => DomainKind::Sva,
            0x20 => DomainKind::Platform,
            0x40 => DomainKind::Nested,
            other => DomainKind::Other(other),
        }
    }

    /// The name in output and labels; a closed set.
    pub fn name(self) -> &'static str {
        match self {
            DomainKind::Blocked => "blocked",
            DomainKind::Unmanaged => "unmanaged",
            DomainKind::Dma => "dma",
            DomainKind::DmaFq => "dma-fq",
            DomainKind::Identity => "identity",
            DomainKind::Sva => "sva",
            DomainKind::Platform => "platform",
            DomainKind::Nested => "nested",
            DomainKind::Other(_) => "other",
            DomainKind::Unknown => "unknown",
        }
    }
}

/// A `struct iommu_domain` as an event saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Domain {
    pub key: Key,
    pub kind: DomainKind,
}

/// A `struct iommu_group` as the kernel had it at the moment of the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    pub key: Key,
    /// The number under /sys/kernel/iommu_groups.
    pub id: u32,
    /// `owner` and `owner_cnt`; `None` before 5.19, or if they could not be read.
    pub ownership: Option<Ownership>,
    pub domain: Option<Domain>,
    pub default_domain: Option<Domain>,
    pub blocking_domain: Option<Domain>,
    /// Members blocked by a reset (from 7.0), else 0.
    pub recovery_cnt: u32,
}

/// Who holds a group: FREE is count 0, KERNEL a count without an owner, USER a count with one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ownership {
    pub owner: Option<Key>,
    pub count: u32,
}

/// A `struct device` as an event saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    pub key: Key,
    /// `kobj.name`; for a PCI device its address, `0000:01:00.0`.
    pub name: String,
    /// `dev->iommu->max_pasids` (from 6.2); `None` if it could not be read.
    pub max_pasids: Option<u32>,
    /// The root of its hardware PASID table, where the hook knows the driver; `Some(None)`: it has none.
    pub table: Option<Option<Key>>,
}

/// One entry of `pasid_array`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArrayEntry {
    pub pasid: u32,
    pub encoding: Encoding,
    /// `None` where the encoding names none.
    pub domain: Option<Domain>,
}

/// A group's `pasid_array` at the moment of the event; index 0 is the RID's own handle and no PASID.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PasidArray {
    /// In ascending order of PASID.
    pub entries: Vec<ArrayEntry>,
    /// The whole array was walked. If not, a PASID that is not in `entries` is unknown, not absent.
    pub complete: bool,
}

impl PasidArray {
    /// The entries of PASIDs proper: index 0 is the RID's.
    pub fn pasids(&self) -> impl Iterator<Item = &ArrayEntry> {
        self.entries.iter().filter(|entry| entry.pasid != 0)
    }
}

/// The task that made the call; in interrupt context the one that was interrupted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Task {
    pub tid: u32,
    pub tgid: u32,
    pub comm: String,
}

/// One moment of one call in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// CLOCK_MONOTONIC, ns.
    pub mono_ns: u64,
    pub cpu: u32,
    /// Of this CPU; a gap is a loss.
    pub sequence: u64,
    pub task: Task,
    /// Id of the kernel stack, where one was taken.
    pub stack: Option<u32>,
    pub hook: Hook,
    pub phase: Phase,
    pub group: Option<Group>,
    pub device: Option<Device>,
    /// The domain that the call names.
    pub domain: Option<Domain>,
    /// The domain that the call says is to be replaced.
    pub old: Option<Domain>,
    pub pasid: Option<u32>,
    /// The cookie of a claim.
    pub owner: Option<Key>,
    /// The bond (`struct iommu_sva`): of an unbind from its start, of a bind from its successful end.
    pub bond: Option<Key>,
    pub mm: Option<Key>,
    /// At [`Phase::End`] of a call that can fail: 0 or a negative errno. `None` for void functions and
    /// for other phases.
    pub ret: Option<i32>,
    /// The group's `pasid_array` at this moment, where the hook reads it and the kernel has it.
    pub array: Option<PasidArray>,
    /// A read from kernel memory failed: what is missing here is unknown, not absent.
    pub incomplete: bool,
}

/// Why bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("a record of {0} bytes is neither an operation nor an inventory")]
    Size(usize),
    #[error("no hook has number {0}")]
    Hook(u16),
    #[error("no phase has number {0}")]
    Phase(u8),
    #[error("a pasid_array of {0} entries does not fit a record")]
    Array(u32),
}

/// What the C function behind a hook returns.
enum Returns {
    Nothing,
    /// 0 or a negative errno.
    Errno,
    /// A pointer, or a negative errno as one (`ERR_PTR`).
    Pointer,
}

fn returns(hook: Hook) -> Returns {
    match hook {
        Hook::RidAttach
        | Hook::AttachDevice
        | Hook::AttachGroup
        | Hook::AttachGroupHandle
        | Hook::ReplaceGroupHandle
        | Hook::ReplaceGroupDomain
        | Hook::ClaimGroup
        | Hook::ClaimDevice
        | Hook::UseDefault
        | Hook::PasidAttach
        | Hook::PasidReplace
        | Hook::VtdSetupFirst
        | Hook::VtdSetupSecond
        | Hook::VtdSetupPassThrough
        | Hook::VtdSetupNested
        | Hook::VtdTableAlloc => Returns::Errno,
        Hook::SvaBind => Returns::Pointer,
        Hook::DeviceAdd
        | Hook::DeviceRemove
        | Hook::DeviceRelease
        | Hook::GroupRelease
        | Hook::DetachDevice
        | Hook::DetachGroup
        | Hook::DetachGroupHandle
        | Hook::ReleaseGroup
        | Hook::ReleaseDevice
        | Hook::UnuseDefault
        | Hook::ReleaseLocked
        | Hook::PasidDetach
        | Hook::SvaUnbind
        | Hook::VtdTearDown
        | Hook::VtdTableFree
        | Hook::SnapshotGroup
        | Hook::SnapshotIntel
        | Hook::SnapshotAmd
        | Hook::SnapshotDma => Returns::Nothing,
    }
}

/// The greatest errno that the kernel folds into a pointer (include/linux/err.h).
const MAX_ERRNO: i64 = 4095;

/// Decodes one record from the ring or a recording. The bytes are hostile until this has passed them.
pub fn decode(bytes: &[u8]) -> Result<Event, Malformed> {
    if bytes.len() == size_of::<wire::Inventory>() {
        let record = wire::Inventory::read_from_bytes(bytes).map_err(|_| Malformed::Size(bytes.len()))?;
        let mut event = operation(&record.operation)?;
        if record.operation.header.known & known::ARRAY != 0 {
            event.array = Some(array(&record.array)?);
        }
        Ok(event)
    } else {
        let record = wire::Operation::read_from_bytes(bytes).map_err(|_| Malformed::Size(bytes.len()))?;
        operation(&record)
    }
}

fn operation(record: &wire::Operation) -> Result<Event, Malformed> {
    let header = &record.header;
    let hook = Hook::from_number(header.hook).ok_or(Malformed::Hook(header.hook))?;
    let phase = Phase::from_number(header.phase).ok_or(Malformed::Phase(header.phase))?;
    let has = |bit: u32| header.known & bit != 0;
    let (ret, returned) = match (phase, returns(hook)) {
        (Phase::End, Returns::Errno) => (Some(record.ret as i32), None),
        (Phase::End, Returns::Pointer) if (-MAX_ERRNO..=0).contains(&record.ret) => {
            (Some(record.ret as i32), None)
        }
        (Phase::End, Returns::Pointer) => (Some(0), Key::new(record.ret as u64)),
        _ => (None, None),
    };
    Ok(Event {
        mono_ns: header.time_ns,
        cpu: header.cpu,
        sequence: header.sequence,
        task: Task { tid: header.task.tid, tgid: header.task.tgid, comm: text(&header.task.comm) },
        stack: u32::try_from(header.stack).ok(),
        hook,
        phase,
        group: has(known::GROUP).then(|| group(&record.group, header.known)).flatten(),
        device: has(known::DEVICE).then(|| device(&record.device, header.known)).flatten(),
        domain: has(known::DOMAIN).then(|| domain(&record.domain)).flatten(),
        old: has(known::OLD).then(|| domain(&record.old)).flatten(),
        pasid: has(known::PASID).then_some(record.pasid),
        owner: has(known::CLAIMANT).then(|| Key::new(record.owner)).flatten(),
        bond: returned.or_else(|| has(known::HANDLE).then(|| Key::new(record.handle)).flatten()),
        mm: has(known::MM).then(|| Key::new(record.mm)).flatten(),
        ret,
        array: None,
        incomplete: has(known::FAULT),
    })
}

fn group(record: &wire::Group, bits: u32) -> Option<Group> {
    Some(Group {
        key: Key::new(record.key)?,
        id: record.id,
        ownership: (bits & known::OWNER != 0)
            .then(|| Ownership { owner: Key::new(record.owner), count: record.owner_cnt }),
        domain: domain(&record.domain),
        default_domain: domain(&record.default_domain),
        blocking_domain: domain(&record.blocking_domain),
        recovery_cnt: record.recovery_cnt,
    })
}

fn device(record: &wire::Device, bits: u32) -> Option<Device> {
    Some(Device {
        key: Key::new(record.key)?,
        name: text(&record.name),
        max_pasids: (bits & known::MAX_PASIDS != 0).then_some(record.max_pasids),
        table: (bits & known::TABLE != 0).then(|| Key::new(record.table)),
    })
}

fn domain(record: &wire::Domain) -> Option<Domain> {
    let kind = if record.kind_known != 0 { DomainKind::from_type(record.kind) } else { DomainKind::Unknown };
    Some(Domain { key: Key::new(record.key)?, kind })
}

fn array(record: &wire::PasidArray) -> Result<PasidArray, Malformed> {
    let entries = record.entries.get(..record.len as usize).ok_or(Malformed::Array(record.len))?;
    let mut entries: Vec<ArrayEntry> = entries
        .iter()
        .map(|entry| ArrayEntry {
            pasid: entry.pasid,
            encoding: Encoding::from_number(entry.encoding),
            domain: domain(&entry.domain),
        })
        .collect();
    entries.sort_by_key(|entry| entry.pasid);
    Ok(PasidArray { entries, complete: record.complete != 0 })
}

/// Text up to its NUL; what is not UTF-8 or not printable is replaced, since names come from outside
/// and go to terminals and logs.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end])
        .chars()
        .map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c })
        .collect()
}
