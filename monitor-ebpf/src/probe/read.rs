//! Reading kernel objects by the offsets that userspace resolved from BTF.
//!
//! Every read goes through `bpf_probe_read_kernel`: a bad address gives an error and harms nothing.

use aya_ebpf::helpers::generated::{bpf_probe_read_kernel, bpf_probe_read_kernel_str};
use monitor_ebpf::wire::{ABSENT, Device, Domain, Group, Layout, known};

/// Set by userspace before the programs are loaded.
#[unsafe(no_mangle)]
pub(super) static LAYOUT: Layout = Layout::UNKNOWN;

/// The offset of a member, or [`ABSENT`]: `layout!(group_id)`.
macro_rules! layout {
    ($member:ident) => {
        $crate::probe::read::load(&$crate::probe::read::LAYOUT.$member)
    };
}
pub(super) use layout;

/// A global of ours as userspace set it, which the compiler must not take for what stands in the source.
#[inline(always)]
pub fn load<T: Copy>(global: &'static T) -> T {
    // SAFETY: a static of our own, never written while programs run.
    unsafe { core::ptr::read_volatile(global) }
}

/// A plain value of kernel memory.
#[inline(always)]
pub fn value<T: Copy + Default>(address: u64) -> Option<T> {
    let mut out = T::default();
    // SAFETY: the destination is a live local of the size given; the helper checks the source.
    let failed = unsafe { bpf_probe_read_kernel((&raw mut out).cast(), size_of::<T>() as u32, address as *const _) };
    (failed == 0).then_some(out)
}

/// A member of the object at `base`; `None` if the kernel has no such member or it can't be read.
#[inline(always)]
pub fn member<T: Copy + Default>(base: u64, offset: u32) -> Option<T> {
    if base == 0 || offset == ABSENT {
        return None;
    }
    value(base.wrapping_add(u64::from(offset)))
}

#[inline(always)]
pub fn group_of(device: u64) -> u64 {
    member(device, layout!(device_group)).unwrap_or(0)
}

#[inline(never)]
pub fn domain(out: &mut Domain, key: u64) {
    let kind = member::<u32>(key, layout!(domain_type));
    *out = Domain { key, kind: kind.unwrap_or(0), kind_known: u32::from(kind.is_some()) };
}

/// Reads a group; returns the bits of [`known`] that hold.
#[inline(never)]
pub fn group(out: &mut Group, key: u64) -> u32 {
    out.key = key;
    let Some(id) = member::<u32>(key, layout!(group_id)) else { return known::FAULT };
    out.id = id;
    let mut bits = known::GROUP;
    if let Some(count) = member::<u32>(key, layout!(group_owner_cnt))
        && let Some(owner) = member::<u64>(key, layout!(group_owner))
    {
        out.owner_cnt = count;
        out.owner = owner;
        bits |= known::OWNER;
    }
    if let Some(count) = member::<u32>(key, layout!(group_recovery_cnt)) {
        out.recovery_cnt = count;
        bits |= known::RECOVERY;
    }
    domain(&mut out.domain, member(key, layout!(group_domain)).unwrap_or(0));
    domain(&mut out.default_domain, member(key, layout!(group_default_domain)).unwrap_or(0));
    domain(&mut out.blocking_domain, member(key, layout!(group_blocking_domain)).unwrap_or(0));
    bits
}

/// Reads a device; returns the bits of [`known`] that hold.
#[inline(never)]
pub fn device(out: &mut Device, key: u64) -> u32 {
    out.key = key;
    let name = member::<u64>(key, layout!(device_name)).unwrap_or(0);
    // SAFETY: the destination is a member of the live record; the helper checks the source.
    let len = unsafe {
        bpf_probe_read_kernel_str(out.name.as_mut_ptr().cast(), out.name.len() as u32, name as *const _)
    };
    if len < 0 {
        return known::FAULT;
    }
    let mut bits = known::DEVICE;
    let iommu = member::<u64>(key, layout!(device_iommu)).unwrap_or(0);
    if let Some(max_pasids) = member::<u32>(iommu, layout!(dev_iommu_max_pasids)) {
        out.max_pasids = max_pasids;
        bits |= known::MAX_PASIDS;
    }
    bits
}

/// Reads the root of a VT-d device's PASID table. Only for hooks in the VT-d driver: the private data
/// of another driver has another shape.
#[inline(never)]
pub fn vtd_table(out: &mut Device, key: u64) -> u32 {
    let iommu = member::<u64>(key, layout!(device_iommu)).unwrap_or(0);
    let info = member::<u64>(iommu, layout!(dev_iommu_priv)).unwrap_or(0);
    let Some(table) = member::<u64>(info, layout!(vtd_info_table)) else { return 0 };
    if table == 0 {
        out.table = 0;
        return known::TABLE;
    }
    match member::<u64>(table, layout!(vtd_table_directory)) {
        Some(directory) => {
            out.table = directory;
            known::TABLE
        }
        None => known::FAULT,
    }
}
