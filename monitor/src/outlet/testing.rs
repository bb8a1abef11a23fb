//! Reports for the tests here.

use crate::{
    check::{Confidence, Fingerprint, REGISTRY, Reason, Resolved, Severity, Violation},
    watcher::Report,
};

pub fn violation(cause: u64, severity: Severity) -> Violation {
    let check = REGISTRY.iter().map(|check| check.spec()).find(|spec| spec.name == "pasid-left-on-release");
    Violation {
        check: check.expect("the check"),
        severity,
        own_severity: severity,
        expected: None,
        fingerprint: Fingerprint(cause),
        mono_ns: 1_000_000_000,
        last_ns: 1_000_000_000,
        count: 1,
        group: Some(7),
        devices: vec!["0000:01:00.0".into()],
        iommu_driver: Some("intel".into()),
        pasids: Vec::new(),
        rids_attached_by: None,
        domain: None,
        summary: "vfio[201] released DMA ownership of group 7 with PASID 5 still attached".into(),
        triggered_by: None,
        implied: Vec::new(),
        evidence: Vec::new(),
        read: Vec::new(),
        confidence: Confidence::ReadBack,
    }
}

pub fn raised(cause: u64) -> Report {
    Report::Violation(Box::new(violation(cause, Severity::Critical)))
}

pub fn resolved(cause: u64) -> Report {
    let Violation { check, severity, fingerprint, group, devices, .. } = violation(cause, Severity::Critical);
    Report::Resolved(Box::new(Resolved {
        check,
        severity,
        fingerprint,
        group,
        devices,
        reason: Reason::Cleared,
        mono_ns: 5_000_000_000,
        raised_ns: 1_000_000_000,
        last_ns: 1_000_000_000,
        count: 1,
    }))
}
