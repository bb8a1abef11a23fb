//! `kernel-advisory`: the running kernel has a known defect that no event can show.

use crate::advisory::Advisories;
use crate::coverage::Coverage;
use crate::inventory::Inventory;
use crate::model::Host;

use super::spec::{CheckState, Needs, Severity, Spec};
use super::violation::{Confidence, Finding, Read, Standing, Subject, Value};
use super::{Case, Check};

pub(super) struct KernelAdvisory;

/// No hook: it takes the kernel's types alone.
const NEEDS: Needs = Needs::NOTHING;

static SPEC: Spec = Spec {
    name: "kernel-advisory",
    section: "Advisories",
    severities: &[Severity::Info],
    invariant: "(report) The running kernel has none of the known defects that no event can show, as its types and \
                symbols tell (never its release).",
    why: "Some defects break isolation inside the hardware or in a race that no hook sees: the only sign of them is \
          that the kernel doesn't have the fix.",
    needs: NEEDS,
    judges: &[],
    by_look: Some(NEEDS),
    implies: &[],
    traps: &[
        "A distribution fixes old releases: what a kernel is called says nothing, and is not asked.",
        "A fix that leaves no trace in symbols and types leaves the advisory undecided: `doctor` lists it, and nothing \
         is raised.",
        "A kernel that refuses SVA on x86 has no use for the flush that came with the fix of SVA.",
        "A kernel without the code that a defect is in doesn't have the defect.",
    ],
    seen_in: &[
        "CVE-2025-71202, CVE-2025-71089: SVA and the kernel's page tables",
        "CVE-2026-45945, CVE-2026-45894, CVE-2026-45944, CVE-2026-45862: VT-d's entries and what the hardware reads",
        "CVE-2024-35843: page requests of a device that is going",
    ],
    what_to_do: &[
        "Read in the violation (or with `iommu-watch doctor -v`) what the defect does and which fix is missing.",
        "Update the kernel; until then do what the advisory says.",
        "If your kernel has the fix all the same, its types look as if it had not: report it with the output of \
         `iommu-watch doctor --format json`.",
    ],
};

impl Check for KernelAdvisory {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn advise(&self, advisories: &Advisories, mono_ns: u64, case: &mut Case<'_>) {
        for told in advisories.affected() {
            case.findings.push(Finding {
                check: &SPEC,
                severity: SPEC.severity(),
                subject: Subject::Advisory { id: told.id.clone() },
                proved: true,
                mono_ns,
                device: None,
                pasids: Vec::new(),
                domain: None,
                triggered_by: None,
                summary: format!("this kernel has a known defect ({}): {}", told.cve.join(", "), told.title),
                read: vec![
                    Read { what: "advisory", value: Value::Names(vec![told.id.clone()]) },
                    Read { what: "CVE", value: Value::Names(told.cve.clone()) },
                    Read { what: "told by", value: Value::Names(vec![told.because.clone()]) },
                    Read { what: "effect", value: Value::Names(vec![told.effect.clone()]) },
                    Read { what: "what to do", value: Value::Names(vec![told.what_to_do.clone()]) },
                    Read { what: "advisories as of", value: Value::Names(vec![advisories.date.to_string()]) },
                ],
                confidence: Confidence::ReadBack,
            });
        }
    }

    /// A kernel is what it is until it is booted anew.
    fn standing(&self, _: &Subject, _: &Host) -> Standing {
        Standing::Stands
    }

    fn state(&self, coverage: &Coverage, _: Option<&Inventory>) -> CheckState {
        match &coverage.advisories {
            Some(_) => CheckState::Armed,
            None => {
                let reason =
                    "nobody asked this kernel's types for known defects (an older recording doesn't have it)";
                CheckState::Unavailable { reason: reason.into() }
            }
        }
    }

    fn look_state(&self, coverage: &Coverage, inventory: Option<&Inventory>) -> Option<CheckState> {
        Some(self.state(coverage, inventory))
    }
}
