//! What a call may change of its group's state, and what those that overlapped with it may have changed.

use monitor_ebpf::wire::Hook;

use crate::event::{Event, Key};

/// What of a group's state a call may change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Touches {
    pub ownership: bool,
    pub domain: bool,
    pub pasid: Option<Pasids>,
    pub bonds: Option<Bonds>,
}

/// Of whose bonds a call changes the count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bonds {
    Of(Key),
    Any,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pasids {
    One(u32),
    Any,
}

impl Pasids {
    pub fn has(self, pasid: u32) -> bool {
        match self {
            Pasids::One(one) => one == pasid,
            Pasids::Any => true,
        }
    }
}

impl Touches {
    /// What the call of this record may change.
    pub fn by(event: &Event) -> Touches {
        let bonds = matches!(event.hook, Hook::SvaBind | Hook::SvaUnbind)
            .then(|| event.mm.map_or(Bonds::Any, Bonds::Of));
        Touches { bonds, ..Touches::of(event.hook, event.pasid) }
    }

    pub fn of(hook: Hook, pasid: Option<u32>) -> Touches {
        let nothing = Touches::default();
        match hook {
            Hook::ClaimGroup
            | Hook::ReleaseGroup
            | Hook::ClaimDevice
            | Hook::ReleaseDevice
            | Hook::ReleaseLocked => Touches { ownership: true, domain: true, ..nothing },
            Hook::UseDefault | Hook::UnuseDefault => Touches { ownership: true, ..nothing },
            Hook::RidAttach
            | Hook::AttachDevice
            | Hook::DetachDevice
            | Hook::AttachGroup
            | Hook::DetachGroup
            | Hook::AttachGroupHandle
            | Hook::DetachGroupHandle
            | Hook::ReplaceGroupHandle
            | Hook::ReplaceGroupDomain
            | Hook::DeviceRelease => Touches { domain: true, ..nothing },
            Hook::PasidAttach | Hook::PasidReplace | Hook::PasidDetach => {
                Touches { pasid: Some(pasid.map_or(Pasids::Any, Pasids::One)), ..nothing }
            }
            // An SVA bind or unbind changes the array only through the PASID calls nested in it, and
            // they report themselves. The drivers' entries are hardware, not the core's state, and a reset leaves
            // that as it is: what its RID is on meanwhile, the attach inside it tells.
            Hook::SvaBind
            | Hook::SvaUnbind
            | Hook::DeviceAdd
            | Hook::DeviceRemove
            | Hook::GroupRelease
            | Hook::VtdSetupFirst
            | Hook::VtdSetupSecond
            | Hook::VtdSetupPassThrough
            | Hook::VtdSetupNested
            | Hook::VtdTearDown
            | Hook::VtdTagAssign
            | Hook::VtdTagUnassign
            | Hook::VtdAttach
            | Hook::VtdTableAlloc
            | Hook::VtdTableFree
            | Hook::VtdTableLeft
            | Hook::VtdQueue
            | Hook::IoPageFault
            | Hook::VtdSync
            | Hook::VtdRangeQueue
            | Hook::VtdMmFlush
            | Hook::VtdSubmit
            | Hook::DevicePresent
            | Hook::SnapshotGroup
            | Hook::SnapshotIntel
            | Hook::SnapshotAmd
            | Hook::SnapshotDma
            | Hook::PasidAlloc
            | Hook::PasidFree
            | Hook::MmDrop
            | Hook::MmExit
            | Hook::DomainAlloc
            | Hook::DomainFree
            | Hook::VtdDomainFree
            | Hook::AmdDomainFree
            | Hook::ResetPrepare
            | Hook::ResetDone
            | Hook::ResetFunction
            | Hook::ResetFlr
            | Hook::PageRequest
            | Hook::PasidOn
            | Hook::PasidOff
            | Hook::AtsOn
            | Hook::AtsOff
            | Hook::VtdDetach
            | Hook::AmdDetach
            | Hook::SmmuDetach
            | Hook::AmdClear
            | Hook::AmdTableFree
            | Hook::AmdTableLeft
            | Hook::AmdQueue
            | Hook::AmdWait
            | Hook::AmdSet
            | Hook::SmmuClear
            | Hook::SmmuQueue
            | Hook::SmmuRemove
            | Hook::SmmuSet
            | Hook::SmmuTableLeft => nothing,
        }
    }
}

/// What the calls of other tasks that overlapped with a call may have changed meanwhile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overlap {
    ownership: bool,
    domain: bool,
    any_pasid: bool,
    pasids: Vec<u32>,
    any_bond: bool,
    bonds: Vec<Key>,
}

/// Beyond this many PASIDs an overlap counts as one with every PASID.
const MAX_OVERLAP: usize = 64;

impl Overlap {
    /// Everything may have changed: the begin of the call was not seen.
    pub fn everything() -> Overlap {
        Overlap {
            ownership: true,
            domain: true,
            any_pasid: true,
            pasids: Vec::new(),
            any_bond: true,
            bonds: Vec::new(),
        }
    }

    pub fn ownership(&self) -> bool {
        self.ownership
    }

    pub fn domain(&self) -> bool {
        self.domain
    }

    pub fn pasid(&self, pasid: u32) -> bool {
        self.any_pasid || self.pasids.contains(&pasid)
    }

    /// The count of a process's binds may have changed.
    pub fn bonds_of(&self, mm: Key) -> bool {
        self.any_bond || self.bonds.contains(&mm)
    }

    /// Nothing of the group's state may have changed.
    pub(super) fn is_calm(&self) -> bool {
        !self.ownership && !self.domain && !self.any_pasid && self.pasids.is_empty()
    }

    pub(super) fn add(&mut self, touches: Touches) {
        match touches.bonds {
            Some(Bonds::Of(mm)) if !self.bonds_of(mm) => {
                self.bonds.push(mm);
                self.any_bond |= self.bonds.len() > MAX_OVERLAP;
            }
            Some(Bonds::Any) => self.any_bond = true,
            _ => {}
        }
        self.ownership |= touches.ownership;
        self.domain |= touches.domain;
        match touches.pasid {
            Some(Pasids::One(pasid)) if !self.pasid(pasid) => {
                self.pasids.push(pasid);
                self.any_pasid |= self.pasids.len() > MAX_OVERLAP;
            }
            Some(Pasids::Any) => self.any_pasid = true,
            _ => {}
        }
    }
}
