//! What became known by an event.

use crate::event::{Domain, Event, Flush, Key, Range};

use monitor_ebpf::wire::Hook;

use super::bond::Ended;
use super::device::Device;
use super::former::Detached;
use super::group::{Actor, Attachment};
use super::hardware::Capability;
use super::host::GroupRef;
use super::lifetime::{Gone, Held};
use super::look::Look;
use super::order::Operation;
use super::tags::Tagged;

/// One thing that became known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transition {
    /// A call whose begin and end were seen has returned.
    Returned { group: GroupRef, operation: Box<Operation>, end: Box<Event> },
    /// The group's state was read, or worked out, and is now what the model says.
    Updated { group: GroupRef },
    /// A call returned whose begin was not seen: it may have met any call that returned shortly before.
    Disturbed { group: GroupRef },
    /// The group's state became known.
    Synced { group: GroupRef },
    /// The group's state is not known any more.
    Unknown { group: GroupRef },
    /// The group is gone.
    GroupGone { group: GroupRef, id: u32 },
    /// A look at the group was taken, and is over.
    Looked { group: GroupRef, look: Box<Look> },
    /// The kernel's state is not what the model had worked out: this hook did not report a call.
    Leaked { group: GroupRef, hook: Hook },
    /// The root of a device's hardware PASID table was read: at which hook, and in whose call.
    Table { device: Key, hook: Hook, actor: Actor },
    /// A device's hardware PASID table is gone.
    TableGone { device: Key },
    /// Something went while this group had it attached.
    Gone { what: Gone, held: Held, event: Box<Event> },
    /// An `mm_struct` is gone, and its PASID did not go back; where it was bound last, if that is known.
    PasidLeaked { pasid: u32, group: Option<GroupRef>, by: Actor, event: Box<Event> },
    /// A bond that was unbound for the last time is unbound again.
    UnboundAgain { ended: Ended, event: Box<Event> },
    /// A look at a group is over, and these of its PASIDs are attached to processes that have exited: since when.
    Lingering { group: GroupRef, pasids: Vec<(u32, Attachment, u64)>, mono_ns: u64 },
    /// A driver has torn a PASID entry down, and this is what it flushed.
    TornDown { group: GroupRef, flushed: Flushed },
    /// A PASID entry was set up whose predecessor is owed a flush.
    SetUpOwed { group: GroupRef, flushed: Flushed },
    /// Invalidations were submitted, and failed; with a group if it was while one of its entries was torn down, or its
    /// RID's domain was switched.
    SubmissionFailed { group: Option<GroupRef>, flushed: Flushed },
    /// Invalidations were submitted, and took long; `again`: so did others of the same IOMMU shortly before.
    SubmissionSlow { group: Option<GroupRef>, flushed: Flushed, again: bool },
    /// A flush of a range fell short; of the group of a device that has the domain, where that is known.
    RangeShort { group: Option<GroupRef>, event: Box<Event>, range: Box<Range> },
    /// Somebody switched a capability of a device off under these PASIDs, outside every switch of its RID's domain.
    CapabilityOff {
        group: GroupRef,
        device: Key,
        capability: Capability,
        under: Vec<(u32, Attachment)>,
        event: Box<Event>,
    },
    /// The driver could not take a PASID off a device, as this call would have it.
    DetachFailed { group: GroupRef, pasid: u32, attachment: Attachment, by: Actor, event: Box<Event> },
    /// A call has returned that switched a RID or a PASID, and what it left of a device's cache tags.
    Tagged { group: GroupRef, tagged: Box<Tagged> },
    /// A device asked for a page with a PASID that was attached there, and was detached.
    RequestAfterDetach { group: GroupRef, pasid: u32, detached: Detached, event: Box<Event> },
    /// A device left its group.
    DeviceGone { device: Box<Device> },
    /// A driver frees a device's hardware PASID table, and PASIDs are in it still.
    TableLeft { group: GroupRef, event: Box<Event> },
    /// A group is freed, and PASIDs are in its `pasid_array` still. It is [`super::Host::departed`] now.
    FreedWithPasids { group: GroupRef, event: Box<Event> },
}

