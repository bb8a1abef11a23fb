//! The record of a snapshot → typed event.

use std::mem::offset_of;

use monitor_ebpf::wire::{self, Hook, SnapshotHead, known, state};
use zerocopy::{FromBytes, IntoBytes};

use super::{
    DeviceState, Event, Identities, Key, Malformed, PasidArray, TableEntry, TableKind, TableReading,
    decode::{array_entry, operation},
};

/// Whether a record is a snapshot: its hook tells.
pub fn is_one(bytes: &[u8]) -> bool {
    let at = offset_of!(wire::Header, hook);
    let Some(&[low, high]) = bytes.get(at..at + 2) else { return false };
    Hook::from_number(u16::from_le_bytes([low, high])).is_some_and(wire::is_shaped_so)
}

/// A snapshot in its parts.
struct Parts<'a> {
    head: SnapshotHead,
    array: &'a [u8],
    table: &'a [u8],
}

/// Takes a snapshot apart. The bytes are hostile until this has passed them.
fn parts(bytes: &[u8]) -> Result<Parts<'_>, Malformed> {
    let (head, entries) = SnapshotHead::read_from_prefix(bytes).map_err(|_| Malformed::Size(bytes.len()))?;
    let told = u64::from(head.array.len) + u64::from(head.table.len);
    let wrong = Malformed::Snapshot(bytes.len(), told);
    if told.checked_mul(size_of::<wire::ArrayEntry>() as u64) != Some(entries.len() as u64) {
        return Err(wrong);
    }
    let array = head.array.len as usize * size_of::<wire::ArrayEntry>();
    let (array, table) = entries.split_at_checked(array).ok_or(wrong)?;
    Ok(Parts { head, array, table })
}

/// Decodes a snapshot.
pub fn decode(bytes: &[u8]) -> Result<Box<Event>, Malformed> {
    let Parts { head, array, table } = parts(bytes)?;
    let has = |bit: u32| head.operation.header.known & bit != 0;
    let mut event = operation(&head.operation)?;
    if let Some(device) = event.device.as_mut().filter(|_| has(known::STATE)) {
        device.state = Some(device_state(&head.state));
    }
    if has(known::REQUESTS) {
        event.unanswered = Some(Some(head.operation.pasid).filter(|&pasid| pasid != 0));
    }
    if has(known::ARRAY) {
        let mut entries: Vec<_> = records(array)?.iter().map(array_entry).collect();
        entries.sort_by_key(|entry| entry.pasid);
        event.array = Some(PasidArray { entries, complete: head.array.complete != 0 });
    }
    if has(known::ENTRIES) {
        let mut entries: Vec<_> = records(table)?.iter().map(table_entry).collect();
        entries.sort_by_key(|entry| entry.pasid);
        event.table = Some(Box::new(TableReading {
            kind: kind(head.table_kind)?,
            per_domain: head.table_per_domain != 0,
            entries,
            complete: head.table.complete != 0,
        }));
    }
    Ok(event)
}

/// The same snapshot without pointers.
pub fn rename(identities: &mut Identities, bytes: &[u8]) -> Result<Vec<u8>, Malformed> {
    let Parts { mut head, array, table } = parts(bytes)?;
    identities.operation(&mut head.operation)?;
    identities.pointer(&mut head.state.iommu);
    let mut out = head.as_bytes().to_vec();
    for mut entry in records::<wire::ArrayEntry>(array)? {
        identities.domain(&mut entry.domain);
        out.extend(entry.as_bytes());
    }
    for entry in records::<wire::TableEntry>(table)? {
        out.extend(wire::TableEntry { reserved: [0; 3], ..entry }.as_bytes());
    }
    Ok(out)
}

/// The ring aligns a record to 8 bytes, a recording to nothing: so each entry is copied.
fn records<T: FromBytes>(bytes: &[u8]) -> Result<Vec<T>, Malformed> {
    let record = |entry| T::read_from_bytes(entry).map_err(|_| Malformed::Size(bytes.len()));
    bytes.chunks_exact(size_of::<T>()).map(record).collect()
}

fn device_state(record: &wire::State) -> DeviceState {
    let known = |bit: u32| (record.known & bit != 0).then_some(record.set & bit != 0);
    DeviceState {
        bound: known(state::BOUND).unwrap_or(false),
        deferred: known(state::DEFERRED).unwrap_or(false),
        blocked: known(state::BLOCKED).unwrap_or(false),
        iommu: Key::new(record.iommu),
        ats: known(state::ATS),
        pri: known(state::PRI),
        pasid: known(state::PASID),
    }
}

fn table_entry(record: &wire::TableEntry) -> TableEntry {
    TableEntry { pasid: record.pasid, kind: record.kind, tag: record.tag }
}

fn kind(number: u32) -> Result<TableKind, Malformed> {
    wire::TableKind::from_number(number).map(TableKind::from).ok_or(Malformed::Table(number))
}

#[cfg(test)]
mod tests {
    use monitor_ebpf::wire::Encoding;

    use super::*;
    use crate::event;

    const POINTER: u64 = 0xffff_8881_2345_6700;

