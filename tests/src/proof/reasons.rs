//! Why a check is caught nowhere in a column: what can't be done there, or need not be.

use crate::Series;

use super::Source;

struct Reason {
    /// None: any.
    checks: &'static [&'static str],
    /// None: any.
    kernels: &'static [Series],
    /// None: any.
    source: Option<Source>,
    why: &'static str,
}

const SVA: &[&str] = &["pasid-leaked", "sva-bond-imbalance", "sva-outlives-mm"];

/// The first that fits.
const REASONS: &[Reason] = &[
    Reason {
        checks: SVA,
        kernels: &[Series::V6_12],
        source: None,
        why: "not possible here: this kernel refuses every bind on x86, as its stable series does, so no process has a \
              PASID",
    },
    Reason {
        checks: &["devtlb-tag-missing", "cache-tag-leaked"],
        kernels: &[Series::V6_1],
        source: None,
        why: "not possible here: the VT-d driver of this kernel keeps no cache tags, which came with 6.10",
    },
    Reason {
        checks: &["ats-flush-to-absent"],
        kernels: &[Series::V6_1],
        source: Some(Source::Driver),
        why: "not possible here: this kernel has no PASID to tear down, and of a RID its driver flushes no device TLB behind \
              an IOMMU in caching mode, as the emulated one is",
    },
    Reason {
        checks: &["released-with-pasids"],
        kernels: &[Series::V6_1],
        source: Some(Source::Software),
        why: "not possible here: this kernel's core has no call that attaches a PASID, and its groups have no array of \
              them",
    },
    Reason {
        checks: &["pasid-table-shared", "pasid-table-mismatch", "group-divergence", "failed-attach-residue"],
        kernels: &[],
        source: Some(Source::Software),
        why: "not possible here: it is read from hardware tables, by the vendors' layouts, and the software IOMMU has \
              none of them",
    },
    Reason {
        checks: &[
            "pasid-lost-on-detach",
            "driver-detach-failed",
            "teardown-flush-incomplete",
            "invalidation-failed",
            "pasid-reused-without-flush",
            "devtlb-tag-missing",
            "cache-tag-leaked",
            "flush-slow",
            "ats-flush-to-absent",
        ],
        kernels: &[],
        source: Some(Source::Software),
        why: "not possible here: it is seen in functions and command queues of the vendors' drivers, and the software \
              IOMMU has a driver of its own",
    },
    Reason {
        checks: &["flush-range-short"],
        kernels: &[Series::V6_1],
        source: Some(Source::Driver),
        why: "not possible here: this kernel's VT-d driver keeps no list of the caches of a domain (cache tags, from \
              6.10), so what must be flushed isn't known",
    },
    Reason {
        checks: &["flush-range-short"],
        kernels: &[],
        source: Some(Source::Software),
        why: "not possible here: it is seen in functions and the command queue of VT-d's driver, and the software IOMMU \
              has a driver of its own",
    },
    Reason {
        checks: &["capability-off-under-pasids", "reset-unpaired"],
        kernels: &[],
        source: Some(Source::Software),
        why: "not possible here: the devices behind the software IOMMU are not on PCI: they have no capabilities, and \
              are not reset",
    },
    Reason {
        checks: &["fault-after-detach"],
        kernels: &[],
        source: Some(Source::Driver),
        why: "not possible here: no emulated device sends page requests",
    },
    Reason {
        checks: &["iopf-unanswered"],
        kernels: &[Series::V6_12],
        source: Some(Source::Driver),
        why: "not possible here: the kernel itself answers page requests of processes alone, and this one refuses every \
              bind on x86, as its stable series does",
    },
    Reason {
        checks: &["kernel-advisory"],
        kernels: &[],
        source: Some(Source::Software),
        why: "not possible here: it is about the kernel, whatever IOMMU it has",
    },
    Reason { checks: &[], kernels: &[], source: Some(Source::Recording), why: "no recording of it is kept" },
];

pub(super) fn find(check: &str, series: Series, source: Source) -> Option<&'static str> {
    let fits = |reason: &&Reason| {
        reason.source.is_none_or(|of| of == source)
            && (reason.checks.is_empty() || reason.checks.contains(&check))
            && (reason.kernels.is_empty() || reason.kernels.contains(&series))
    };
    REASONS.iter().find(fits).map(|reason| reason.why)
}
