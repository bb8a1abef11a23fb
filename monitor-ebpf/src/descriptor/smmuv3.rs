//! SMMUv3's command queue (Arm IHI 0070, chapter 4; `CMDQ_OP_*`, drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3.h).

use super::{Entry, Scope, cache};

const CONFIG_STREAM: u64 = 0x03;
const CONFIG_ALL: u64 = 0x04;
const CONFIG_CD: u64 = 0x05;
const CONFIG_CD_ALL: u64 = 0x06;
const TLBI_FIRST: u64 = 0x10;
const TLBI_LAST: u64 = 0x30;
const DEVICE_INVALIDATE: u64 = 0x40;

/// `CMDQ_ATC_0_SSV`: the command names a substream.
const HAS_SUBSTREAM: u64 = 1 << 11;
/// `ATC_INV_SIZE_ALL`
const SIZE_ALL: u64 = 52;

/// What a command is counted as: an index below 8.
#[inline(always)]
pub fn scope(low: u64) -> u64 {
    let scope = match low & 0xff {
        CONFIG_STREAM => Scope::Context,
        CONFIG_ALL..=CONFIG_CD_ALL => Scope::PasidCache,
        TLBI_FIRST..=TLBI_LAST => Scope::Iotlb,
        DEVICE_INVALIDATE => Scope::DeviceTlb,
        _ => Scope::Other,
    };
    scope as u64
}

/// The caches that a command drops an entry from as a whole. Translations are tagged with an ASID, not with a PASID,
/// and up to 7.0 they stay until that is used again.
#[inline(always)]
pub fn drops(low: u64, high: u64, entry: &Entry) -> u32 {
    let substream = (low >> 12) as u32 & 0xf_ffff == entry.pasid;
    let stream = (low >> 32) as u32 == entry.source;
    match low & 0xff {
        CONFIG_ALL => cache::PASID,
        CONFIG_CD => cache::PASID * u32::from(stream && substream),
        // A stream's entry is dropped with all that hangs off it.
        CONFIG_STREAM | CONFIG_CD_ALL => cache::PASID * u32::from(stream),
        DEVICE_INVALIDATE => {
            // Without a substream it drops those of every one (`arm_smmu_atc_inv_to_cmd`).
            let covers = low & HAS_SUBSTREAM == 0 || substream;
            cache::DEVICE_TLB * u32::from(stream && covers && high & 0x3f == SIZE_ALL)
        }
        _ => 0,
    }
}
