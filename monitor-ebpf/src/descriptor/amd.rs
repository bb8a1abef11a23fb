//! AMD's command buffer (IOMMU specification 2.4; drivers/iommu/amd/iommu.c, `build_*`).

use super::{Entry, Scope, cache, pack};

const COMPLETION_WAIT: u64 = 1;
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

/// Where a command's first 64 bits have its opcode (`CMD_SET_TYPE`).
pub const OPCODE_AT: u32 = 60;

/// What a command is counted by: its opcode, below 16.
#[inline(always)]
pub fn index(low: u64) -> u64 {
    low >> OPCODE_AT
}

/// What a command drops, as the number of a [`Scope`].
#[inline(always)]
pub fn scope(low: u64) -> u64 {
    SCOPES >> (index(low) << 2) & 7
}

/// The command by which the driver learns that those before it are done (`build_completion_wait`).
#[inline(always)]
pub fn is_wait(low: u64) -> bool {
    index(low) == COMPLETION_WAIT
}

/// The caches that a command drops an entry from as a whole. There is no PASID cache: entries of the guest CR3 table
/// are dropped with the translations.
#[inline(always)]
pub fn drops(low: u64, high: u64, entry: &Entry) -> u32 {
    let whole = high & SIZE != 0 && is_whole(high);
    let guest = high & GUEST != 0;
    match index(low) {
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

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: Entry = Entry { kind: 0, tag: 0x12, pasid: 0x4321, source: 0x0100 };
    const RID: Entry = Entry { pasid: 0, ..ENTRY };
    /// `CMD_INV_IOMMU_ALL_PAGES_ADDRESS`, with S, PDE and, where it is a PASID's, GN.
    const ALL: u64 = 0x7fff_ffff_ffff_f000 | 1 | 2;
    const ALL_OF_PASID: u64 = ALL | GUEST;

    /// `build_inv_iommu_pages(&cmd, address, size, domid, pasid, gn)`: `data[0] |= pasid`, `data[1] |= domid`.
    fn pages(domain: u64, pasid: u64) -> u64 {
        3 << 60 | domain << 32 | pasid
    }

    /// `build_inv_iotlb_pages(&cmd, devid, qdep, address, size, pasid, gn)`: the PASID's second byte stands in
    /// `data[0]` at 16, its first in `data[1]` at 16.
    fn device(devid: u64, pasid: u64) -> u64 {
        4 << 60 | (pasid & 0xff) << 48 | 16 << 32 | 16 << 24 | (pasid >> 8 & 0xff) << 16 | devid
    }

    #[test]
    fn every_command_has_its_scope() {
        let scopes = [
            (1, Scope::Other),
            (2, Scope::Context),
            (3, Scope::Iotlb),
            (4, Scope::DeviceTlb),
            (5, Scope::Other),
            (7, Scope::Other),
            (8, Scope::Iotlb),
        ];
        for (command, expected) in scopes {
            assert_eq!(scope(command << 60 | 0x0fff_ffff_ffff_ffff), expected as u64, "command {command}");
        }
    }

    #[test]
    fn pages_are_dropped_by_domain_and_pasid() {
        assert_eq!(drops(pages(0x12, 0x4321), ALL_OF_PASID, &ENTRY), cache::IOTLB);
        assert_eq!(drops(pages(0x12, 0x4322), ALL_OF_PASID, &ENTRY), 0);
        assert_eq!(drops(pages(0x13, 0x4321), ALL_OF_PASID, &ENTRY), 0);
        assert_eq!(drops(pages(0x12, 0x4321), ALL, &ENTRY), 0, "the host's translations");
        assert_eq!(drops(pages(0x12, 0x4321), 0x1000 | GUEST, &ENTRY), 0, "a page");
        assert_eq!(drops(pages(0x12, 0x4321), 0x1f_f000 | SIZE | GUEST, &ENTRY), 0, "2 MiB");
        assert_eq!(drops(8 << 60, 0, &ENTRY), cache::IOTLB);
    }

    #[test]
    fn a_device_is_told_its_pasid_in_two_bytes() {
        assert_eq!(drops(device(0x0100, 0x4321), ALL_OF_PASID, &ENTRY), cache::DEVICE_TLB);
        assert_eq!(drops(device(0x0100, 0x4320), ALL_OF_PASID, &ENTRY), 0);
        assert_eq!(drops(device(0x0100, 0x4221), ALL_OF_PASID, &ENTRY), 0);
        assert_eq!(drops(device(0x0108, 0x4321), ALL_OF_PASID, &ENTRY), 0);
        assert_eq!(drops(device(0x0100, 0), ALL, &RID), cache::DEVICE_TLB);
        assert_eq!(drops(device(0x0100, 0), ALL, &ENTRY), 0, "without a PASID");
    }
}
