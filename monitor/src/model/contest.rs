//! Who of several calls at once attached a PASID: what stands in `pasid_array` tells, if one of them named its domain.
//! Without a handle it names none, from 6.11 to 6.14 (XA_ZERO_ENTRY).

use crate::event::{Domain, Event};

use super::group::Attachment;
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

    /// What stands now, by what was read of it: who attached it and, where the array does not name the domain, on what
    /// it is are known only if it can't be any of several.
    pub fn outcome(&self, read: Option<Domain>) -> Attachment {
        let is_it = |domain: Option<Domain>| match (read, domain) {
            (Some(read), Some(named)) => named.key == read.key,
            _ => true,
        };
        let mut fitting = self.rivals.iter().map(|rival| rival.attachment).filter(|one| is_it(one.domain));
        let first = fitting.next().filter(|_| !self.too_many);
        let (mut attached_by, mut domain) = first.map_or((None, None), |one| (one.attached_by, one.domain));
        for other in fitting {
            attached_by = None;
            domain = domain.filter(|named| other.domain.is_some_and(|other| other.key == named.key));
        }
        Attachment { domain: read.or(domain), attached_by }
    }
}
