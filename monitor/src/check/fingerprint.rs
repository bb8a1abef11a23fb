//! By what a violation is known again: what it is of, and not when it was found.

use std::fmt;

use crate::model::Group;

use super::violation::{Finding, Subject};

/// The same cause on the same object has the same value, also after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub u64);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// 64-bit FNV-1a: short, and the same on every machine and in every release.
struct Fnv(u64);

impl Fnv {
    fn new() -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }

    fn part(&mut self, bytes: &[u8]) {
        for &byte in (bytes.len() as u64).to_le_bytes().iter().chain(bytes) {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

pub(super) fn fingerprint(
    finding: &Finding,
    group: Option<&Group>,
    devices: &[String],
    boot_id: &str,
) -> Fingerprint {
    let mut hash = Fnv::new();
    hash.part(finding.check.name.as_bytes());
    hash.part(boot_id.as_bytes());
    match group {
        Some(group) => hash.part(&group.id.to_le_bytes()),
        None => devices.iter().for_each(|device| hash.part(device.as_bytes())),
    }
    hash.part(finding.device.as_deref().unwrap_or_default().as_bytes());
    // The worse of two is another one.
    if finding.severity != finding.check.severity() {
        hash.part(finding.severity.name().as_bytes());
    }
    // Which of its PASIDs came first makes no other of it.
    let of_group = matches!(finding.subject, Subject::HandedOut { .. });
    for (pasid, attachment) in finding.pasids.iter().filter(|_| !of_group) {
        hash.part(&pasid.to_le_bytes());
        // What happened to one attachment can happen to the next one. A state is found again by whoever starts after us,
        // who has not seen the attach.
        if finding.subject.happened() {
            let by = attachment.attached_by.as_ref();
            hash.part(&by.map_or(0, |actor| actor.mono_ns).to_le_bytes());
        }
    }
    if let Subject::Advisory { id } = &finding.subject {
        hash.part(id.as_bytes());
    }
    if let Subject::Refused { bind, owned, holder, .. } = &finding.subject {
        hash.part(&[u8::from(*bind), u8::from(*owned)]);
        hash.part(holder.as_deref().unwrap_or_default().as_bytes());
    }
    Fingerprint(hash.0)
}
