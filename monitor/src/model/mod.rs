//! The state of the host's IOMMU groups, rebuilt from events. Pure: no I/O, no clock, no kernel.
//!
//! [`Host::apply`] takes one event and says what became known by it, as [`Transition`]s. What was not
//! seen is unknown and never assumed; what could have happened in two orders is not claimed.

mod apply;
mod bond;
mod device;
mod flush;
mod group;
mod holders;
mod host;
mod lifetime;
mod look;
mod names;
mod order;
mod role;
mod stirred;
mod transition;

pub use bond::{Bond, Ended};
pub use device::Device;
pub use group::{Actor, Attachment, Evidence, Group, Presence};
pub use host::{GroupRef, Host, MAX_PASIDS};
pub use lifetime::{Gone, Held, Rids};
pub use look::{Compared, Look, Member};
pub use names::{DomainName, Names};
pub use order::{Locked, Operation, Overlap, Reading};
pub use transition::{Flushed, Kind, Transition};
