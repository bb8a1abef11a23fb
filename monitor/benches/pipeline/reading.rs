//! What our own read of a group's `reserved_regions` makes the kernel report: each member and the group on entry,
//! each member with all that it has under the mutex, and the first of it again on return.

use monitor_ebpf::wire::{
    ArrayEntry, Hook, Part, Phase, SnapshotHead, State, TableEntry, TableKind, known, state,
};
use zerocopy::{FromZeros, IntoBytes};

use crate::world::{Batch, Call, Group, Use, World, address, entry};

/// VT-d's PGTT of an entry of the second level.
const SECOND_LEVEL: u32 = 2;

impl World {
    /// Every group is read.
    pub fn snapshot(&mut self, batch: &mut Batch) {
        for group in 0..self.groups.len() {
            self.survey(group, Phase::Begin, batch);
            self.member(group, Hook::SnapshotIntel, Phase::Point, batch);
            self.survey(group, Phase::End, batch);
        }
    }

    /// The core's own function: the member, then the group.
    fn survey(&mut self, group: usize, phase: Phase, batch: &mut Batch) {
        self.member(group, Hook::SnapshotGroup, phase, batch);
        let call = Call { device: false, ..Call::on(Hook::SnapshotGroup, group, 0) };
        let mut head = self.head(&call, phase);
        head.operation.header.known |= known::MEMBERS;
        head.members = Part { len: 1, complete: 1 };
        send(head, Some(&self.groups[group]), false, Hook::SnapshotGroup, phase, batch);
    }

    /// The member; under the mutex with the array and its table.
    fn member(&mut self, group: usize, hook: Hook, phase: Phase, batch: &mut Batch) {
        let mut head = self.head(&Call::on(hook, group, 0), phase);
        let state = &self.groups[group];
        let driver = if state.serves == Use::Spare { 0 } else { state::BOUND };
        head.operation.header.known |= known::STATE;
        head.state = State {
            iommu: address(8, 1),
            set: driver | state::ATS | state::PASID,
            known: state::BOUND | state::DEFERRED | state::BLOCKED | state::ATS | state::PRI | state::PASID,
        };
        let locked = hook == Hook::SnapshotIntel;
        send(head, Some(state).filter(|_| locked), locked, hook, phase, batch);
    }

    fn head(&mut self, call: &Call, phase: Phase) -> SnapshotHead {
        SnapshotHead { operation: self.operation(call, phase, 0), ..SnapshotHead::new_zeroed() }
    }
}

/// Appends the record, with the group's array and the device's table where they are read.
fn send(
    mut head: SnapshotHead,
    array: Option<&Group>,
    table: bool,
    hook: Hook,
    phase: Phase,
    batch: &mut Batch,
) {
    let part = |len: usize| Part { len: len as u32, complete: 1 };
    let mut entries: Vec<ArrayEntry> = Vec::new();
    let mut tables: Vec<TableEntry> = Vec::new();
    if let Some(group) = array {
        entries.extend(group.array.iter().map(|known| entry(group, known)));
        head.operation.header.known |= known::ARRAY;
        head.array = part(entries.len());
        if table {
            let present = |pasid| TableEntry { pasid, kind: SECOND_LEVEL, tag: group.id, reserved: [0; 3] };
            tables.push(present(0));
            tables.extend(group.array.iter().map(|known| present(known.pasid)));
            head.operation.header.known |= known::ENTRIES;
            head.table = part(tables.len());
            head.table_kind = TableKind::Vtd as u32;
        }
    }
    let record = [head.as_bytes(), entries.as_bytes(), tables.as_bytes()].concat();
    batch.push(&record, hook, phase);
}
