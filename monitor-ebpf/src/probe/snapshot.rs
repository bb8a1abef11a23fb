//! The kernel's own state of a group, read with its mutex held.
//!
//! When userspace reads a group's `reserved_regions`, the core takes `group->mutex` and asks the
//! driver of each member in turn (`iommu_get_group_resv_regions`, drivers/iommu/iommu.c): there
//! nothing of the group can change, and there a member is read with all that it has. Not every driver is known;
//! so the members are also read on the core's entry and return, where the mutex isn't held: what stands at
//! both ends was there. Only our own reads are of interest.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{BPF_NOEXIST, bpf_pidns_info},
    helpers::generated::{bpf_get_ns_current_pid_tgid, bpf_loop},
    macros::map,
    maps::{Array, HashMap},
};
use monitor_ebpf::wire::{
    ABSENT, ArrayEntry, Hook, LossKind, Part, Phase, Process, SNAPSHOT_CAPACITY, SnapshotHead, Subject, known,
};

use super::{
    array,
    call::{self, Access, program},
    emit, loss,
    read::{self, layout, member},
    tables::{self, Scratch, Vendor},
    tags, unanswered,
};

/// The process whose reads are of interest: the one that watches now. It may have taken these programs over from another.
#[map]
static OWNER: Array<Process> = Array::with_max_entries(1, 0);

/// Where a snapshot is made. One for all CPUs: our process asks for one group after the other.
#[map]
static SCRATCH: Array<Scratch> = Array::with_max_entries(1, 0);

/// Holds an entry while the scratch is in use: should two of our threads ever ask at once, one gets no answer.
#[map]
static BUSY: HashMap<u32, u32> = HashMap::with_max_entries(1, 0);

/// Members of a group that are looked at.
const MEMBERS: u32 = 4096;

/// Whether the task is of our process.
#[inline(always)]
fn ours() -> bool {
    let Some(own) = OWNER.get(0) else { return false };
    let mut current = bpf_pidns_info { pid: 0, tgid: 0 };
    // SAFETY: the destination is a live local of the size given. It fails for a task of another namespace.
    let failed = unsafe {
        bpf_get_ns_current_pid_tgid(
            own.namespace_device,
            own.namespace_inode,
            &raw mut current,
            size_of::<bpf_pidns_info>() as u32,
        )
    };
    failed == 0 && u64::from(current.tgid) == own.tgid
}

/// The program on the driver's function: one member, under the mutex.
#[inline(always)]
fn look(context: *mut c_void, access: Access, hook: Hook, vendor: Vendor) {
    if !ours() {
        return;
    }
    let Subject { group, device, .. } = call::subject(context, access, hook);
    let Some(scratch) = begin(hook, Phase::Point, group) else { return };
    read_member(scratch, device, find(group, device));
    read_array(scratch);
    read_requests(scratch, device);
    // SAFETY: `begin` gave it.
    unsafe { tables::read(scratch, vendor, device) };
    if vendor == Vendor::Vtd {
        read_tags(scratch, device);
    }
    send(scratch);
    end();
}

/// The program on the core's function: every member, then the group.
#[inline(always)]
fn survey(hook: Hook, phase: Phase, group: u64) {
    let Some(scratch) = begin(hook, phase, group) else { return };
    read_members(scratch);
    read_member(scratch, 0, 0);
    // SAFETY: `begin` gave it.
    let scratch = unsafe { &mut *scratch };
    scratch.record.head.members = scratch.members;
    scratch.record.head.operation.header.known |= known::MEMBERS;
    read_array(scratch);
    send(scratch);
    end();
}

#[inline(always)]
fn enter(context: *mut c_void, access: Access, hook: Hook) {
    if ours() {
        let Subject { group, .. } = call::subject(context, access, hook);
        survey(hook, Phase::Begin, group);
        call::remember(hook, &Subject { group, ..Subject::default() });
    }
}

#[inline(always)]
fn leave(hook: Hook) {
    // Only ours is remembered.
    if let Some(subject) = call::recall(hook) {
        survey(hook, Phase::End, subject.group);
    }
}

