//! The kernel's pointers in a record, exchanged for small numbers: a record that leaves the host must not
//! tell where the kernel's objects lie (that would undo KASLR), and nothing but their identity counts.
//!
//! It stands beside the decoder: every member that holds a pointer, or that could, is named here.

use std::collections::HashMap;

use monitor_ebpf::wire::{self, Hook, Phase, known};
use zerocopy::{FromBytes, IntoBytes};

use super::decode::{MAX_ERRNO, Malformed, Returns, returns};
use super::{Key, snapshot};

/// The numbers of the pointers so far. Equal pointers have equal numbers, and null stays 0.
#[derive(Debug, Default)]
pub struct Identities {
    numbers: HashMap<u64, u64>,
}

impl Identities {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// The same record without pointers. What a record holds beyond what it says is cleared: a register of
    /// a function that returns nothing holds whatever was left in it.
    pub fn rename(&mut self, bytes: &[u8]) -> Result<Vec<u8>, Malformed> {
        if snapshot::is_one(bytes) {
            snapshot::rename(self, bytes)
        } else if bytes.len() == size_of::<wire::Inventory>() {
            let mut record =
                wire::Inventory::read_from_bytes(bytes).map_err(|_| Malformed::Size(bytes.len()))?;
            self.operation(&mut record.operation)?;
            self.array(&mut record.array);
            Ok(record.as_bytes().to_vec())
        } else if bytes.len() == size_of::<wire::Flushing>() {
            let mut record =
                wire::Flushing::read_from_bytes(bytes).map_err(|_| Malformed::Size(bytes.len()))?;
            self.operation(&mut record.operation)?;
            self.pointer(&mut record.flush.iommu);
            Ok(record.as_bytes().to_vec())
        } else if bytes.len() == size_of::<wire::Ranging>() {
            let mut record =
                wire::Ranging::read_from_bytes(bytes).map_err(|_| Malformed::Size(bytes.len()))?;
            self.operation(&mut record.operation)?;
            record.range.reserved = 0;
            Ok(record.as_bytes().to_vec())
        } else {
            let mut record =
                wire::Operation::read_from_bytes(bytes).map_err(|_| Malformed::Size(bytes.len()))?;
            self.operation(&mut record)?;
            Ok(record.as_bytes().to_vec())
        }
    }

    /// The number of a key, for what names one beside the records.
    pub fn number_of(&mut self, key: Key) -> u64 {
        self.number(key.0.get())
    }

    pub(super) fn operation(&mut self, record: &mut wire::Operation) -> Result<(), Malformed> {
        let hook = Hook::from_number(record.header.hook).ok_or(Malformed::Hook(record.header.hook))?;
        let phase = Phase::from_number(record.header.phase).ok_or(Malformed::Phase(record.header.phase))?;
        (record.header.set, record.group.reserved) = (0, 0);
        let tagged = record.header.known & known::TAGS != 0;
        record.tags &= if tagged { wire::tags::ALL } else { 0 };
        if record.header.known & known::TOOK == 0 {
            record.device.took_us = 0;
        }
        self.pointer(&mut record.group.key);
        self.pointer(&mut record.group.owner);
        self.domain(&mut record.group.domain);
        self.domain(&mut record.group.default_domain);
        self.domain(&mut record.group.blocking_domain);
        self.pointer(&mut record.device.key);
        self.pointer(&mut record.device.table);
        self.domain(&mut record.domain);
        self.domain(&mut record.old);
        self.pointer(&mut record.owner);
        self.pointer(&mut record.handle);
        self.pointer(&mut record.mm);
        self.domain(&mut record.slot.domain);
        record.ret = match (phase, returns(hook)) {
            (Phase::End, Returns::Errno) => i64::from(record.ret as i32),
            (Phase::End, Returns::Pasid) => i64::from(record.ret as u32),
            (Phase::End, Returns::Pointer | Returns::Domain) if (-MAX_ERRNO..=0).contains(&record.ret) => {
                record.ret
            }
            (Phase::End, Returns::Pointer) => self.number(record.ret as u64) as i64,
            _ => 0,
        };
        Ok(())
    }

    fn array(&mut self, array: &mut wire::PasidArray) {
        for (index, entry) in array.entries.iter_mut().enumerate() {
            if index < array.len as usize {
                self.domain(&mut entry.domain);
            } else {
                *entry = wire::ArrayEntry::default();
            }
        }
    }

    pub(super) fn domain(&mut self, domain: &mut wire::Domain) {
        self.pointer(&mut domain.key);
    }

    pub(super) fn pointer(&mut self, pointer: &mut u64) {
        *pointer = self.number(*pointer);
    }

