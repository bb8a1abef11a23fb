//! What is right, again and again: nothing is raised, and the product counts what the kernel counts.

use super::Report;
use super::expect::{self, Expect, Violation};
use super::transcript::{Phase, Transcript};
use crate::Series;

/// VFIO's calls: the product's name, the kernel's.
const VFIO: [(&str, &str); 4] = [
    ("claim_group", "iommu_group_claim_dma_owner"),
    ("attach_group", "iommu_attach_group"),
    ("detach_group", "iommu_detach_group"),
    ("release_group", "iommu_group_release_dma_owner"),
];
const DRIVER: [(&str, &str); 2] = [
    ("use_default_domain", "iommu_device_use_default_domain"),
    ("unuse_default_domain", "iommu_device_unuse_default_domain"),
];

pub fn vfio(report: &Report) -> Result<(), String> {
    let rows = [
        Expect::clean(
            "rounds",
            &[("claim_group", 100), ("attach_group", 100), ("detach_group", 100), ("release_group", 100)],
        ),
        Expect::clean(
            "opened",
            &[("claim_group", 3), ("attach_group", 3), ("detach_group", 3), ("release_group", 3)],
        ),
        Expect::clean("busy", &[("claim_group", 2), ("release_group", 1)]).raises(conflict(
            "0000:01:00.0",
            &["0000:01:00.0"],
            "rival",
        )),
        Expect::clean("free", &[("claim_group", 1), ("release_group", 1)]),
    ];
    expect::phases(report, armed(report.series), &rows)?;

    let transcript = Transcript::read(&report.text);
    names_the_owner(transcript.phase("busy")?)?;
    let rounds = transcript.phase("rounds")?;
    same_count(&transcript, rounds, &VFIO)?;
    let group = rounds.group_of("0000:01:00.0")?;
    let watched = &transcript.phase("stop")?.watched;
    for (hook, _) in VFIO {
        // The group's number as the kernel read it from its own memory, and as `watch` told it.
        let call = format!("{hook}:{group}");
        let ids: Vec<&String> =
            rounds.counted.keys().filter(|key| key.starts_with(&format!("{hook}:"))).collect();
        if ids != [&call] || rounds.counted[&call] != 100.0 {
            return Err(format!("the kernel counted {:?}, not 100 of {call}", rounds.counted));
        }
        let ids: Vec<&String> = watched.keys().filter(|key| key.starts_with(&format!("{hook}:"))).collect();
        if ids != [&call] || watched[&call] != 103.0 {
            return Err(format!("`watch` told {watched:?}, not 103 of {call}"));
        }
    }
    Ok(())
}

pub fn replug(report: &Report) -> Result<(), String> {
    let rows = [
        Expect::clean(
            "replug",
            &[
                ("remove_device_from_group", 100),
                ("group_release", 100),
                ("add_device_to_group", 100),
                ("rid_attach", 100),
            ],
        ),
        Expect::clean("rebind", &[("use_default_domain", 100), ("unuse_default_domain", 100)]),
        Expect::clean("both", &[("add_device_to_group", 3), ("group_release", 3)]),
    ];
    expect::phases(report, armed(report.series), &rows)?;

    let transcript = Transcript::read(&report.text);
    same_count(&transcript, transcript.phase("replug")?, &[("group_release", "iommu_group_release")])?;
    same_count(&transcript, transcript.phase("rebind")?, &DRIVER)?;
    let groups = |name| Ok::<_, String>(transcript.phase(name)?.metric("groups{knowledge=\"synced\"}"));
    let (before, after) = (groups("start")?, groups("both")?);
    if before == after { Ok(()) } else { Err(format!("{before} groups were known, and {after} in the end")) }
}