/// Takes the scratch for a snapshot of a group; [`end`] gives it back. Not by a closure, which would keep from the
/// verifier what is a constant in its program: whose driver it is.
#[inline(always)]
fn begin(hook: Hook, phase: Phase, group: u64) -> Option<*mut Scratch> {
    let scratch = SCRATCH.get_ptr_mut(0)?;
    if BUSY.insert(0, 0, u64::from(BPF_NOEXIST)).is_err() {
        loss::count(group, LossKind::Record);
        return None;
    }
    // SAFETY: a live value of the map, and nobody else has it now.
    unsafe { tables::set_out(scratch, hook, phase, group) };
    Some(scratch)
}

#[inline(always)]
fn end() {
    let _ = BUSY.remove(0);
}

/// Begins a record: the group, a member of it (0: none), and what that has. `place` is its `struct
/// group_device`, or 0.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn read_member(scratch: *mut Scratch, device: u64, place: u64) -> u32 {
    // SAFETY: `begin` gave it; null is never passed.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return 0 };
    let record = &mut scratch.record;
    read::clear(&raw mut record.head);
    emit::head(&mut record.head.operation, scratch.hook, scratch.phase, scratch.group, device);
    record.head.operation.header.time_ns = scratch.began_ns;
    if device != 0 {
        record.head.operation.header.known |= read::state(&raw mut record.head.state, device, place);
    }
    0
}

/// Adds the group's `pasid_array`.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn read_array(scratch: *mut Scratch) -> u32 {
    if layout!(group_pasid_head) == ABSENT || scratch.is_null() {
        return 0;
    }
    // SAFETY: `begin` gave it.
    unsafe {
        let (head, readable) = read::read((*scratch).group, layout!(group_pasid_head));
        let record = &raw mut (*scratch).record;
        let complete = array::walk(record, head);
        (*record).head.array.complete = complete & readable;
        (*record).head.operation.header.known |= known::ARRAY;
    }
    0
}

/// Adds the cache tags that the RID of a device of VT-d's has in the group's domain.
#[inline(always)]
fn read_tags(scratch: *mut Scratch, device: u64) {
    // SAFETY: `begin` gave it; null is never passed.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return };
    let operation = &mut scratch.record.head.operation;
    operation.tags = tags::read(operation.group.domain.key, device, 0);
    operation.header.known |= known::TAGS;
}

/// Adds the PASID of a page request that waits though its PASID is not attached, if there is one.
#[inline(always)]
fn read_requests(scratch: *mut Scratch, device: u64) {
    // SAFETY: `begin` gave it; null is never passed.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return };
    let found = unanswered::find(scratch.group, device);
    let operation = &mut scratch.record.head.operation;
    operation.pasid = found as u32;
    operation.header.known |= known::REQUESTS * (found / unanswered::READ) as u32;
}

/// Sends as much of the record as is filled.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn send(scratch: *mut Scratch) -> u32 {
    // SAFETY: `begin` gave it; null is never passed.
    let Some(scratch) = (unsafe { scratch.as_ref() }) else { return 0 };
    let record = &scratch.record;
    let entries = u64::from(record.head.array.len) + u64::from(record.head.table.len);
    let entries = entries.min(SNAPSHOT_CAPACITY as u64);
    let size = size_of::<SnapshotHead>() as u64 + entries * size_of::<ArrayEntry>() as u64;
    emit::output((&raw const *record).cast(), size, scratch.group);
    0
}

/// A walk over `iommu_group::devices`.
struct Members {
    scratch: *mut Scratch,
    /// The list's head.
    head: u64,
    /// Look for this one only.
    wanted: u64,
    place: Place,
}

/// How far it is.
#[derive(Clone, Copy)]
struct Place {
    /// The link being looked at.
    at: u64,
    /// Where the one that was looked for was found.
    found: u64,
    len: u32,
    complete: u32,
}

