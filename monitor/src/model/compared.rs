//! How the hardware's PASID tables compare: with the core's array, and with each other.

use crate::event::{PasidArray, TableEntry, TableKind, TableReading};

use super::look::{MAX_LISTED, Member};

/// The core's array against a hardware table, both read at the same moment. PASID 0 is left out: it is the
/// RID's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// Present in the hardware, and not in the array.
    pub extra: Vec<TableEntry>,
    /// In the array, and not present in the hardware. A PASID whose process has exited is none: the driver
    /// tore it down then, and the array keeps it until it is unbound.
    pub missing: Vec<u32>,
    /// In both.
    pub agreed: usize,
}

pub(super) fn compare(array: &PasidArray, table: &TableReading, max_pasids: Option<u32>) -> Compared {
    let mut compared = Compared::default();
    let takes = |pasid: u32| max_pasids.is_none_or(|max| pasid < max);
    for entry in array.pasids().filter(|entry| takes(entry.pasid)) {
        if table.get(entry.pasid).is_some() {
            compared.agreed += 1;
        } else if !entry.mm_exited && compared.missing.len() < MAX_LISTED {
            compared.missing.push(entry.pasid);
        }
    }
    for entry in table.pasids() {
        if !array.has(entry.pasid) && compared.extra.len() < MAX_LISTED {
            compared.extra.push(*entry);
        }
    }
    compared
}

/// PASIDs that two members behind one IOMMU have with another kind of translation, or under another tag. Behind
/// two IOMMUs one domain may well have two tags; and of AMD's tables (from 6.9) each has one of its own, for all its
/// entries.
pub(super) fn diverging(members: &[(Member, Option<Box<TableReading>>)]) -> Vec<u32> {
    let mut found = Vec::new();
    for (index, (one, table)) in members.iter().enumerate() {
        let Some(table) = table.as_ref().filter(|table| table.is_whole()) else { continue };
        for (other, others) in &members[index + 1..] {
            let Some(others) = others.as_ref().filter(|others| others.is_whole()) else { continue };
            if others.kind != table.kind {
                continue;
            }
            let by_domain = table.kind != TableKind::Amd;
            if !by_domain || one.state.iommu.is_none() || one.state.iommu != other.state.iommu {
                continue;
            }
            let differs = table
                .pasids()
                .filter(|entry| others.get(entry.pasid).is_some_and(|same| same != *entry))
                .map(|entry| entry.pasid);
            found.extend(differs.take(MAX_LISTED));
        }
    }
    found.sort_unstable();
    found.dedup();
    found.truncate(MAX_LISTED);
    found
}
