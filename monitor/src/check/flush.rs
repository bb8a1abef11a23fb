//! What the checks of flushes have in common.

use crate::event::{Cache, Flush, TableKind};
use crate::model::{Attachment, Flushed, Group, GroupRef};

use super::violation::{Read, Subject, Value};

/// The PASID that it is about, with what is known of its attachment; entry 0 is the RID's own and no PASID.
pub(super) fn pasids(flush: &Flush, group: Option<&Group>) -> Vec<(u32, Attachment)> {
    let pasid = flush.entry.pasid;
    if pasid == 0 {
        return Vec::new();
    }
    let unknown = Attachment { domain: None, attached_by: None };
    let known = group.and_then(|group| group.attachment(pasid)).copied();
    vec![(pasid, known.unwrap_or(unknown))]
}

/// What it is about: the caches of one entry, in one call.
pub(super) fn subject(group: GroupRef, flushed: &Flushed<'_>) -> Subject {
    // Without a caller it is the driver's own doing, when an mm exits.
    let call_ns = if flushed.called { flushed.by.mono_ns } else { 0 };
    let device = flushed.event.device.map(|device| device.key);
    Subject::Flushed { group, entry: (device, flushed.flush.entry.pasid), call_ns }
}

/// The entry in words: `PASID 5`, or the RID's own.
pub(super) fn entry(flush: &Flush) -> String {
    match flush.entry.pasid {
        0 => "the RID's own entry".into(),
        pasid => format!("PASID {pasid}"),
    }
}

/// The device in words.
pub(super) fn device(flushed: &Flushed<'_>) -> String {
    flushed.event.device.map_or("a device".into(), |device| device.name.to_string())
}

/// Caches as a list for a person: `PASID cache and device TLB`.
pub(super) fn list(caches: &[Cache]) -> String {
    let names: Vec<&str> = caches.iter().map(|cache| cache.name()).collect();
    match names.as_slice() {
        [] => "nothing".into(),
        [one] => (*one).into(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

pub(super) fn names(what: &'static str, caches: &[Cache]) -> Read {
    Read { what, value: Value::Names(caches.iter().map(|cache| cache.name().to_owned()).collect()) }
}

/// How the hardware had the entry.
pub(super) fn tag(flush: &Flush) -> Read {
    let what = match flush.vendor {
        Some(TableKind::SmmuV3) => "ASID of the entry",
        Some(TableKind::Vtd | TableKind::Amd) | None => "domain id of the entry",
    };
    Read { what, value: Value::Count(flush.entry.tag) }
}