/// A claim or a bind was refused: somebody is told of it, and paged by nothing.
pub fn conflict(of: &'static str, devices: &'static [&'static str], triggered_by: &'static str) -> Violation {
    Violation {
        check: "ownership-conflict",
        group_of: Some(of),
        devices,
        pasids: &[],
        attached_by: None,
        triggered_by: Some(triggered_by),
        implied: &[],
    }
}

/// Every report of a refusal says that "owner" holds the group.
pub fn names_the_owner(phase: &Phase) -> Result<(), String> {
    for told in phase.of_kind("violation") {
        let read = told["evidence"]["read"].as_array().into_iter().flatten();
        let held_by = read.filter(|read| read["what"] == "held by").map(|read| &read["value"]["comm"]);
        if told["severity"] != "info" || !held_by.eq(["owner"]) {
            return Err(format!("{}: it is not told as info who holds the group: {told}", phase.name));
        }
    }
    Ok(())
}

/// The product saw as many calls as ftrace.
fn same_count(transcript: &Transcript, phase: &Phase, calls: &[(&str, &str)]) -> Result<(), String> {
    for (hook, function) in calls {
        let seen = transcript.calls(phase, hook);
        let counted = phase.counted.get(*function).copied().unwrap_or(0.0);
        if seen != counted || seen == 0.0 {
            return Err(format!("{}: {seen} calls of {hook} seen, ftrace counted {counted}", phase.name));
        }
    }
    Ok(())
}

/// The checks that judge on this kernel.
pub fn armed(series: Series) -> &'static [&'static str] {
    match series {
        // It keeps no account of PASIDs.
        Series::V6_1 => &[
            "ownership-stuck",
            "ownership-leaked",
            "domain-off-default",
            "ownership-conflict",
            "pasid-table-shared",
            "released-with-pasids",
            "domain-freed-while-attached",
            "teardown-flush-incomplete",
            "invalidation-failed",
            "pasid-reused-without-flush",
            "flush-slow",
            "ats-flush-to-absent",
            "kernel-advisory",
        ],
        // The driver can't say that a detach failed.
        Series::V6_12 => &[
            "pasid-left-on-release",
            "ownership-stuck",
            "ownership-leaked",
            "domain-off-default",
            "ownership-conflict",
            "attach-imbalance",
            "pasid-lost-on-detach",
            "rid-switch-refused",
            "user-pasid-on-nonconforming",
            "capability-off-under-pasids",
            "failed-attach-residue",
            "group-divergence",
            "pasid-table-shared",
            "pasid-table-mismatch",
            "released-with-pasids",
            "pasid-freed-while-attached",
            "pasid-leaked",
            "domain-freed-while-attached",
            "sva-bond-imbalance",
            "sva-outlives-mm",
            "teardown-flush-incomplete",
            "invalidation-failed",
            "pasid-reused-without-flush",
            "fault-after-detach",
            "iopf-unanswered",
            "devtlb-tag-missing",
            "cache-tag-leaked",
            "flush-slow",
            "ats-flush-to-absent",
            "kernel-advisory",
        ],
        Series::V7 => &[
            "pasid-left-on-release",
            "ownership-stuck",
            "ownership-leaked",
            "domain-off-default",
            "ownership-conflict",
            "attach-imbalance",
            "pasid-lost-on-detach",
            "rid-switch-refused",
            "user-pasid-on-nonconforming",
            "capability-off-under-pasids",
            "driver-detach-failed",
            "failed-attach-residue",
            "group-divergence",
            "pasid-table-shared",
            "pasid-table-mismatch",
            "released-with-pasids",
            "pasid-freed-while-attached",
            "pasid-leaked",
            "domain-freed-while-attached",
            "sva-bond-imbalance",
            "sva-outlives-mm",
            "teardown-flush-incomplete",
            "invalidation-failed",
            "pasid-reused-without-flush",
            "fault-after-detach",
            "iopf-unanswered",
            "devtlb-tag-missing",
            "cache-tag-leaked",
            "reset-unpaired",
            "flush-slow",
            "ats-flush-to-absent",
            "kernel-advisory",
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(seen: u32, counted: u32) -> Result<(), String> {
        let text = format!(
            "@ phase x\niommu_watch_events_total{{event=\"group_release\"}} {seen}\n\
             @ counted iommu_group_release {counted}\n"
        );
        let transcript = Transcript::read(&text);
        same_count(&transcript, transcript.phase("x").unwrap(), &[("group_release", "iommu_group_release")])
    }

    #[test]
    fn the_product_counts_what_the_kernel_counts_and_not_nothing() {
        judged(100, 100).unwrap();
        judged(99, 100).unwrap_err();
        judged(100, 99).unwrap_err();
        judged(0, 0).unwrap_err();
    }
}
