//! A group and its devices' hardware PASID tables.

use serde::Serialize;
use serde_json::Value as Json;

use crate::event::{Name, TableEntry, TableReading};
use crate::watcher::{GroupState, Tables};

use super::{AttachmentObject, Context, DomainObject, attachment, domain, to_json};

/// A group as an object, as /api/v1/groups and the one-shot give it: what a line of kind `state` says, and its tables.
pub fn group(state: &GroupState, tables: Option<&Tables<'_>>, context: &Context<'_>) -> Json {
    to_json(GroupObject {
        state: state_line(state, context),
        tables: tables.map(|tables| readings(tables, context)),
    })
}

#[derive(Serialize)]
struct GroupObject<'a> {
    #[serde(flatten)]
    state: StateLine<'a>,
    tables: Option<Vec<ReadingObject<'a>>>,
}

#[derive(Serialize)]
struct ReadingObject<'a> {
    device: &'a str,
    ts: String,
    mono_ns: u64,
    #[serde(flatten)]
    table: TableObject,
}

fn readings<'a>(tables: &'a Tables<'_>, context: &Context<'_>) -> Vec<ReadingObject<'a>> {
    let reading = |(device, of): &'a (Name, &TableReading)| ReadingObject {
        device,
        ts: context.clock.rfc3339(tables.mono_ns),
        mono_ns: tables.mono_ns,
        table: table(of),
    };
    tables.of.iter().map(reading).collect()
}

#[derive(Serialize)]
pub(super) struct StateLine<'a> {
    group: u32,
    knowledge: &'static str,
    devices: &'a [String],
    iommu_driver: Option<&'a str>,
    ownership: Option<&'static str>,
    owner_cnt: Option<u32>,
    domain: Option<DomainObject>,
    default_domain: Option<DomainObject>,
    pasids: Option<Vec<AttachmentObject>>,
    sva_bonds: usize,
}

pub(super) fn state_line<'a>(state: &'a GroupState, context: &Context<'_>) -> StateLine<'a> {
    let pasids = state.pasids.as_ref();
    StateLine {
        group: state.id,
        knowledge: state.knowledge.name(),
        devices: &state.devices,
        iommu_driver: state.iommu_driver.as_deref(),
        ownership: state.owner.map(|owner| owner.name()),
        owner_cnt: state.owner_cnt,
        domain: state.domain.as_ref().map(domain),
        default_domain: state.default_domain.as_ref().map(domain),
        pasids: pasids.map(|pasids| pasids.iter().map(|pasid| attachment(pasid, context)).collect()),
        sva_bonds: state.bonds,
    }
}

#[derive(Serialize)]
pub(super) struct TableObject {
    kind: &'static str,
    per_domain: bool,
    complete: bool,
    entries: Vec<EntryObject>,
}

#[derive(Serialize)]
struct EntryObject {
    pasid: u32,
    kind: u32,
    tag: u32,
}

pub(super) fn table(table: &TableReading) -> TableObject {
    let entry = |entry: &TableEntry| EntryObject { pasid: entry.pasid, kind: entry.kind, tag: entry.tag };
    TableObject {
        kind: table.kind.name(),
        per_domain: table.per_domain,
        complete: table.complete,
        entries: table.entries.iter().map(entry).collect(),
    }
}