/// What a driver did with the caches, and by whose call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flushed {
    pub event: Box<Event>,
    pub flush: Box<Flush>,
    pub by: Actor,
    /// `by` called for it. Else the driver did it by itself, when an mm exited.
    pub called: bool,
    /// What that call named.
    pub domain: Option<Domain>,
}

/// Of what kind a transition is: what a check asks for (`Spec::judges`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A call to this hook has returned.
    Returned(Hook),
    Updated,
    Disturbed,
    Synced,
    Unknown,
    GroupGone,
    Looked,
    Leaked,
    Table,
    TableGone,
    CapabilityOff,
    DetachFailed,
    Tagged,
    DeviceGone,
    Gone,
    PasidLeaked,
    UnboundAgain,
    Lingering,
    TornDown,
    SetUpOwed,
    SubmissionFailed,
    SubmissionSlow,
    RangeShort,
    TableLeft,
    FreedWithPasids,
    RequestAfterDetach,
}

impl Kind {
    /// One past the greatest index.
    pub const COUNT: usize = Kind::Returned(Hook::ALL[0]).index() - Hook::ALL[0] as usize + Hook::COUNT;

    /// A number of its own for each kind, for tables.
    pub const fn index(self) -> usize {
        match self {
            Kind::Updated => 0,
            Kind::Disturbed => 1,
            Kind::Synced => 2,
            Kind::Unknown => 3,
            Kind::GroupGone => 4,
            Kind::Looked => 5,
            Kind::Leaked => 6,
            Kind::Table => 7,
            Kind::TableGone => 8,
            Kind::DeviceGone => 9,
            Kind::Gone => 10,
            Kind::PasidLeaked => 11,
            Kind::UnboundAgain => 12,
            Kind::Lingering => 13,
            Kind::TornDown => 14,
            Kind::SetUpOwed => 15,
            Kind::SubmissionFailed => 16,
            Kind::TableLeft => 17,
            Kind::FreedWithPasids => 18,
            Kind::CapabilityOff => 19,
            Kind::DetachFailed => 20,
            Kind::Tagged => 21,
            Kind::SubmissionSlow => 22,
            Kind::RequestAfterDetach => 23,
            Kind::RangeShort => 24,
            Kind::Returned(hook) => 25 + hook as usize,
        }
    }
}

impl Transition {
    pub fn kind(&self) -> Kind {
        match self {
            Transition::Returned { operation, .. } => Kind::Returned(operation.hook),
            Transition::Updated { .. } => Kind::Updated,
            Transition::Disturbed { .. } => Kind::Disturbed,
            Transition::Synced { .. } => Kind::Synced,
            Transition::Unknown { .. } => Kind::Unknown,
            Transition::GroupGone { .. } => Kind::GroupGone,
            Transition::Looked { .. } => Kind::Looked,
            Transition::Leaked { .. } => Kind::Leaked,
            Transition::Table { .. } => Kind::Table,
            Transition::TableGone { .. } => Kind::TableGone,
            Transition::CapabilityOff { .. } => Kind::CapabilityOff,
            Transition::DetachFailed { .. } => Kind::DetachFailed,
            Transition::Tagged { .. } => Kind::Tagged,
            Transition::DeviceGone { .. } => Kind::DeviceGone,
            Transition::Gone { .. } => Kind::Gone,
            Transition::PasidLeaked { .. } => Kind::PasidLeaked,
            Transition::UnboundAgain { .. } => Kind::UnboundAgain,
            Transition::Lingering { .. } => Kind::Lingering,
            Transition::TornDown { .. } => Kind::TornDown,
            Transition::SetUpOwed { .. } => Kind::SetUpOwed,
            Transition::SubmissionFailed { .. } => Kind::SubmissionFailed,
            Transition::SubmissionSlow { .. } => Kind::SubmissionSlow,
            Transition::RangeShort { .. } => Kind::RangeShort,
            Transition::TableLeft { .. } => Kind::TableLeft,
            Transition::FreedWithPasids { .. } => Kind::FreedWithPasids,
            Transition::RequestAfterDetach { .. } => Kind::RequestAfterDetach,
        }
    }
}
