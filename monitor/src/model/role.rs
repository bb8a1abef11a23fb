//! What a hook is to the model, and what its events say of a device.

use monitor_ebpf::wire::{Hook, Phase};

use crate::event::Event;

use super::order::under_mutex;

/// What a hook is to the model.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// A call that begins and ends.
    Call,
    /// The letting go inside a release.
    Letting,
    Reading,
    Joining,
    Leaving(Leaver),
    /// A driver works on its own tables, or on a device's capabilities.
    Hardware,
    /// A PCI device is reset: what that does to its group, the calls inside it tell.
    Reset,
    /// VT-d's driver changes a domain's cache tags, or has done so.
    Tags,
    /// Something that attachments stand on comes or goes, on no group.
    Lifetime,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaver {
    Device,
    Group,
}

impl Role {
    pub fn of(hook: Hook) -> Role {
        match hook {
            Hook::ReleaseLocked => Role::Letting,
            Hook::SnapshotGroup | Hook::SnapshotIntel | Hook::SnapshotAmd | Hook::SnapshotDma => {
                Role::Reading
            }
            Hook::DeviceAdd => Role::Joining,
            Hook::DeviceRemove | Hook::DeviceRelease => Role::Leaving(Leaver::Device),
            Hook::GroupRelease => Role::Leaving(Leaver::Group),
            Hook::VtdSetupFirst
            | Hook::VtdSetupSecond
            | Hook::VtdSetupPassThrough
            | Hook::VtdSetupNested
            | Hook::VtdTearDown
            | Hook::VtdTableAlloc
            | Hook::VtdTableFree
            | Hook::VtdTableLeft
            | Hook::VtdQueue
            | Hook::VtdSync
            | Hook::VtdRangeQueue
            | Hook::IoPageFault
            | Hook::VtdMmFlush
            | Hook::VtdSubmit
            | Hook::DevicePresent
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
            | Hook::SmmuTableLeft
            | Hook::PageRequest
            | Hook::PasidOn
            | Hook::PasidOff
            | Hook::AtsOn
            | Hook::AtsOff => Role::Hardware,
            Hook::ResetFunction | Hook::ResetFlr => Role::Reset,
            Hook::VtdTagAssign | Hook::VtdTagUnassign | Hook::VtdAttach => Role::Tags,
            Hook::PasidAlloc
            | Hook::PasidFree
            | Hook::MmDrop
            | Hook::MmExit
            | Hook::DomainAlloc
            | Hook::DomainFree
            | Hook::VtdDomainFree
            | Hook::AmdDomainFree => Role::Lifetime,
            _ => Role::Call,
        }
    }
}

/// A call can still return on a device that is gone; it can't begin on one.
pub(super) fn shows_alive(event: &Event) -> bool {
    match Role::of(event.hook) {
        Role::Call => event.phase != Phase::End && event.hook != Hook::SvaUnbind || under_mutex(event.hook),
        Role::Reading | Role::Joining => true,
        Role::Hardware => event.hook == Hook::VtdTableAlloc && event.ret == Some(0),
        Role::Letting | Role::Leaving(_) | Role::Lifetime | Role::Reset | Role::Tags => false,
    }
}

/// A caller's detach of a group's RIDs has returned.
pub(super) fn lets_rids_go(event: &Event) -> bool {
    let detaches = matches!(event.hook, Hook::DetachDevice | Hook::DetachGroup | Hook::DetachGroupHandle);
    detaches && event.phase == Phase::End && !event.incomplete
}

/// Not in the middle of its coming or going.
pub(super) fn shows_table(event: &Event) -> bool {
    match event.hook {
        Hook::VtdTableAlloc => event.ret == Some(0),
        Hook::VtdTearDown
        | Hook::VtdTableFree
        | Hook::VtdTableLeft
        | Hook::AmdTableLeft
        | Hook::SmmuTableLeft
        | Hook::VtdSubmit
        | Hook::SvaUnbind => false,
        _ => true,
    }
}
