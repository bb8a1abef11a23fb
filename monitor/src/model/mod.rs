//! The state of the host's IOMMU groups, rebuilt from events. Pure: no I/O, no clock, no kernel.
//!
//! [`Host::apply`] takes one event and says what became known by it, as [`Transition`]s. What was not
//! seen is unknown and never assumed; what could have happened in two orders is not claimed.

mod adopt;
mod apply;
mod bond;
mod call;
mod compared;
mod contest;
mod departures;
mod device;
mod evidence;
mod flush;
mod former;
mod group;
mod hardware;
mod holders;
mod host;
mod in_flight;
mod lifetime;
mod look;
mod missed;
mod names;
mod order;
mod request;
mod reset;
mod role;
mod slow;
mod stirred;
mod tags;
mod takers;
mod touches;
mod transition;
mod unanswered;
mod wanted;

pub use bond::{Bond, Ended};
pub use compared::Compared;
pub use device::Device;
pub use evidence::Evidence;
pub use former::Detached;
pub use group::{Actor, Attachment, Group, Presence};
pub use hardware::{Capability, Taken};
pub use host::{GroupRef, Host, MAX_PASIDS, SVA_GRACE};
pub use lifetime::{Gone, Held, Rids};
pub use look::{Look, Member};
pub use names::{DomainName, Names};
pub use order::{Locked, Operation, Reading};
pub use reset::AfterReset;
pub use tags::Tagged;
pub use takers::Holder;
pub use touches::Overlap;
pub use transition::{Flushed, Kind, Transition};
pub use unanswered::Unanswered;
pub use wanted::{Failed, Failure, Left};
