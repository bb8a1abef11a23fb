//! The hardware PASID tables of three vendors: where a device's hangs, and the entries that are present in it.
//!
//! A driver's private data has the shape of that driver's only, so each is read in a function of that driver;
//! SMMUv3's, which has none of a name of its own, after a proof that the device is its own.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_ktime_get_ns, bpf_loop};
use monitor_ebpf::{
    table::{self, STEPS, Shape, Step, smmuv3, vtd},
    wire::{
        ABSENT, Device, Hook, Part, Phase, SNAPSHOT_CAPACITY, Snapshot, Symbols, TableEntry, TableKind,
        Variable, known,
    },
};

use super::read::{self, Kernel, layout, member};

/// Set by userspace before the programs are loaded.
#[unsafe(no_mangle)]
static SYMBOLS: Symbols = Symbols::UNKNOWN;

/// Whose function the program is on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Vendor {
    Vtd,
    Amd,
    /// `iommu_dma_get_resv_regions`: SMMUv3's driver calls it, and others do.
    PerhapsSmmu,
}

/// What a snapshot is made in: too large for a stack.
#[repr(C)]
pub struct Scratch {
    pub record: Snapshot,
    /// What the snapshot is of, and by which hook.
    pub group: u64,
    pub hook: u32,
    pub phase: u32,
    /// When its making began. What it shows was read later: whatever ended before then is in it.
    pub began_ns: u64,
    /// What was found of the group's members.
    pub members: Part,
    walk: table::Walk,
}

/// Says what a snapshot is of, and by which hook.
///
/// # Safety
/// As for [`read`].
#[inline(always)]
pub unsafe fn set_out(scratch: *mut Scratch, hook: Hook, phase: Phase, group: u64) {
    // SAFETY: as the caller promises.
    unsafe {
        (*scratch).group = group;
        (*scratch).hook = hook as u32;
        (*scratch).phase = phase as u32;
        (*scratch).began_ns = bpf_ktime_get_ns();
    }
}

/// Reads a device's table into the record, as far as the driver's function vouches for it.
///
/// # Safety
/// `scratch` is a live value of a map that nobody else writes.
#[inline(always)]
pub unsafe fn read(scratch: *mut Scratch, vendor: Vendor, device: u64) {
    // SAFETY: as the caller promises.
    let scratch = unsafe { &mut *scratch };
    let bits = match vendor {
        Vendor::Vtd => vtd(scratch, device),
        Vendor::Amd => amd(scratch, device),
        Vendor::PerhapsSmmu => smmu(scratch, device),
    };
    scratch.record.head.operation.header.known |= bits;
}

/// Whether an entry of the table that was read is of a PASID proper: entry 0 is the RID's.
///
/// # Safety
/// As for [`read`].
#[inline(always)]
pub unsafe fn has_pasids(scratch: *const Scratch) -> bool {
    // SAFETY: as the caller promises; an entry of either kind is of one size.
    unsafe {
        let first = (&raw const (*scratch).record.entries).cast::<TableEntry>();
        let len = (*scratch).record.head.table.len;
        len > 1 || len == 1 && (*first).pasid != 0
    }
}

/// Reads the root of a VT-d device's PASID table. Only for hooks in the VT-d driver.
#[unsafe(export_name = "read_vtd_root")]
#[inline(never)]
pub extern "C" fn vtd_root(out: *mut Device, key: u64) -> u32 {
    // SAFETY: the caller gives a live device of a record, or null.
    if let Some(out) = unsafe { out.as_mut() } { vtd_table(out, key).1 } else { 0 }
}

/// `struct pasid_table` of a VT-d device, and [`known::TABLE`] if its root is known.
#[inline(always)]
fn vtd_table(out: &mut Device, key: u64) -> (u64, u32) {
    let (table, readable) = read::read(private(key), layout!(vtd_info_table));
    let (directory, there) = read::read(table, layout!(vtd_table_directory));
    // Without a table there is no directory to read, and 0 stands for that.
    out.table = directory;
    (table, known::TABLE * (readable & (there | u32::from(table == 0))))
}

