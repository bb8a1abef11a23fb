//! `workloads`: what is right on the real Intel driver with PASIDs, ATS and SVA raises nothing. What must have
//! happened meanwhile is told by the kernel's trace of VT-d's queue, and by the device that did the DMA.

use super::Report;
use super::expect::{self, Expect};
use super::harmless;
use super::transcript::{Phase, Transcript};
use crate::Series;

/// The kinds of descriptors of a RID's tear-down, of a PASID's, and of both.
const OF_RID: &str = "queued dev_tlb_inv p_iotlb_inv pc_inv";
const OF_PASIDS: &str = "queued p_dev_tlb_inv p_iotlb_inv pc_inv";
const OF_BOTH: &str = "queued dev_tlb_inv p_dev_tlb_inv p_iotlb_inv pc_inv";

pub fn harmless(report: &Report) -> Result<(), String> {
    let seven = report.series == Series::V7;
    let sva = match seven {
        true => Expect::clean(
            "sva",
            &[("sva_bind", 2), ("sva_unbind", 2), ("pasid_attach", 2), ("pasid_detach", 2)],
        ),
        // SVA is refused there.
        false => Expect::clean("sva", &[("sva_bind", 2), ("sva_unbind", 0), ("pasid_attach", 0)]),
    };
    let rows = [
        Expect::clean("mapped", &[("attach_device", 50), ("detach_device", 50), ("rid_attach", 100)]),
        Expect::clean("pasids", &[("pasid_attach", 100), ("pasid_detach", 100), ("rid_attach", 0)]),
        sva,
        // Parked for each reset, and taken back.
        Expect::clean(
            "reset",
            if seven {
                &[("pasid_attach", 2), ("pasid_detach", 2), ("rid_attach", 6)]
            } else {
                &[("pasid_attach", 2), ("pasid_detach", 2), ("rid_attach", 0)]
            },
        ),
        Expect::clean(
            "driver",
            &[("use_default_domain", 5), ("unuse_default_domain", 5), ("pasid_attach", 5)],
        ),
        Expect::clean(
            "vfio",
            &[("claim_group", 10), ("attach_group", 10), ("detach_group", 10), ("release_group", 10)],
        ),
        Expect::clean("replugged", &[("add_device_to_group", 3), ("group_release", 3), ("pasid_attach", 3)]),
        Expect::clean("lazy", &[]),
        Expect::clean("strict", &[("rid_attach", 1)]),
        Expect::clean("lazy-again", &[("rid_attach", 0)]),
    ];
    expect::phases(report, harmless::armed(report.series), &rows)?;

    let transcript = Transcript::read(&report.text);
    said(transcript.phase("mapped")?, &[OF_RID])?;
    said(transcript.phase("pasids")?, &[OF_PASIDS])?;
    said(transcript.phase("reset")?, &[if seven { OF_BOTH } else { "queued" }; 3])?;
    for (phase, kind) in [("lazy", "DMA-FQ"), ("strict", "DMA"), ("lazy-again", "DMA-FQ")] {
        dma(transcript.phase(phase)?, kind)?;
    }
    Ok(())
}

fn said(phase: &Phase, lines: &[&str]) -> Result<(), String> {
    if phase.said == lines {
        Ok(())
    } else {
        Err(format!("{}: `{:?}` was said, not `{lines:?}`", phase.name, phase.said))
    }
}

/// All DMA arrived while it was mapped; none that was strictly unmapped did, and some that was lazily unmapped.
fn dma(phase: &Phase, kind: &str) -> Result<(), String> {
    let [line] = &phase.said[..] else {
        return Err(format!("{}: {} lines of DMA", phase.name, phase.said.len()));
    };
    let number = |key: &str| {
        let mut words = line.split_whitespace().filter_map(|word| word.split_once('='));
        words.find(|(name, _)| *name == key).and_then(|(_, value)| value.parse::<u32>().ok())
    };
    let right = line.split_whitespace().next() == Some(kind)
        && (number("arrived"), number("lost")) == (Some(200), Some(0))
        && match kind {
            "DMA" => number("stale") == Some(0),
            _ => number("stale") > Some(0),
        };
    if right { Ok(()) } else { Err(format!("{}: `{line}`", phase.name)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(line: &str, kind: &str) -> Result<(), String> {
        let text = format!("@ phase x\n@ said {line}\n");
        dma(Transcript::read(&text).phase("x").unwrap(), kind)
    }

    #[test]
    fn dma_after_a_strict_unmap_must_not_arrive() {
        judged("DMA arrived=200 lost=0 blocked=200 stale=0", "DMA").unwrap();
        judged("DMA arrived=200 lost=0 blocked=199 stale=1", "DMA").unwrap_err();
        judged("DMA-FQ arrived=200 lost=0 blocked=2 stale=198", "DMA-FQ").unwrap();
        judged("DMA-FQ arrived=200 lost=0 blocked=200 stale=0", "DMA-FQ").unwrap_err();
        judged("DMA arrived=200 lost=0 blocked=2 stale=198", "DMA-FQ").unwrap_err();
        judged("DMA arrived=199 lost=1 blocked=200 stale=0", "DMA").unwrap_err();
    }
}
