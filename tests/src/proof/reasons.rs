//! Why a check is caught nowhere in a column: what can't be done there, or need not be.

use crate::Series;

use super::Source;

struct Reason {
    /// None: any.
    checks: &'static [&'static str],
    /// None: any.
    kernels: &'static [Series],
    source: Source,
    why: &'static str,
}

const SVA_OFF: &str = "not possible here: this kernel refuses every bind on x86, as its stable series does, so no process has a PASID";

const NOTHING_ATTACHES: &str =
    "not possible here: this kernel's core has no call that attaches a PASID, and it refuses every SVA bind";

/// The first that fits.
const REASONS: &[Reason] = &[
    Reason {
        checks: &["pasid-table-shared", "pasid-table-mismatch", "group-divergence", "failed-attach-residue"],
        kernels: &[],
        source: Source::Software,
        why: "not possible here: it is seen in hardware tables, by the vendors' functions, and the software IOMMU has \
              neither",
    },
    Reason {
        checks: &["pasid-leaked", "sva-bond-imbalance", "sva-outlives-mm"],
        kernels: &[Series::V6_12],
        source: Source::Driver,
        why: SVA_OFF,
    },
    Reason {
        checks: &["pasid-leaked", "sva-bond-imbalance", "sva-outlives-mm"],
        kernels: &[Series::V6_12],
        source: Source::Software,
        why: SVA_OFF,
    },
    Reason {
        checks: &["released-with-pasids"],
        kernels: &[Series::V6_1],
        source: Source::Driver,
        why: NOTHING_ATTACHES,
    },
    Reason {
        checks: &["released-with-pasids"],
        kernels: &[Series::V6_1],
        source: Source::Software,
        why: NOTHING_ATTACHES,
    },
    Reason { checks: &[], kernels: &[], source: Source::Recording, why: "not recorded: caught live" },
];

pub(super) fn find(check: &str, series: Series, source: Source) -> Option<&'static str> {
    let fits = |reason: &&Reason| {
        reason.source == source
            && (reason.checks.is_empty() || reason.checks.contains(&check))
            && (reason.kernels.is_empty() || reason.kernels.contains(&series))
    };
    REASONS.iter().find(fits).map(|reason| reason.why)
}
