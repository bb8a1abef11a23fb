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

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: Entry = Entry { kind: 0, tag: 7, pasid: 0x5_4321, source: 0x0001_0100 };

    fn command(opcode: u64, stream: u64, substream: u64) -> u64 {
        opcode | substream << 12 | stream << 32
    }

    #[test]
    fn every_command_has_its_scope() {
        let scopes = [
            (0x03, Scope::Context),
            (0x04, Scope::PasidCache),
            (0x05, Scope::PasidCache),
            (0x06, Scope::PasidCache),
            (0x11, Scope::Iotlb),
            (0x12, Scope::Iotlb),
            (0x21, Scope::Iotlb),
            (0x28, Scope::Iotlb),
            (0x2a, Scope::Iotlb),
            (0x30, Scope::Iotlb),
            (0x40, Scope::DeviceTlb),
            (0x41, Scope::Other),
            (0x46, Scope::Other),
        ];
        for (opcode, expected) in scopes {
            assert_eq!(scope(command(opcode, 1, 2)), expected as u64, "opcode {opcode:#x}");
        }
    }

    #[test]
    fn a_descriptor_is_dropped_by_stream_and_substream_or_with_its_stream() {
        let drops = |opcode, stream, substream| drops(command(opcode, stream, substream), 1, &ENTRY);
        assert_eq!(drops(0x05, 0x0001_0100, 0x5_4321), cache::PASID);
        assert_eq!(drops(0x05, 0x0001_0100, 0x5_4322), 0);
        assert_eq!(drops(0x05, 0x0001_0101, 0x5_4321), 0);
        assert_eq!(drops(0x06, 0x0001_0100, 0), cache::PASID);
        assert_eq!(drops(0x03, 0x0001_0100, 0), cache::PASID);
        assert_eq!(drops(0x03, 0x0001_0101, 0), 0);
        assert_eq!(drops(0x04, 0, 0), cache::PASID);
    }

    #[test]
    fn a_device_is_flushed_whole_for_a_substream_or_for_all() {
        let atc = |substream: u64, stream, size| {
            super::drops(command(0x40, stream, substream) | HAS_SUBSTREAM, size, &ENTRY)
        };
        assert_eq!(atc(0x5_4321, 0x0001_0100, SIZE_ALL), cache::DEVICE_TLB);
        assert_eq!(atc(0x5_4322, 0x0001_0100, SIZE_ALL), 0);
        assert_eq!(atc(0x5_4321, 0x0001_0101, SIZE_ALL), 0);
        assert_eq!(atc(0x5_4321, 0x0001_0100, 9), 0, "2 MiB");
        // Without SSV every substream's are dropped.
        assert_eq!(super::drops(command(0x40, 0x0001_0100, 0), SIZE_ALL, &ENTRY), cache::DEVICE_TLB);
        // TLBI goes by ASID, which no entry is owed.
        assert_eq!(super::drops(0x11 | 7 << 48, 0, &ENTRY), 0);
    }
}