#[inline(never)]
fn vtd(scratch: &mut Scratch, device: u64) -> u32 {
    let (table, bits) = vtd_table(&mut scratch.record.head.operation.device, device);
    let root = scratch.record.head.operation.device.table;
    let (max, sized) = read::read::<u32>(table, layout!(vtd_table_max));
    let page_offset = page_offset();
    if root == 0 || sized == 0 || page_offset == 0 {
        return bits;
    }
    walk(scratch, TableKind::Vtd, false, &vtd::shape(max, page_offset), root);
    bits | known::ENTRIES
}

#[inline(never)]
fn amd(scratch: &mut Scratch, device: u64) -> u32 {
    if layout!(amd.table) == ABSENT {
        return 0;
    }
    let at = layout!(amd);
    let per_domain = at.domain != ABSENT;
    let data = private(device);
    let holder = if per_domain { member(data, at.domain) } else { data };
    let (root, readable) = read::read(holder, at.table);
    let (levels, counted) = read::read::<u32>(holder, at.levels);
    let (id, tagged) = read::read::<u16>(holder, at.id);
    let bits = keep_root(scratch, per_domain, root, readable);
    let page_offset = page_offset();
    if root == 0 || counted & tagged == 0 || page_offset == 0 {
        return bits;
    }
    let Some(shape) = table::amd::shape(levels, id, page_offset, encrypted()) else {
        return bits;
    };
    walk(scratch, TableKind::Amd, per_domain, &shape, root);
    bits | known::ENTRIES
}

/// What SMMUv3 calls its instances in sysfs (`iommu_device_sysfs_add`, arm-smmu-v3.c: `smmu3.%pa`).
const SMMU_NAME: u64 = u64::from_le_bytes(*b"smmu3.\0\0");
const SMMU_NAME_MASK: u64 = (1 << 48) - 1;
/// `STRTAB_STE_0_S1FMT_LINEAR`.
const LINEAR: u8 = 0;
/// `ARM_SMMU_DOMAIN_S1`.
const STAGE_1: u32 = 0;

#[inline(never)]
fn smmu(scratch: &mut Scratch, device: u64) -> u32 {
    // By themselves, so that a verifier sees that without them nothing of what follows is run.
    if layout!(smmu.config) == ABSENT || layout!(smmu.list_width) == ABSENT {
        return 0;
    }
    let at = layout!(smmu);
    let master = private(device);
    if !is_smmu(device, master) {
        return 0;
    }
    let per_domain = at.master_domain != ABSENT;
    let holder = if per_domain { member(master, at.master_domain) } else { master };
    if per_domain && (holder == 0 || member::<u32>(holder, at.domain_stage) != STAGE_1) {
        return 0;
    }
    let config = holder.wrapping_add(u64::from(at.config));
    let (root, readable) = read::read(config, at.root);
    let (format, formed) = read::read::<u8>(config, at.format);
    let (list, listed) = read::read(config, at.list);
    let bits = keep_root(scratch, per_domain, root, readable);
    let (len, sized) = read::read(config, if format == LINEAR { at.linear_len } else { at.list_len });
    if root == 0 || formed & listed & sized == 0 {
        return bits;
    }
    let (shape, from) = if format == LINEAR {
        (smmuv3::linear(len), root)
    } else {
        (smmuv3::two_level(len, at.list_width as u8, at.list_pointer as u8), list)
    };
    walk(scratch, TableKind::SmmuV3, per_domain, &shape, from);
    bits | known::ENTRIES
}