    fn number(&mut self, pointer: u64) -> u64 {
        let next = self.numbers.len() as u64 + 1;
        if pointer == 0 { 0 } else { *self.numbers.entry(pointer).or_insert(next) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::decode;

    /// A record whose every byte is of a pointer, but for those that the decoder must understand.
    fn pointers(hook: Hook, phase: Phase) -> wire::Inventory {
        let mut bytes = [0; size_of::<wire::Inventory>()];
        for (index, chunk) in bytes.chunks_exact_mut(8).enumerate() {
            chunk.copy_from_slice(&(0xffff_8881_2345_0000 + index as u64 * 64).to_le_bytes());
        }
        let mut record = wire::Inventory::read_from_bytes(&bytes).expect("an inventory");
        record.operation.header = wire::Header {
            time_ns: 1,
            sequence: 2,
            task: wire::Task { tid: 3, tgid: 4, comm: *b"vfio\0\0\0\0\0\0\0\0\0\0\0\0" },
            cpu: 5,
            stack: -1,
            hook: hook as u16,
            phase: phase as u8,
            set: 0xff,
            known: known::GROUP
                | known::OWNER
                | known::DEVICE
                | known::TABLE
                | known::DOMAIN
                | known::OLD
                | known::CLAIMANT
                | known::HANDLE
                | known::MM
                | known::ARRAY,
        };
        record.operation.device.name = *b"0000:01:00.0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        record.array.len = 2;
        for domain in domains(&mut record) {
            (domain.kind, domain.kind_known) = (1, 1);
        }
        let group = &mut record.operation.group;
        (group.id, group.owner_cnt, group.recovery_cnt) = (7, 1, 0);
        record.operation.device.max_pasids = 16;
        (record.operation.pasid, record.array.complete) = (5, 1);
        let slot = &mut record.operation.slot;
        for entry in record.array.entries.iter_mut().chain([slot]) {
            (entry.pasid, entry.encoding, entry.flags) = (5, 1, 0);
        }
        record
    }

    fn domains(record: &mut wire::Inventory) -> Vec<&mut wire::Domain> {
        let operation = &mut record.operation;
        let group = &mut operation.group;
        let mut all = vec![
            &mut group.domain,
            &mut group.default_domain,
            &mut group.blocking_domain,
            &mut operation.domain,
            &mut operation.old,
            &mut operation.slot.domain,
        ];
        all.extend(record.array.entries.iter_mut().map(|entry| &mut entry.domain));
        all
    }

    /// The upper half of any kernel pointer that [`pointers`] has put in.
    fn has_pointer(bytes: &[u8]) -> bool {
        bytes.windows(4).any(|window| window == [0x81, 0x88, 0xff, 0xff])
    }

    #[test]
    fn no_byte_of_a_pointer_survives() {
        for &hook in Hook::ALL.iter().filter(|&&hook| !wire::is_shaped_so(hook)) {
            for phase in [Phase::Point, Phase::Begin, Phase::End] {
                let record = pointers(hook, phase);
                let whole = Identities::default().rename(record.as_bytes()).expect("a record");
                let short = Identities::default().rename(record.operation.as_bytes()).expect("a record");
                assert!(has_pointer(record.as_bytes()) && has_pointer(record.operation.as_bytes()));
                assert!(!has_pointer(&whole), "{}: {whole:x?}", hook.name());
                assert!(!has_pointer(&short), "{}: {short:x?}", hook.name());
            }
        }
    }

    #[test]
    fn equal_stays_equal_and_nothing_stays_nothing() {
        let mut record = pointers(Hook::PasidAttach, Phase::End).operation;
        record.domain.key = record.group.domain.key;
        record.owner = 0;
        let mut identities = Identities::default();
        let renamed = decode(&identities.rename(record.as_bytes()).expect("a record")).expect("an event");
        let group = renamed.group.expect("a group");
        assert_eq!(renamed.domain, group.domain);
        assert_ne!(renamed.domain, group.default_domain);
        assert_eq!(renamed.owner, None);
        let again = decode(&identities.rename(record.as_bytes()).expect("a record")).expect("an event");
        assert_eq!(again, renamed);
    }

    #[test]
    fn a_bond_is_told_by_its_bind_and_its_unbind_alike() {
        let mut identities = Identities::default();
        let mut bind = pointers(Hook::SvaBind, Phase::End).operation;
        bind.header.known &= !known::HANDLE;
        let mut unbind = pointers(Hook::SvaUnbind, Phase::Begin).operation;
        unbind.handle = bind.ret as u64;
        let [bind, unbind] = [bind, unbind].map(|record| {
            decode(&identities.rename(record.as_bytes()).expect("a record")).expect("an event")
        });
        assert!(bind.bond.is_some());
        assert_eq!(bind.bond, unbind.bond);
    }

    #[test]
    fn what_a_call_returned_is_kept() {
        let ret = |hook: Hook, ret: i64| {
            let mut record = pointers(hook, Phase::End).operation;
            record.ret = ret;
            let bytes = Identities::default().rename(record.as_bytes()).expect("a record");
            decode(&bytes).expect("an event").ret
        };
        assert_eq!(ret(Hook::SvaBind, -12), Some(-12));
        assert_eq!(ret(Hook::SvaBind, 0), Some(0));
        assert_eq!(ret(Hook::PasidAttach, 0xffff_ffea), Some(-22));
        assert_eq!(ret(Hook::PasidDetach, 0x7fff_0000), None);
    }
}
