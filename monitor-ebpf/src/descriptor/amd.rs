//! AMD's command buffer (IOMMU specification 2.4; drivers/iommu/amd/iommu.c, `build_*`).

use super::{Entry, Scope, cache, pack};

const INVALIDATE_DEVICE_ENTRY: u64 = 2;
const INVALIDATE_PAGES: u64 = 3;
const INVALIDATE_IOTLB_PAGES: u64 = 4;
const INVALIDATE_ALL: u64 = 8;

const SCOPES: u64 = {
    let mut scopes = [Scope::Other; 16];
    scopes[INVALIDATE_DEVICE_ENTRY as usize] = Scope::Context;
    scopes[INVALIDATE_PAGES as usize] = Scope::Iotlb;
    scopes[INVALIDATE_IOTLB_PAGES as usize] = Scope::DeviceTlb;
    scopes[INVALIDATE_ALL as usize] = Scope::Iotlb;
    pack(scopes)
};

/// `CMD_INV_IOMMU_PAGES_SIZE_MASK`, `_GN_MASK`, in the third word of 32 bits.
const SIZE: u64 = 1;
const GUEST: u64 = 4;

/// What a command is counted as, by its first 64 bits: an index below 8.
#[inline(always)]
pub fn scope(low: u64) -> u64 {
    SCOPES >> ((low >> 60) << 2) & 7
}

/// The caches that a command drops an entry from as a whole. There is no PASID cache: entries of the guest CR3 table
/// are dropped with the translations.
#[inline(always)]
pub fn drops(low: u64, high: u64, entry: &Entry) -> u32 {
    let whole = high & SIZE != 0 && is_whole(high);
    let guest = high & GUEST != 0;
    match low >> 60 {
        INVALIDATE_ALL => cache::IOTLB,
        INVALIDATE_PAGES => {
            let domain = (low >> 32) as u32 & 0xffff == entry.tag;
            // Without GN it is of the host's translations.
            let pasid = low as u32 & 0xf_ffff == entry.pasid;
            cache::IOTLB * u32::from(whole && domain && guest && pasid)
        }
        INVALIDATE_IOTLB_PAGES => {
            let source = low as u32 & 0xffff == entry.source;
            let pasid = (low >> 16 & 0xff) << 8 | low >> 48 & 0xff;
            let same = if guest { pasid as u32 == entry.pasid & 0xffff } else { entry.pasid == 0 };
            cache::DEVICE_TLB * u32::from(whole && source && same)
        }
        _ => 0,
    }
}

/// `CMD_INV_IOMMU_ALL_PAGES_ADDRESS`: all bits of the address, but for the highest.
#[inline(always)]
fn is_whole(high: u64) -> bool {
    let ones = 0x00ff_ffff_ffff_f000;
    high & ones == ones
}
