//! `left-behind`: a PASID is left on each way of letting a group go, and its twin without.

use super::Report;
use super::expect::{self, Expect, Resolved, Violation};

/// The checks that must be armed all the while.
const ARMED: [&str; 4] = ["pasid-left-on-release", "ownership-stuck", "ownership-leaked", "attach-imbalance"];

const CHECK: &str = "pasid-left-on-release";

const fn left(
    group_of: &'static str,
    devices: &'static [&'static str],
    implied: &'static [&'static str],
) -> Violation {
    Violation {
        check: CHECK,
        group_of,
        devices,
        pasids: &[5],
        attached_by: Some("tenant"),
        triggered_by: Some("owner"),
        implied,
    }
}

pub fn on_softiommu(report: &Report) -> Result<(), String> {
    expect::phases(report, &ARMED, SOFTIOMMU)
}

const ONE: &[&str] = &["softdev.0"];
const PAIR: &[&str] = &["softdev.2", "softdev.3"];
const DRIVEN: &[&str] = &["softdev.1"];
const STUCK: &[&str] = &["ownership-stuck"];
const LEAKED: &[&str] = &["ownership-leaked"];

const SOFTIOMMU: &[Expect] = &[
    Expect::clean(
        "group-clean",
        &[("claim_group", 1), ("pasid_attach", 2), ("pasid_detach", 2), ("release_group", 1)],
    ),
    Expect {
        raised: &[left("softdev.0", ONE, STUCK)],
        warned: &["__iommu_release_dma_ownership"],
        ..Expect::clean(
            "group-left",
            &[("claim_group", 1), ("pasid_attach", 2), ("pasid_detach", 1), ("release_group", 1)],
        )
    },
    Expect {
        resolved: &[Resolved { check: CHECK, group_of: "softdev.0", reason: "cleared" }],
        ..Expect::clean("group-mended", &[("pasid_detach", 1), ("release_group", 1)])
    },
    Expect::clean(
        "device-clean",
        &[("claim_device", 1), ("pasid_attach", 2), ("pasid_detach", 2), ("release_device", 1)],
    ),
    Expect {
        raised: &[left("softdev.2", PAIR, STUCK)],
        warned: &["__iommu_release_dma_ownership"],
        ..Expect::clean(
            "device-left",
            &[("claim_device", 1), ("pasid_attach", 2), ("pasid_detach", 1), ("release_device", 1)],
        )
    },
    Expect {
        resolved: &[Resolved { check: CHECK, group_of: "softdev.2", reason: "cleared" }],
        ..Expect::clean("device-mended", &[("pasid_detach", 1), ("release_device", 1)])
    },
    Expect::clean(
        "unbind-clean",
        &[("use_default_domain", 1), ("pasid_attach", 1), ("pasid_detach", 1), ("unuse_default_domain", 1)],
    ),
    Expect {
        raised: &[left("softdev.1", DRIVEN, LEAKED)],
        warned: &["iommu_device_unuse_default_domain"],
        ..Expect::clean(
            "unbind-left",
            &[("use_default_domain", 1), ("pasid_attach", 1), ("unuse_default_domain", 1)],
        )
    },
    Expect::clean("unbind-kept", &[("pasid_detach", 1), ("claim_group", 1)]),
    Expect {
        resolved: &[Resolved { check: CHECK, group_of: "softdev.1", reason: "released" }],
        // The core notices the count that leaked when the group's last device goes.
        warned: &["__iommu_group_free_device"],
        ..Expect::clean("unbind-mended", &[("group_release", 1), ("add_device_to_group", 1)])
    },
];