/// Whether a device is SMMUv3's and `master` its `struct arm_smmu_master`. Its instance bears the name that only
/// this driver gives, and `master` points back at the device, and at the very SMMU whose instance it is.
#[inline(always)]
fn is_smmu(device: u64, master: u64) -> bool {
    let at = layout!(smmu);
    let instance = member::<u64>(member(device, layout!(device_iommu)), layout!(dev_iommu_instance));
    let named = member::<u64>(instance, layout!(instance_device));
    let name = member::<u64>(member(named, layout!(device_name)), 0);
    let smmu = member::<u64>(master, at.master_smmu);
    name & SMMU_NAME_MASK == SMMU_NAME
        && instance != 0
        && smmu.wrapping_add(u64::from(at.smmu_instance)) == instance
        && member::<u64>(master, at.master_device) == device
}

/// Takes down the root of a table that is the device's own. One that hangs off a domain is not: by its root
/// nobody can tell whether a device shares what it should not.
#[inline(always)]
fn keep_root(scratch: &mut Scratch, per_domain: bool, root: u64, readable: u32) -> u32 {
    if per_domain {
        return 0;
    }
    scratch.record.head.operation.device.table = root;
    readable * known::TABLE
}

struct Visit {
    scratch: *mut Scratch,
    done: u32,
}

/// Walks a table and puts its entries behind those of the array.
#[inline(always)]
fn walk(scratch: &mut Scratch, kind: TableKind, per_domain: bool, shape: &Shape, from: u64) {
    scratch.walk.start(shape, from);
    scratch.record.head.table_kind = kind as u32;
    scratch.record.head.table_per_domain = u32::from(per_domain);
    let mut visit = Visit { scratch, done: 0 };
    // SAFETY: `step` matches the callback's prototype and `visit` outlives the call.
    unsafe { bpf_loop(STEPS, step as *const () as *mut c_void, (&raw mut visit).cast(), 0) };
    // SAFETY: it is what was passed in, and the loop is over.
    let scratch = unsafe { &mut *visit.scratch };
    scratch.record.head.table.complete = visit.done & u32::from(scratch.walk.sound());
}

/// One step of the walk. Returns 1 to end the loop.
unsafe extern "C" fn step(_iteration: u32, context: *mut c_void) -> i64 {
    // SAFETY: bpf_loop passes the `Visit` that `walk` gave it, whose `scratch` is live and ours.
    let (visit, scratch) = unsafe {
        let visit = &mut *context.cast::<Visit>();
        (&mut *context.cast::<Visit>(), &mut *visit.scratch)
    };
    let found = match scratch.walk.step(&Kernel) {
        Step::Next => return 0,
        Step::Found(found) => found,
        Step::Done => {
            visit.done = 1;
            return 1;
        }
    };
    let head = &mut scratch.record.head;
    let at = head.array.len.wrapping_add(head.table.len) as usize;
    if at >= SNAPSHOT_CAPACITY {
        return 1;
    }
    let entry = TableEntry { pasid: found.pasid, kind: found.kind, tag: found.tag, reserved: [0; 3] };
    head.table.len += 1;
    // SAFETY: the index was just held against the capacity, and an entry of either kind is of one size.
    unsafe { (&raw mut scratch.record.entries).cast::<TableEntry>().add(at).write(entry) };
    0
}

/// The driver's own data of a device.
#[inline(always)]
pub fn private(key: u64) -> u64 {
    member(member(key, layout!(device_iommu)), layout!(dev_iommu_priv))
}

/// Where physical memory is mapped; 0 where that isn't known.
#[inline(always)]
pub fn page_offset() -> u64 {
    variable(read::load(&SYMBOLS.page_offset_base))
}

/// The mark of encrypted memory in a physical address.
#[inline(always)]
pub fn encrypted() -> u64 {
    variable(read::load(&SYMBOLS.sme_me_mask))
}

/// The value of a variable of the kernel; 0 where it isn't known.
#[inline(always)]
fn variable(of: Variable) -> u64 {
    if of.address == 0 { of.value } else { member(of.address, 0) }
}
