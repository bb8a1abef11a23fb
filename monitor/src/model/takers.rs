//! Who took hold of a group, as far as it was seen: who claimed it, and whose drivers are bound.
//!
//! The kernel keeps a count and a cookie; who stands behind them only the calls tell. Binds and unbinds of one device
//! can't overlap (the driver core holds its lock), and so the device says whose use is given back. A release of a group
//! names nobody: what was claimed after it began is not what it gives back.

use monitor_ebpf::wire::Hook;

use crate::event::{Event, Key, Name, Ownership};

use super::group::Actor;
use super::order::Operation;

/// More than this at once on one group are not kept account of.
const MAX_TAKERS: usize = 64;

/// Somebody who took hold of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// For userspace or another owner; else for a driver that is bound.
    pub claims: bool,
    /// The device that was claimed or bound; `None`: the group as a whole.
    pub device: Option<Name>,
    pub by: Actor,
    key: Option<Key>,
    /// The owner that it was claimed for.
    owner: Option<Key>,
    /// When the call that took hold returned.
    taken_ns: u64,
}

/// Those who hold a group now, the first one first; who came before we watched is not among them.
#[derive(Clone, Debug, Default)]
pub(super) struct Takers(Vec<Holder>);

impl Takers {
    /// A call returned that takes hold, or lets go.
    pub fn returned(&mut self, operation: Option<&Operation>, end: &Event) {
        let begin = operation.map_or(end, |call| &call.begin);
        let key = begin.device.or(end.device).map(|device| device.key);
        match end.hook {
            Hook::ClaimGroup | Hook::ClaimDevice | Hook::UseDefault if end.ret == Some(0) => {
                let claims = end.hook != Hook::UseDefault;
                self.0.retain(|holder| (holder.claims, holder.key) != (claims, key));
                if self.0.len() < MAX_TAKERS {
                    let device = begin.device.or(end.device).map(|device| device.name);
                    let (by, taken_ns) = (Actor::of(begin), end.mono_ns);
                    let owner = begin.owner.or(end.owner).filter(|_| claims);
                    self.0.push(Holder { claims, device, by, key, owner, taken_ns });
                }
            }
            Hook::UnuseDefault => self.0.retain(|holder| holder.claims || holder.key != key),
            Hook::ReleaseDevice => self.0.retain(|holder| !holder.claims || holder.key != key),
            Hook::ReleaseGroup => {
                self.0.retain(|holder| !holder.claims || holder.taken_ns > begin.mono_ns);
            }
            _ => {}
        }
    }

    /// The kernel says who holds the group: whom that leaves out let go unseen.
    pub fn confirm(&mut self, ownership: Ownership) {
        match (ownership.owner, ownership.count) {
            (_, 0) => self.0.clear(),
            (owner, _) => self.0.retain(|holder| {
                holder.claims == owner.is_some() && holder.owner.is_none_or(|claimed| Some(claimed) == owner)
            }),
        }
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Those who claimed the group, or whose drivers are bound.
    pub fn of(&self, claims: bool) -> impl Iterator<Item = &Holder> {
        self.0.iter().filter(move |holder| holder.claims == claims)
    }
}
