//! Page requests of a device that name a PASID which is not attached, and when it was detached.
//!
//! A PASID that never was attached there may be anybody's invention: a guest can have its device send any. So it is with
//! what was detached before somebody took the group, and with all PASIDs while the RID is on a nested domain: where the
//! guest has the PASID table itself (`user_pasid_table` of `struct iommu_ops`), the host attaches none of them.

use std::collections::BTreeMap;

use monitor_ebpf::wire::Hook;

use crate::event::{Domain, DomainKind, Event, Key};

use super::group::{Actor, Attachment, Group, Presence};
use super::host::Host;
use super::transition::Transition;

/// More PASIDs than this that were detached, and those that were longest ago are forgotten.
const MAX_DETACHED: usize = 65_536;

/// A PASID that was attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detached {
    pub attachment: Attachment,
    /// Who detached it; when that had returned.
    pub by: Actor,
}

/// The PASIDs that a group had.
#[derive(Clone, Debug, Default)]
pub(super) struct Former {
    pasids: BTreeMap<u32, Detached>,
    /// When each was detached, and which.
    times: BTreeMap<(u64, u32), ()>,
}

impl Former {
    pub fn put(&mut self, pasid: u32, detached: Detached) {
        self.take(pasid);
        if self.pasids.len() >= MAX_DETACHED
            && let Some(((_, oldest), ())) = self.times.pop_first()
        {
            self.pasids.remove(&oldest);
        }
        self.times.insert((detached.by.mono_ns, pasid), ());
        self.pasids.insert(pasid, detached);
    }

    /// It is attached again, or it isn't known whether it is.
    pub fn take(&mut self, pasid: u32) {
        if let Some(detached) = self.pasids.remove(&pasid) {
            self.times.remove(&(detached.by.mono_ns, pasid));
        }
    }
}

/// Whether PASIDs may be a guest's own.
pub(super) fn nested(domain: Option<Domain>) -> bool {
    domain.is_some_and(|domain| domain.kind == DomainKind::Nested)
}

impl Group {
    /// A call returned: what was detached before counts no more if somebody else drives the devices from now on.
    pub(super) fn forget_former(&mut self, event: &Event) {
        let claims = matches!(event.hook, Hook::ClaimGroup | Hook::ClaimDevice);
        if claims || nested(self.domain) {
            self.former = Former::default();
        }
    }

    /// What is known of a PASID that was attached and was seen to be detached, and is so still for certain.
    pub(super) fn former(&self, pasid: u32) -> Option<Detached> {
        let gone = self.presence(pasid) == Presence::Absent && !self.in_flight.touches(pasid);
        self.former.pasids.get(&pasid).filter(|_| gone).copied()
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
        let Some((pasid, detached)) = event.pasid.and_then(|pasid| Some((pasid, group.former(pasid)?)))
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