    /// A snapshot of a VT-d device with these PASIDs in the array and these entries in the table.
    fn snapshot(array: &[u32], table: &[(u32, u32, u32)]) -> Vec<u8> {
        let mut head = SnapshotHead::read_from_bytes(&[0; size_of::<SnapshotHead>()]).expect("any bytes");
        let header = &mut head.operation.header;
        header.hook = Hook::SnapshotIntel as u16;
        header.known =
            known::GROUP | known::DEVICE | known::STATE | known::ARRAY | known::ENTRIES | known::TABLE;
        (head.operation.group.key, head.operation.device.key, head.operation.device.table) =
            (POINTER, POINTER + 8, POINTER + 16);
        head.state = wire::State {
            iommu: POINTER + 24,
            set: state::BOUND | state::ATS,
            known: state::BOUND | state::ATS,
        };
        head.array = wire::Part { len: array.len() as u32, complete: 1 };
        head.table = wire::Part { len: table.len() as u32, complete: 1 };
        head.table_kind = wire::TableKind::Vtd as u32;
        let mut bytes = head.as_bytes().to_vec();
        for &pasid in array {
            let domain = wire::Domain { key: POINTER + 32, kind: 1, kind_known: 1 };
            let entry = wire::ArrayEntry { domain, pasid, encoding: Encoding::Domain as u16, flags: 0 };
            bytes.extend(entry.as_bytes());
        }
        for &(pasid, kind, tag) in table {
            bytes.extend(wire::TableEntry { pasid, kind, tag, reserved: [0; 3] }.as_bytes());
        }
        bytes
    }

    #[test]
    fn array_and_table_are_told_apart() {
        let event = event::decode(&snapshot(&[7, 5], &[(7, 1, 3), (0, 2, 4)])).expect("well-formed");
        let array = event.array.expect("an array");
        assert_eq!(array.entries.iter().map(|entry| entry.pasid).collect::<Vec<_>>(), [5, 7]);
        let table = event.table.expect("a table");
        let expected = [TableEntry { pasid: 0, kind: 2, tag: 4 }, TableEntry { pasid: 7, kind: 1, tag: 3 }];
        assert_eq!((table.kind, table.entries.as_slice()), (TableKind::Vtd, &expected[..]));
        let state = event.device.and_then(|device| device.state).expect("a state");
        assert_eq!((state.bound, state.ats, state.pri), (true, Some(true), None));
    }

    #[test]
    fn a_request_that_waits_is_told_by_its_pasid() {
        let told = |known: u32, pasid: u32| {
            let mut bytes = snapshot(&[5], &[]);
            let at = offset_of!(SnapshotHead, operation);
            let known_at = at + offset_of!(wire::Operation, header) + offset_of!(wire::Header, known);
            let pasid_at = at + offset_of!(wire::Operation, pasid);
            let known = known | (known::GROUP | known::DEVICE | known::ARRAY);
            bytes[known_at..known_at + 4].copy_from_slice(&known.to_le_bytes());
            bytes[pasid_at..pasid_at + 4].copy_from_slice(&pasid.to_le_bytes());
            let renamed = Identities::default().rename(&bytes).expect("well-formed");
            let event = event::decode(&renamed).expect("well-formed");
            assert_eq!(event.pasid, None, "no call on it was made");
            event.unanswered
        };
        assert_eq!(told(known::REQUESTS, 9), Some(Some(9)));
        assert_eq!(told(known::REQUESTS, 0), Some(None));
        assert_eq!(told(0, 9), None);
    }

    #[test]
    fn a_snapshot_without_entries_is_one() {
        let event = event::decode(&snapshot(&[], &[])).expect("well-formed");
        assert!(event.array.is_some_and(|array| array.entries.is_empty() && array.complete));
    }

    #[test]
    fn lengths_that_do_not_fit_are_refused() {
        let good = snapshot(&[5], &[(5, 1, 3)]);
        for len in 0..good.len() {
            assert!(event::decode(&good[..len]).is_err(), "{len} bytes");
        }
        assert!(event::decode(&[good.clone(), vec![0; 24]].concat()).is_err());
        let mut huge = good.clone();
        let at = offset_of!(SnapshotHead, array);
        huge[at..at + 4].fill(0xff);
        assert!(event::decode(&huge).is_err());
        let mut strange = good;
        strange[offset_of!(SnapshotHead, table_kind)] = 9;
        assert_eq!(event::decode(&strange), Err(Malformed::Table(9)));
    }

    #[test]
    fn without_its_pointers_it_says_the_same() {
        let bytes = snapshot(&[5, 6], &[(5, 1, 3)]);
        let renamed = Identities::default().rename(&bytes).expect("well-formed");
        assert_eq!(renamed.len(), bytes.len());
        assert!(!renamed.windows(4).any(|window| window == [0x81, 0x88, 0xff, 0xff]));
        let (before, after) = (event::decode(&bytes), event::decode(&renamed));
        let (before, after) = (before.expect("well-formed"), after.expect("well-formed"));
        assert_eq!(after.table, before.table);
        let pasids = |event: &Event| event.array.as_ref().map(|array| array.entries.len());
        assert_eq!(pasids(&after), pasids(&before));
        assert!(after.device.is_some_and(|device| device.state.is_some_and(|state| state.iommu.is_some())));
    }
}
