//! Reading kernel objects by the offsets that userspace resolved from BTF.
//!
//! Every read goes through `bpf_probe_read_kernel`: a bad address gives an error and harms nothing.
//!
//! What is called from several places is exported (`no_mangle`, here and elsewhere): such a function the verifier goes
//! through once, for any arguments, and not again on each path that leads to a call (Documentation/bpf, "global
//! functions"). In return it takes no reference, but a pointer that may be null.

use aya_ebpf::helpers::generated::{bpf_probe_read_kernel, bpf_probe_read_kernel_str};
use monitor_ebpf::{
    table::{Memory, WINDOW},
    wire::{ABSENT, Bit, Device, Domain, Group, Layout, State, known, state},
};

/// Set by userspace before the programs are loaded.
#[unsafe(no_mangle)]
pub(super) static LAYOUT: Layout = Layout::UNKNOWN;

/// The offset of a member, or [`ABSENT`]: `layout!(group_id)`.
macro_rules! layout {
    ($($member:ident).+) => {
        $crate::probe::read::load(&$crate::probe::read::LAYOUT.$($member).+)
    };
}
pub(super) use layout;

/// A global of ours as userspace set it, which the compiler must not take for what stands in the source.
#[inline(always)]
pub fn load<T: Copy>(global: &'static T) -> T {
    // SAFETY: a static of our own, never written while programs run.
    unsafe { core::ptr::read_volatile(global) }
}

/// A member of the object at `base`; 0 if the kernel has no such member or it can't be read.
///
/// There is no branch on failure: the helper zeroes the destination itself (`bpf_probe_read_kernel_common`,
/// kernel/trace/bpf_trace.c), and each branch here doubles the paths that the verifier walks at start-up.
#[inline(always)]
pub fn member<T: Copy + Default>(base: u64, offset: u32) -> T {
    read(base, offset).0
}

/// As [`member`], with a flag that is 1 if the value was read and 0 if not.
#[inline(always)]
pub fn read<T: Copy + Default>(base: u64, offset: u32) -> (T, u32) {
    let mut out = T::default();
    if offset == ABSENT {
        return (out, 0);
    }
    let address = base.wrapping_add(u64::from(offset));
    // SAFETY: the destination is a live local of the size given; the helper checks the source.
    let status =
        unsafe { bpf_probe_read_kernel((&raw mut out).cast(), size_of::<T>() as u32, address as *const _) };
    (out, ((status as u64 >> 63) ^ 1) as u32)
}

/// Zeroes memory: in one call where a loop would be many instructions to verify. Address 0 can't be read.
#[inline(always)]
pub fn clear<T>(out: *mut T) {
    // SAFETY: the caller gives live memory of that type; what can't be read leaves zeroes.
    unsafe { bpf_probe_read_kernel(out.cast(), size_of::<T>() as u32, core::ptr::null()) };
}

/// Makes the verifier forget what it knows of numbers on the stack, by copying them onto themselves; to be called
/// at the end of each step of a loop, for what it hands to the next.
///
/// The verifier goes through a step until it comes to one that begins like another. It knows numbers on the stack
/// by value or range (an index is 0, then 1, then 2, …), so none would, for dozens of them; of what a helper wrote it
/// knows nothing.
#[inline(always)]
pub fn forget<T: Copy>(numbers: *mut T) {
    // SAFETY: the caller gives live memory of that type; source and destination are the same.
    unsafe { bpf_probe_read_kernel(numbers.cast(), size_of::<T>() as u32, numbers.cast_const().cast()) };
}

#[inline(always)]
pub fn group_of(device: u64) -> u64 {
    member(device, layout!(device_group))
}

#[inline(always)]
pub fn domain(key: u64) -> Domain {
    let (kind, kind_known) = read(key, layout!(domain_type));
    Domain { key, kind, kind_known }
}

/// Reads a group; returns the bits of [`known`] that hold.
#[unsafe(export_name = "read_group")]
#[inline(never)]
pub extern "C" fn group(out: *mut Group, key: u64) -> u32 {
    // SAFETY: the caller gives a live group of a record, or null.
    let Some(out) = (unsafe { out.as_mut() }) else { return 0 };
    let (id, readable) = read(key, layout!(group_id));
    let (count, counted) = read(key, layout!(group_owner_cnt));
    let (recovery, recovering) = read(key, layout!(group_recovery_cnt));
    *out = Group {
        key,
        owner: member(key, layout!(group_owner)),
        domain: domain(member(key, layout!(group_domain))),
        default_domain: domain(member(key, layout!(group_default_domain))),
        blocking_domain: domain(member(key, layout!(group_blocking_domain))),
        id,
        owner_cnt: count,
        recovery_cnt: recovery,
        reserved: 0,
    };
    readable * known::GROUP
        | (readable ^ 1) * known::FAULT
        | counted * known::OWNER
        | recovering * known::RECOVERY
}

