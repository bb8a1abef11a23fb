//! `devtlb-tag-missing`: flushes of a domain reach the TLB of every device that may keep its translations.

use monitor_ebpf::wire::Hook;

use crate::coverage::Coverage;
use crate::event::{DomainKind, Tags};
use crate::inventory::Inventory;
use crate::model::{Group, Host, Kind, Look, Member, Transition};

use super::look::{self, Shown};
use super::spec::{CheckState, Needs, Severity, Spec};
use super::violation::{Fault, Standing, Subject};
use super::{Case, Check, cache_tag};

pub(super) struct DevtlbTagMissing;

const BY_LOOK: Needs = Needs { required: &[Hook::SnapshotGroup, Hook::SnapshotIntel], ..Needs::LOOK };

static SPEC: Spec = Spec {
    name: "devtlb-tag-missing",
    section: "Invalidation",
    severities: &[Severity::Critical],
    invariant: "Where VT-d's driver keeps cache tags (from 6.10): after the operation, and from 6.16 after \
                probe_finalize, every paging, nested or SVA attachment on an ATS-enabled device has a device-TLB tag. \
                Identity and blocking domains never have tags.",
    why: "The driver flushes what a domain's tags name, and nothing else. Without its tag a device keeps translations \
          that were unmapped, and goes on reading and writing memory that belongs to somebody else by now.",
    needs: Needs {
        core_pasids: false,
        required: &[Hook::VtdTagAssign, Hook::VtdTagUnassign, Hook::RidAttach],
        required_if_present: &[Hook::AtsOn],
        any_of: &[],
        degrades: &[
            (
                Hook::VtdAttach,
                "the tags of a RID whose ATS comes on after they were assigned are found by looks alone",
            ),
            (
                Hook::SnapshotIntel,
                "what is there since before the start, or goes wrong at probe_finalize, is missed",
            ),
            (Hook::PasidAttach, "the tags of PASIDs are not judged"),
            (Hook::PasidReplace, "the tags of PASIDs whose domain is replaced are not judged"),
        ],
    },
    judges: &[Kind::Tagged],
    by_look: Some(BY_LOOK),
    implies: &[],
    traps: &[
        "A device without ATS, or with ATS off when the PASID was attached, has no device-TLB tag.",
        "From 6.16 the driver switches ATS on in probe_finalize, after the attach to the default domain, and assigns \
         the tag there: a look in between shows ATS without a tag, so it takes two, and a call of another task is not \
         judged then.",
        "A domain attached to several devices and PASIDs has a tag for each; one that is assigned twice is one tag with \
         two users, and the tracepoints tell of each.",
        "An attach that fails takes its tags back.",
        "Another task that changes the list of the same domain may lead the reading astray: then nothing is said.",
        "A nested domain has tags of its own, and others in its parent's list.",
        "What a reset takes off a device is off until the reset is done.",
        "A RID whose last attach failed is not on its group's domain.",
    ],
    seen_in: &["041be2717b19 (6.10)", "25b1b75bbaf9 (6.16)"],
    what_to_do: &[
        "Stop the device's DMA: unbind its driver, or shut the guest down. What it reads and writes may be stale.",
        "Binding it again attaches its domain anew, and assigns the tags anew.",
        "On a kernel without the fix named below, boot with `pci=noats`, or move to one that has it.",
        "Report it to the maintainers of the Intel IOMMU driver with the violation's JSON.",
    ],
};

impl Check for DevtlbTagMissing {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn judge(&self, transition: &Transition, case: &mut Case<'_>) {
        let Transition::Tagged { group, tagged } = transition else { return };
        if !tagged.attached || !tagged.tags.is_missing() {
            return;
        }
        let name = case.names.domain(tagged.domain);
        let summary = format!(
            "{} was attached to {} ({}) with ATS on, and got no device-TLB tag: flushes don't reach the device",
            cache_tag::of(tagged),
            name.name,
            name.kind,
        );
        let finding = cache_tag::finding(&SPEC, *group, tagged, summary, case);
        case.findings.push(finding);
    }

    fn look(&self, look: &Look, group: &Group, case: &mut Case<'_>) {
        for (member, tags) in untagged(look) {
            let summary = format!(
                "the RID of {} (group {}) has ATS on, and no device-TLB tag in its domain: flushes don't reach the device",
                member.name, group.id,
            );
            let shown = Shown {
                check: &SPEC,
                severity: SPEC.severity(),
                fault: Fault::Untagged(member.device),
                group,
                look,
                pasids: &[],
                summary,
                read: cache_tag::read(&tags, look.domain, case),
            };
            case.findings.push(shown.finding());
        }
    }

    fn standing(&self, subject: &Subject, host: &Host) -> Standing {
        if subject.happened() {
            return Standing::Happened;
        }
        look::standing(subject, host, |look, fault| {
            untagged(look).any(|(member, _)| fault == Fault::Untagged(member.device))
        })
    }

    fn state(&self, coverage: &Coverage, inventory: Option<&Inventory>) -> CheckState {
        cache_tag::without_tags(coverage, inventory).unwrap_or_else(|| SPEC.needs.state(coverage))
    }

    fn look_state(&self, coverage: &Coverage, inventory: Option<&Inventory>) -> Option<CheckState> {
        let without = cache_tag::without_tags(coverage, inventory);
        Some(without.unwrap_or_else(|| BY_LOOK.state(coverage)))
    }
}

/// Members whose RIDs may keep translations of the group's domain that no flush reaches.
fn untagged(look: &Look) -> impl Iterator<Item = (&Member, Tags)> {
    let translates = look.domain.is_some_and(|domain| {
        matches!(
            domain.kind,
            DomainKind::Unmanaged | DomainKind::Dma | DomainKind::DmaFq | DomainKind::Nested
        )
    });
    let members = look.members.iter().filter(move |_| translates && !look.in_between());
    members.filter_map(|member| Some((member, member.tags.filter(Tags::is_missing)?)))
}
