//! `lifetimes`: a domain, a PASID of the allocator, the memory of a process goes before what stands on it.

use super::Report;
use super::expect::{self, Expect, Violation, WHOEVER};
use super::harmless;
use crate::Series;

pub fn on_softiommu(report: &Report) -> Result<(), String> {
    judged(report, "softdev.0", "softdev.1")
}

pub fn on_intel(report: &Report) -> Result<(), String> {
    judged(report, "0000:01:00.0", "0000:02:00.0")
}

/// A PASID of the allocator: the first that is free.
const FIRST: &[u32] = &[1];
/// The same after one was lost.
const SECOND: &[u32] = &[2];

fn judged(report: &Report, one: &'static str, two: &'static str) -> Result<(), String> {
    let soft = one.starts_with("soft");
    let mut rows = domains(report.series, one, two);
    if report.series != Series::V6_1 {
        rows.extend(pasids(one));
    }
    if report.series == Series::V7 {
        rows.extend(sva(one, soft));
    }
    expect::phases(report, harmless::armed(report.series), &rows)
}

fn devices(one: &'static str) -> &'static [&'static str] {
    match one {
        "softdev.0" => &["softdev.0"],
        "softdev.1" => &["softdev.1"],
        "0000:01:00.0" => &["0000:01:00.0"],
        _ => &["0000:02:00.0"],
    }
}

fn found(check: &'static str, one: &'static str, pasids: &'static [u32]) -> Violation {
    Violation {
        check,
        group_of: Some(one),
        devices: devices(one),
        pasids,
        attached_by: Some("tenant"),
        triggered_by: Some("thief"),
        implied: &[],
    }
}

fn domains(series: Series, one: &'static str, two: &'static str) -> Vec<Expect> {
    const CHECK: &str = "domain-freed-while-attached";
    let pasids: &[u32] = if series == Series::V6_1 { &[] } else { &[5] };
    let clean = |phase| Expect::clean(phase, &[("domain_free", 1), ("claim_group", 2), ("rid_attach", 8)]);
    vec![
        clean("domain-clean"),
        clean("domain-freed").raises(found(CHECK, one, pasids)).raises(found(CHECK, two, &[])),
    ]
}

fn pasids(one: &'static str) -> Vec<Expect> {
    vec![
        Expect::clean(
            "pasid-clean",
            &[("pasid_alloc", 1), ("pasid_free", 1), ("pasid_attach", 2), ("pasid_detach", 2)],
        ),
        Expect::clean("pasid-freed", &[("pasid_alloc", 1), ("pasid_free", 1)]).raises(found(
            "pasid-freed-while-attached",
            one,
            FIRST,
        )),
    ]
}

fn sva(one: &'static str, soft: bool) -> Vec<Expect> {
    const OUTLIVES: &str = "sva-outlives-mm";
    let clumsy =
        |pasids| Violation { triggered_by: Some("clumsy"), ..found("sva-bond-imbalance", one, pasids) };
    let mut rows = vec![
        Expect::clean(
            "sva-clean",
            &[("sva_bind", 4), ("sva_unbind", 4), ("mm_exit", 2), ("mm_drop", 2), ("pasid_free", 2)],
        ),
        Expect::clean("sva-lingers", &[("mm_exit", 1), ("mm_drop", 1), ("pasid_free", 1)])
            .raises(Violation { triggered_by: None, ..found(OUTLIVES, one, FIRST) })
            .resolves(OUTLIVES, Some(one), "cleared"),
        Expect::clean("pasid-leaked", &[("mm_drop", 1)]).raises(Violation {
            attached_by: None,
            triggered_by: Some(WHOEVER),
            ..found("pasid-leaked", one, FIRST)
        }),
        Expect::clean("sva-outlives", &[("pasid_free", 1)]).raises(Violation {
            triggered_by: Some(WHOEVER),
            implied: &["pasid-freed-while-attached"],
            ..found(OUTLIVES, one, SECOND)
        }),
        Expect::clean("sva-kept", &[("sva_bind", 1), ("sva_unbind", 1)]).raises(clumsy(SECOND)),
    ];
    if soft {
        rows.push(
            Expect::clean("sva-again", &[("sva_bind", 1), ("sva_unbind", 2)])
                .raises(clumsy(FIRST))
                .warns("refcount_warn_saturate"),
        );
    } else {
        const UNANSWERED: &str = "iopf-unanswered";
        rows.push(Expect::clean("asked", &[("sva_bind", 2), ("sva_unbind", 1)]));
        rows.push(
            Expect::clean("unanswered", &[("sva_bind", 1), ("sva_unbind", 1)])
                .raises(Violation { triggered_by: Some("hasty"), ..found(UNANSWERED, one, SECOND) }),
        );
        rows.push(Expect::clean("answered-late", &[("sva_unbind", 1)]).resolves(
            UNANSWERED,
            Some(one),
            "cleared",
        ));
    }
    rows
}
