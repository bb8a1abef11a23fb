//! `left-behind`: a PASID is left on each way of letting a group go, and the same without.

use super::Report;
use super::expect::{self, Expect, Violation};

const CHECK: &str = "pasid-left-on-release";
const ARMED: [&str; 4] = [CHECK, "ownership-stuck", "ownership-leaked", "attach-imbalance"];

/// Where it is done.
#[derive(Clone, Copy)]
struct Place {
    device: &'static str,
    /// All of its group.
    devices: &'static [&'static str],
}

pub fn on_softiommu(report: &Report) -> Result<(), String> {
    let one = Place { device: "softdev.0", devices: &["softdev.0"] };
    let pair = Place { device: "softdev.2", devices: &["softdev.2", "softdev.3"] };
    let driven = Place { device: "softdev.1", devices: &["softdev.1"] };
    expect::phases(report, &ARMED, &rows(one, pair, driven))
}

/// The same, where every function is reached by a kprobe.
pub fn by_kprobe(report: &Report) -> Result<(), String> {
    report.says("@ kprobes 1\n")?;
    on_softiommu(report)
}

pub fn on_intel(report: &Report) -> Result<(), String> {
    let nvme = Place { device: "0000:01:00.0", devices: &["0000:01:00.0"] };
    expect::phases(report, &ARMED, &rows(nvme, nvme, nvme))
}

/// By group, by device, by unbinding a driver: rightly, wrongly, and what it takes to mend it.
fn rows(one: Place, pair: Place, driven: Place) -> Vec<Expect> {
    vec![
        Expect::clean(
            "group-clean",
            &[("claim_group", 1), ("pasid_attach", 2), ("pasid_detach", 2), ("release_group", 1)],
        ),
        Expect::clean(
            "group-left",
            &[("claim_group", 1), ("pasid_attach", 2), ("pasid_detach", 1), ("release_group", 1)],
        )
        .raises(one.left(&["ownership-stuck"]))
        .warns("__iommu_release_dma_ownership"),
        Expect::clean("group-mended", &[("pasid_detach", 1), ("release_group", 1)]).resolves(
            CHECK,
            Some(one.device),
            "cleared",
        ),
        Expect::clean(
            "device-clean",
            &[("claim_device", 1), ("pasid_attach", 2), ("pasid_detach", 2), ("release_device", 1)],
        ),
        Expect::clean(
            "device-left",
            &[("claim_device", 1), ("pasid_attach", 2), ("pasid_detach", 1), ("release_device", 1)],
        )
        .raises(pair.left(&["ownership-stuck"]))
        .warns("__iommu_release_dma_ownership"),
        Expect::clean("device-mended", &[("pasid_detach", 1), ("release_device", 1)]).resolves(
            CHECK,
            Some(pair.device),
            "cleared",
        ),
        Expect::clean(
            "unbind-clean",
            &[
                ("use_default_domain", 1),
                ("pasid_attach", 1),
                ("pasid_detach", 1),
                ("unuse_default_domain", 1),
            ],
        ),
        Expect::clean(
            "unbind-left",
            &[("use_default_domain", 1), ("pasid_attach", 1), ("unuse_default_domain", 1)],
        )
        .raises(driven.left(&["ownership-leaked"]))
        .warns("iommu_device_unuse_default_domain"),
        // Neither the detach nor a claim mends it.
        Expect::clean("unbind-kept", &[("pasid_detach", 1), ("claim_group", 1), ("release_group", 0)]),
        // The core notices the count that leaked when the group's last device goes.
        Expect::clean("unbind-mended", &[("group_release", 1), ("add_device_to_group", 1)])
            .resolves(CHECK, Some(driven.device), "released")
            .warns("__iommu_group_free_device"),
    ]
}

impl Place {
    fn left(self, implied: &'static [&'static str]) -> Violation {
        Violation {
            check: CHECK,
            group_of: Some(self.device),
            devices: self.devices,
            pasids: &[5],
            attached_by: Some("tenant"),
            triggered_by: Some("owner"),
            implied,
        }
    }
}
