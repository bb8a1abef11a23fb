//! Who of several calls at once attached a PASID: what stands in `pasid_array` tells, if one of them named its domain.

use crate::event::{Domain, Event};

use super::group::{Actor, Attachment};
use super::order::Operation;

/// More calls at once than this on one PASID, and it isn't told which of them attached it.
const MAX_RIVALS: usize = 16;

/// Calls that overlapped with others on one PASID, and that each attached it.
#[derive(Clone, Debug, Default)]
pub(super) struct Contest {
    rivals: Vec<Rival>,
    too_many: bool,
}

#[derive(Clone, Copy, Debug)]
struct Rival {
    attachment: Attachment,
    /// CLOCK_MONOTONIC, ns; 0: not seen.
    began_ns: u64,
    returned_ns: u64,
}

impl Contest {
    /// A call that overlapped with others returned, and had attached this. Each took the mutex at a moment between its begin
    /// and its return: who had returned when another began was not the last.
    pub fn enter(&mut self, attachment: Attachment, operation: Option<&Operation>, end: &Event) {
        let (began_ns, returned_ns) = (operation.map_or(0, |call| call.begin.mono_ns), end.mono_ns);
        self.rivals.retain(|rival| rival.returned_ns >= began_ns);
        if self.rivals.iter().any(|rival| rival.began_ns > returned_ns) {
            return;
        }
        self.too_many |= self.rivals.len() >= MAX_RIVALS;
        if !self.too_many {
            self.rivals.push(Rival { attachment, began_ns, returned_ns });
        }
    }

    /// Who attached the domain that stands now; `None`: it may be any of several.
    pub fn winner(&self, domain: Domain) -> Option<Actor> {
        let names_it = |rival: &&Rival| rival.attachment.domain.is_none_or(|named| named.key == domain.key);
        let mut fitting = self.rivals.iter().filter(names_it);
        match (fitting.next(), fitting.next()) {
            (Some(one), None) if !self.too_many => one.attachment.attached_by,
            _ => None,
        }
    }
}
