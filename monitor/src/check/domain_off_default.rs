//! `domain-off-default`: who holds a group says which domain it may sit on.

use crate::event::DomainKind;
use crate::model::{Group, Host, Look};

use super::look::{self, Shown};
use super::spec::{Needs, Severity, Spec};
use super::violation::{Fault, Standing, Subject};
use super::{Case, Check};

pub(super) struct DomainOffDefault;

static SPEC: Spec = Spec {
    name: "domain-off-default",
    section: "Ownership",
    severities: &[Severity::Critical],
    invariant: "A FREE group that has a default domain sits on it; a USER group never does; a KERNEL group may sit on \
                either. Not judged while a member is blocked by a reset, is deferred, or is in a switch.",
    why: "A free group that is off its default domain still translates for somebody who is gone: the next driver's \
          DMA goes by a stranger's page table. A claimed group on the default domain leaves the kernel's own mappings \
          open to its claimant.",
    needs: Needs::LOOK,
    judges: &[],
    by_look: Some(Needs::LOOK),
    implies: &[],
    traps: &[
        "Between prepare and done of a reset (7.0 and later) a member sits on the blocking domain.",
        "A deferred member (kdump) is not attached before its first DMA.",
        "A group without a default domain has none to sit on; where the default domain is the blocking one, a \
         claimed group sits on it too.",
        "A switch that is under way at one look is over at the next: it takes two.",
    ],
    seen_in: &["0286300e6045", "CVE-2026-52952"],
    what_to_do: &[
        "Don't bind a driver to the devices, and don't hand them to a guest, until the group is right again.",
        "Look for what let the group go last: a failed attach of the default domain leaves a WARN in dmesg.",
        "Removing the group's devices (echo 1 to `remove` in sysfs) and a rescan make a new group.",
        "Report it with the violation's JSON.",
    ],
};

impl Check for DomainOffDefault {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn look(&self, look: &Look, group: &Group, case: &mut Case<'_>) {
        if !astray(look) {
            return;
        }
        let what = match look.free() {
            true => "is free and is not on its default domain",
            false => "is claimed and still on its default domain",
        };
        let mut read = look::holder(look);
        read.push(look::domain("domain", look.domain, case.names));
        read.push(look::domain("default domain", look.default_domain, case.names));
        let shown = Shown {
            check: &SPEC,
            severity: SPEC.severity(),
            fault: Fault::Astray,
            group,
            look,
            pasids: &[],
            summary: format!("group {} {what}", group.id),
            read,
        };
        case.findings.push(shown.finding());
    }

    fn standing(&self, subject: &Subject, host: &Host) -> Standing {
        look::standing(subject, host, |look, _| astray(look))
    }
}

fn astray(look: &Look) -> bool {
    let (Some(domain), Some(default)) = (look.domain, look.default_domain) else { return false };
    if look.in_between() || !look.whole || default.kind == DomainKind::Blocked {
        return false;
    }
    let claimed = look.ownership.owner.is_some() && look.ownership.count > 0;
    look.free() && domain.key != default.key || claimed && domain.key == default.key
}
