//! Page requests of a device that wait for their response though their PASID was detached.
//!
//! A look reads them with the group's mutex held: nobody attaches or detaches meanwhile. That a request waits is no news
//! by itself, since it is answered by somebody else than who detaches; so it is kept since when it does.

use crate::event::{Event, Key};

use super::former::{Detached, Former};
use super::group::{Group, Presence};
use super::request::nested;

/// A page request that waits, of a PASID that is not attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unanswered {
    pub pasid: u32,
    /// Since when it waits without its PASID at least, in CLOCK_MONOTONIC ns.
    pub since_ns: u64,
    /// How that was detached, where it was seen.
    pub detached: Option<Detached>,
}

impl Group {
    /// What a look read of a member with the mutex held; `Some(None)`: no request of a PASID that is not attached waits.
    /// `None`: that is not known.
    pub(super) fn unanswered(&mut self, event: &Event, former: &Former) -> Option<Option<Unanswered>> {
        let (device, waits) = (event.device?.key, event.unanswered?);
        let known = self.unanswered_of(device);
        let members = &self.devices;
        self.unanswered.retain(|(key, _)| *key != device && members.contains(key));
        let Some(pasid) = waits else { return Some(None) };
        event.array.as_ref().filter(|array| array.complete && !array.has(pasid))?;
        let certain = self.is_known(event.mono_ns)
            && self.presence(pasid) == Presence::Absent
            && !self.in_flight.touches(pasid);
        // A guest that has the PASID table itself asks for what it likes, and is answered when it pleases.
        let domain = event.group.as_ref().map_or(self.domain, |group| group.domain);
        if !certain || nested(domain) || nested(self.domain) {
            return None;
        }
        let former = self.former(pasid, former);
        let first = || Unanswered {
            pasid,
            since_ns: former.map_or(event.mono_ns, |detached| detached.by.mono_ns),
            detached: former,
        };
        let unanswered = known.filter(|known| known.pasid == pasid).unwrap_or_else(first);
        self.unanswered.push((device, unanswered));
        Some(Some(unanswered))
    }

    fn unanswered_of(&self, device: Key) -> Option<Unanswered> {
        self.unanswered.iter().find(|(key, _)| *key == device).map(|(_, unanswered)| *unanswered)
    }
}