/// Sends a record for each member, and keeps how many there are.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn read_members(scratch: *mut Scratch) -> u32 {
    // SAFETY: `begin` gave it; null is never passed.
    let Some(group) = (unsafe { scratch.as_ref() }).map(|scratch| scratch.group) else { return 0 };
    let mut list = Members::of(scratch, group, 0);
    // SAFETY: `each` matches the callback's prototype, `list` outlives the call, and the scratch is there.
    unsafe {
        bpf_loop(MEMBERS, each as *const () as *mut c_void, (&raw mut list).cast(), 0);
        (*scratch).members = Part { len: list.place.len, complete: list.place.complete };
    }
    0
}

/// The `struct group_device` of a member, where something of it is of interest; else 0.
#[inline(never)]
fn find(group: u64, device: u64) -> u64 {
    if layout!(member_blocked).offset == ABSENT {
        return 0;
    }
    let mut list = Members::of(core::ptr::null_mut(), group, device);
    // SAFETY: `search` matches the callback's prototype and `list` outlives the call.
    unsafe { bpf_loop(MEMBERS, search as *const () as *mut c_void, (&raw mut list).cast(), 0) };
    list.place.found
}

impl Members {
    #[inline(always)]
    fn of(scratch: *mut Scratch, group: u64, wanted: u64) -> Members {
        let head = group.wrapping_add(u64::from(layout!(group_devices)));
        let place = Place { at: member(head, layout!(list_next)), found: 0, len: 0, complete: 0 };
        let mut list = Members { scratch, head, wanted, place };
        read::forget(&raw mut list.place);
        list
    }

    /// The next member and its `struct group_device`; `None` at the end.
    #[inline(always)]
    fn next(&mut self) -> Option<(u64, u64)> {
        let at = self.place.at;
        if at == self.head || at == 0 {
            self.place.complete = u32::from(at != 0);
            return None;
        }
        let place = at.wrapping_sub(u64::from(layout!(member_list)));
        self.place.at = member(at, layout!(list_next));
        Some((member(place, layout!(member_device)), place))
    }
}

unsafe extern "C" fn each(_iteration: u32, context: *mut c_void) -> i64 {
    // SAFETY: bpf_loop passes the `Members` that `read_members` gave it.
    let list = unsafe { &mut *context.cast::<Members>() };
    let Some((device, place)) = list.next() else { return 1 };
    // SAFETY: `read_members` put it there.
    let group = unsafe { (*list.scratch).group };
    // Without the mutex a link can lead astray: a member points back to its group.
    if read::group_of(device) != group {
        return 1;
    }
    list.place.len += 1;
    read_member(list.scratch, device, place);
    send(list.scratch);
    read::forget(&raw mut list.place);
    0
}

unsafe extern "C" fn search(_iteration: u32, context: *mut c_void) -> i64 {
    // SAFETY: bpf_loop passes the `Members` that `find` gave it.
    let list = unsafe { &mut *context.cast::<Members>() };
    let Some((device, place)) = list.next() else { return 1 };
    if device == list.wanted {
        list.place.found = place;
        return 1;
    }
    read::forget(&raw mut list.place);
    0
}

macro_rules! look {
    ($hook:ident, $name:literal, $vendor:expr) => {
        const _: () = assert!(call::is_name_of(Hook::$hook, $name));
        program!("fentry", $name, context => look(context, Access::Trampoline, Hook::$hook, $vendor));
        program!("kprobe", $name, context => look(context, Access::Registers, Hook::$hook, $vendor));
    };
}

look!(SnapshotIntel, "snapshot_intel", Vendor::Vtd);
look!(SnapshotAmd, "snapshot_amd", Vendor::Amd);
look!(SnapshotDma, "snapshot_dma", Vendor::PerhapsSmmu);

const _: () = assert!(call::is_name_of(Hook::SnapshotGroup, "snapshot_group"));
program!("fentry", "snapshot_group", context => enter(context, Access::Trampoline, Hook::SnapshotGroup));
program!("fexit", "snapshot_group", _context => leave(Hook::SnapshotGroup));
program!("kprobe", "snapshot_group", context => enter(context, Access::Registers, Hook::SnapshotGroup));
program!("kretprobe", "snapshot_group", _context => leave(Hook::SnapshotGroup));
