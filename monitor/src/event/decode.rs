//! Wire record → typed event.

use std::time::Duration;

use monitor_ebpf::wire::{self, Encoding, Hook, Phase, known};
use zerocopy::{FromBytes, Immutable, KnownLayout};

use super::{
    ArrayEntry, Comm, Device, Domain, DomainKind, Event, Flush, Group, Key, Name, Ownership, PasidArray,
    Range, Slot, Tags, Task, snapshot,
};

/// Why bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("a record of {0} bytes is no operation, inventory, flush or range")]
    Size(usize),
    #[error("no hook has number {0}")]
    Hook(u16),
    #[error("no phase has number {0}")]
    Phase(u8),
    #[error("a pasid_array of {0} entries does not fit a record")]
    Array(u32),
    #[error("a snapshot of {0} bytes does not hold {1} entries")]
    Snapshot(usize, u64),
    #[error("no hardware table is of kind {0}")]
    Table(u32),
}

/// What the C function behind a hook returns.
pub(super) enum Returns {
    Nothing,
    /// 0 or a negative errno.
    Errno,
    /// A pointer, or a negative errno as one (`ERR_PTR`).
    Pointer,
    /// The same, of a domain, which the record names beside it.
    Domain,
    /// A PASID, or `IOMMU_PASID_INVALID`.
    Pasid,
}

pub(super) fn returns(hook: Hook) -> Returns {
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
        | Hook::VtdTableAlloc
        | Hook::VtdTagAssign
        | Hook::VtdAttach
        | Hook::VtdSubmit
        | Hook::ResetPrepare
        | Hook::ResetFunction
        | Hook::ResetFlr
        | Hook::VtdDetach
        | Hook::AmdDetach
        | Hook::SmmuDetach
        | Hook::AmdClear
        | Hook::AmdQueue
        | Hook::AmdWait
        | Hook::AmdSet
        | Hook::SmmuQueue
        | Hook::PasidOn
        | Hook::AtsOn => Returns::Errno,
        Hook::SvaBind => Returns::Pointer,
        Hook::DomainAlloc => Returns::Domain,
        Hook::PasidAlloc => Returns::Pasid,
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
        | Hook::VtdTagUnassign
        | Hook::VtdTableFree
        | Hook::VtdTableLeft
        | Hook::VtdQueue
        | Hook::VtdSync
        | Hook::VtdRangeQueue
        | Hook::IoPageFault
        | Hook::VtdMmFlush
        | Hook::DevicePresent
        | Hook::SnapshotGroup
        | Hook::SnapshotIntel
        | Hook::SnapshotAmd
        | Hook::SnapshotDma
        | Hook::PasidFree
        | Hook::MmDrop
        | Hook::MmExit
        | Hook::DomainFree
        | Hook::VtdDomainFree
        | Hook::AmdDomainFree
        | Hook::ResetDone
        | Hook::PageRequest
        | Hook::PasidOff
        | Hook::AtsOff
        | Hook::AmdTableFree
        | Hook::AmdTableLeft
        | Hook::SmmuClear
        // Up to 6.13 it returned nothing.
        | Hook::SmmuRemove
        | Hook::SmmuSet
        | Hook::SmmuTableLeft => Returns::Nothing,
    }
}

/// The greatest errno that the kernel folds into a pointer (include/linux/err.h).
pub(super) const MAX_ERRNO: i64 = 4095;

/// `IOMMU_PASID_INVALID` (include/linux/iommu.h).
const INVALID_PASID: u32 = u32::MAX;

/// Decodes one record from the ring or a recording. The bytes are hostile until this has passed them.
///
/// In a box: an event is large, and a call under way keeps that of its begin.
pub fn decode(bytes: &[u8]) -> Result<Box<Event>, Malformed> {
    if snapshot::is_one(bytes) {
        snapshot::decode(bytes)
    } else if bytes.len() == size_of::<wire::Inventory>() {
        with_record(bytes, inventory)
    } else if bytes.len() == size_of::<wire::Flushing>() {
        with_record(bytes, flushing)
    } else if bytes.len() == size_of::<wire::Ranging>() {
        with_record(bytes, ranging)
    } else {
        with_record(bytes, operation)
    }
}

/// Reads the record in place, as the ring has it; from a place that is not aligned for it, out of a copy.
fn with_record<R>(
    bytes: &[u8],
    read: fn(&R) -> Result<Box<Event>, Malformed>,
) -> Result<Box<Event>, Malformed>
where
    R: FromBytes + Immutable + KnownLayout,
{
    match R::ref_from_bytes(bytes) {
        Ok(record) => read(record),
        Err(_) => read(&R::read_from_bytes(bytes).map_err(|_| Malformed::Size(bytes.len()))?),
    }
}

fn inventory(record: &wire::Inventory) -> Result<Box<Event>, Malformed> {
    let mut event = operation(&record.operation)?;
    if record.operation.header.known & known::ARRAY != 0 {
        event.array = Some(array(&record.array)?);
    }
    Ok(event)
}

