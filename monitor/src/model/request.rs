//! Page requests of a device that name a PASID which is not attached, and when it was detached.
//!
//! A PASID that never was attached there may be anybody's invention: a guest can have its device send any. So it is with
//! what was detached before somebody took the group, and with all PASIDs while the RID is on a nested domain: where the
//! guest has the PASID table itself (`user_pasid_table` of `struct iommu_ops`), the host attaches none of them.

use monitor_ebpf::wire::Hook;

use crate::event::{Domain, DomainKind, Event, Key};

use super::former::{Detached, Former, Tenure};
use super::group::{Group, Presence};
use super::host::Host;
use super::transition::Transition;

/// Whether PASIDs may be a guest's own.
pub(super) fn nested(domain: Option<Domain>) -> bool {
    domain.is_some_and(|domain| domain.kind == DomainKind::Nested)
}

impl Group {
    /// A call returned: what was detached before counts no more if somebody else drives the devices from now on.
    pub(super) fn forget_former(&mut self, event: &Event) {
        let claims = matches!(event.hook, Hook::ClaimGroup | Hook::ClaimDevice);
        if claims || nested(self.domain) {
            self.tenure = self.tenure.wrapping_add(1);
        }
    }

    /// For as long as what was detached here counts.
    pub(super) fn tenure(&self) -> Tenure {
        Tenure { group: self.reference(), count: self.tenure }
    }

    /// What is known of a PASID that was attached and was seen to be detached, and is so still for certain.
    pub(super) fn former(&self, pasid: u32, former: &Former) -> Option<Detached> {
        let gone = self.presence(pasid) == Presence::Absent && !self.in_flight.touches(pasid);
        former.last(self.tenure(), pasid).filter(|_| gone)
    }
}

impl Host {
    /// A device asks for a page, and its group had not attached the PASID that it names.
    pub(super) fn requested(
        &mut self,
        key: Key,
        device: Key,
        event: &Event,
        trusted: bool,
        transitions: &mut Vec<Transition>,
    ) {
        let Some(group) = self.group_by_key(key).filter(|group| trusted && group.is_known(event.mono_ns))
        else {
            return;
        };
        if nested(group.domain) || nested(event.group.as_ref().and_then(|seen| seen.domain)) {
            return;
        }
        let since_ns = self.device(device).map(|device| device.since_ns);
        let Some((pasid, detached)) =
            event.pasid.and_then(|pasid| Some((pasid, group.former(pasid, &self.former)?)))
        else {
            return;
        };
        // A device that joined the group later never had it.
        let attached_ns = detached.attachment.attached_by.map(|by| by.mono_ns);
        if since_ns.zip(attached_ns).is_none_or(|(since, attached)| since >= attached) {
            return;
        }
        let (group, event) = (group.reference(), Box::new(event.clone()));
        transitions.push(Transition::RequestAfterDetach { group, pasid, detached, event });
    }
}