/// Reads a device; returns the bits of [`known`] that hold.
#[unsafe(export_name = "read_device")]
#[inline(never)]
pub extern "C" fn device(out: *mut Device, key: u64) -> u32 {
    // SAFETY: the caller gives a live device of a record, or null.
    let Some(out) = (unsafe { out.as_mut() }) else { return 0 };
    out.key = key;
    let (name, readable) = read::<u64>(key, layout!(device_name));
    // SAFETY: the destination is a member of the live record; the helper checks the source.
    unsafe {
        bpf_probe_read_kernel_str(out.name.as_mut_ptr().cast(), out.name.len() as u32, name as *const _)
    };
    let iommu = member::<u64>(key, layout!(device_iommu));
    let (max_pasids, has_max) = read(iommu, layout!(dev_iommu_max_pasids));
    out.max_pasids = max_pasids;
    readable * known::DEVICE | (readable ^ 1) * known::FAULT | has_max * known::MAX_PASIDS
}

/// The kernel's memory, for the walks over its tables.
pub struct Kernel;

impl Memory for Kernel {
    #[inline(always)]
    fn word(&self, address: u64) -> Option<u64> {
        let (word, readable) = read(address, 0);
        (readable != 0).then_some(word)
    }

    #[inline(always)]
    fn byte(&self, address: u64) -> Option<u8> {
        let (byte, readable) = read(address, 0);
        (readable != 0).then_some(byte)
    }

    #[inline(always)]
    fn window(&self, address: u64, into: &mut [u64; WINDOW]) -> bool {
        // SAFETY: the destination is live and of the size given; the helper checks the source.
        let status = unsafe {
            bpf_probe_read_kernel(
                into.as_mut_ptr().cast(),
                size_of::<[u64; WINDOW]>() as u32,
                address as *const _,
            )
        };
        status == 0
    }
}

/// `bus_type::name` of PCI.
const PCI: u32 = u32::from_le_bytes(*b"pci\0");

/// Reads what a snapshot reads of a device beside its tables; `member` is its `struct group_device`, or 0. Returns the
/// bits of [`known`] that hold.
#[unsafe(export_name = "read_state")]
#[inline(never)]
pub extern "C" fn state(out: *mut State, key: u64, member_of_group: u64) -> u32 {
    // SAFETY: the caller gives a live state of a record, or null.
    let Some(out) = (unsafe { out.as_mut() }) else { return 0 };
    let iommu = member::<u64>(key, layout!(device_iommu));
    let (driver, readable) = read::<u64>(key, layout!(device_driver));
    out.iommu = member(iommu, layout!(dev_iommu_instance));
    out.known = readable * state::BOUND;
    out.set = u32::from(driver != 0) * state::BOUND;
    flag(out, iommu, layout!(dev_iommu_deferred), state::DEFERRED, 1);
    flag(out, member_of_group, layout!(member_blocked), state::BLOCKED, 1);
    // Only a PCI device has a `struct pci_dev` around it.
    let bus = member::<u64>(key, layout!(device_bus));
    let name = member::<u32>(member(bus, layout!(bus_name)), 0);
    let pci = u32::from(name == PCI);
    flag(out, key, layout!(pci_ats), state::ATS, pci);
    flag(out, key, layout!(pci_pri), state::PRI, pci);
    flag(out, key, layout!(pci_pasid), state::PASID, pci);
    known::STATE
}

/// A flag of the object at `base`; 0 if the kernel has no such flag or it can't be read.
#[inline(always)]
pub fn bit(base: u64, at: Bit) -> u32 {
    u32::from(member::<u8>(base, at.offset)) >> (at.shift & 7) & 1
}

/// Reads one flag, believed only if `valid` is 1.
#[inline(always)]
fn flag(out: &mut State, base: u64, at: Bit, bit: u32, valid: u32) {
    let (byte, readable) = read::<u8>(base, at.offset);
    out.known |= bit * (readable & valid);
    out.set |= bit * (u32::from(byte) >> (at.shift & 7) & 1);
}