fn flushing(record: &wire::Flushing) -> Result<Box<Event>, Malformed> {
    let mut event = operation(&record.operation)?;
    if record.operation.header.known & known::FLUSH != 0 {
        let mut flush = Flush::new(&record.flush);
        if record.operation.header.known & known::TOOK != 0 {
            flush.took = Some(Duration::from_micros(u64::from(record.operation.device.took_us)));
        }
        event.flush = Some(Box::new(flush));
    }
    Ok(event)
}

fn ranging(record: &wire::Ranging) -> Result<Box<Event>, Malformed> {
    let mut event = operation(&record.operation)?;
    if record.operation.header.known & known::RANGE != 0 {
        event.range = Some(Box::new(Range::new(&record.range)));
    }
    Ok(event)
}

pub(super) fn operation(record: &wire::Operation) -> Result<Box<Event>, Malformed> {
    let header = &record.header;
    let hook = Hook::from_number(header.hook).ok_or(Malformed::Hook(header.hook))?;
    let phase = Phase::from_number(header.phase).ok_or(Malformed::Phase(header.phase))?;
    let has = |bit: u32| header.known & bit != 0;
    let (ret, returned) = match (phase, returns(hook)) {
        (Phase::End, Returns::Errno) => (Some(record.ret as i32), None),
        (Phase::End, Returns::Pointer | Returns::Domain) if (-MAX_ERRNO..=0).contains(&record.ret) => {
            (Some(record.ret as i32), None)
        }
        (Phase::End, Returns::Pointer) => (Some(0), Key::new(record.ret as u64)),
        (Phase::End, Returns::Domain) => (Some(0), None),
        _ => (None, None),
    };
    let taken = match (phase, returns(hook)) {
        (Phase::End, Returns::Pasid) => Some(record.ret as u32).filter(|&pasid| pasid != INVALID_PASID),
        _ => None,
    };
    // The room first: so it is made there, and not moved.
    let event = Box::<Event>::new_uninit();
    Ok(Box::write(
        event,
        Event {
            mono_ns: header.time_ns,
            cpu: header.cpu,
            sequence: header.sequence,
            task: Task { tid: header.task.tid, tgid: header.task.tgid, comm: Comm::new(&header.task.comm) },
            stack: u32::try_from(header.stack).ok(),
            hook,
            phase,
            group: if has(known::GROUP) { group(&record.group, header.known) } else { None },
            device: if has(known::DEVICE) { device(&record.device, header.known) } else { None },
            domain: if has(known::DOMAIN) { domain(&record.domain) } else { None },
            old: if has(known::OLD) { domain(&record.old) } else { None },
            pasid: taken.or(has(known::PASID).then_some(record.pasid)),
            owner: has(known::CLAIMANT).then(|| Key::new(record.owner)).flatten(),
            bond: returned.or_else(|| has(known::HANDLE).then(|| Key::new(record.handle)).flatten()),
            mm: has(known::MM).then(|| Key::new(record.mm)).flatten(),
            ret,
            array: None,
            slot: has(known::SLOT).then(|| slot(&record.slot)),
            table: None,
            flush: None,
            tags: has(known::TAGS).then(|| Tags::new(record.tags)),
            unanswered: None,
            range: None,
            incomplete: has(known::FAULT),
        },
    ))
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
        name: Name::new(&record.name),
        max_pasids: (bits & known::MAX_PASIDS != 0).then_some(record.max_pasids),
        table: (bits & known::TABLE != 0).then(|| Key::new(record.table)),
        state: None,
    })
}

// In the place where it is to be: an event has five, and by way of the stack each would be copied three times.
#[inline(always)]
fn domain(record: &wire::Domain) -> Option<Domain> {
    let kind = if record.kind_known != 0 { DomainKind::from_type(record.kind) } else { DomainKind::Unknown };
    Some(Domain { key: Key::new(record.key)?, kind })
}

fn array(record: &wire::PasidArray) -> Result<PasidArray, Malformed> {
    let entries = record.entries.get(..record.len as usize).ok_or(Malformed::Array(record.len))?;
    let mut entries: Vec<ArrayEntry> = entries.iter().map(array_entry).collect();
    entries.sort_by_key(|entry| entry.pasid);
    Ok(PasidArray { entries, complete: record.complete != 0 })
}

pub(super) fn array_entry(record: &wire::ArrayEntry) -> ArrayEntry {
    ArrayEntry {
        pasid: record.pasid,
        encoding: Encoding::from_number(record.encoding),
        domain: domain(&record.domain),
        mm_exited: record.flags & wire::entry::MM_EXITED != 0,
    }
}

fn slot(record: &wire::ArrayEntry) -> Slot {
    match Encoding::from_number(record.encoding) {
        Encoding::Empty => Slot::Empty,
        _ => Slot::Taken(array_entry(record)),
    }
}
