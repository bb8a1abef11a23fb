//! The last calls on a group, kept for whoever asks what led to a violation. Each call is kept and hardly any is asked
//! for, so they are packed: on a host with thousands of groups most of them are in no cache when they are written.

use std::collections::VecDeque;

use monitor_ebpf::wire::{Hook, Phase};

use crate::event::{Comm, Domain, DomainKind, Event, Key, Name};

/// How many calls a group keeps.
const MAX_CALLS: usize = 32;

/// A call that has returned, in short: as little as is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    pub hook: Hook,
    /// CLOCK_MONOTONIC, ns.
    pub mono_ns: u64,
    pub tid: u32,
    pub comm: Comm,
    pub device: Option<Name>,
    pub domain: Option<Domain>,
    pub pasid: Option<u32>,
    pub ret: Option<i32>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct History {
    calls: VecDeque<Packed>,
    /// The names of the devices that they were on; mostly a group has one.
    devices: Vec<Name>,
}

/// 56 bytes.
#[derive(Clone, Debug)]
struct Packed {
    mono_ns: u64,
    domain: Option<Key>,
    comm: Comm,
    tid: u32,
    pasid: Option<u32>,
    ret: Option<i32>,
    hook: Hook,
    kind: DomainKind,
    /// In [`History::devices`]; beyond the last: none, or one of too many.
    device: u8,
}

impl History {
    pub fn note(&mut self, event: &Event) {
        if event.phase == Phase::Begin {
            // It is told when it has returned.
            return;
        }
        if self.calls.len() == MAX_CALLS {
            self.calls.pop_front();
        }
        let device = event.device.as_ref().map_or(u8::MAX, |device| self.number(&device.name));
        self.calls.push_back(Packed {
            mono_ns: event.mono_ns,
            domain: event.domain.map(|domain| domain.key),
            comm: event.task.comm,
            tid: event.task.tid,
            pasid: event.pasid,
            ret: event.ret,
            hook: event.hook,
            kind: event.domain.map_or(DomainKind::Unknown, |domain| domain.kind),
            device,
        });
    }

    /// The oldest first.
    pub fn calls(&self) -> impl Iterator<Item = Evidence> {
        self.calls.iter().map(|call| Evidence {
            hook: call.hook,
            mono_ns: call.mono_ns,
            tid: call.tid,
            comm: call.comm,
            device: self.devices.get(usize::from(call.device)).copied(),
            domain: call.domain.map(|key| Domain { key, kind: call.kind }),
            pasid: call.pasid,
            ret: call.ret,
        })
    }

    /// The number of a device; [`u8::MAX`]: there are too many.
    fn number(&mut self, device: &Name) -> u8 {
        let known = self.devices.iter().position(|known| known == device);
        let at = known.unwrap_or(self.devices.len());
        if at == self.devices.len() && at < usize::from(u8::MAX) {
            self.devices.push(*device);
        }
        u8::try_from(at).unwrap_or(u8::MAX)
    }
}

#[cfg(test)]
mod tests {
    use monitor_ebpf::wire::{self, Operation};
    use zerocopy::{FromZeros, IntoBytes};

    use crate::event::decode;

    use super::*;

    fn detach(pasid: u32, device: &str) -> Box<Event> {
        let mut record = Operation::new_zeroed();
        record.header.hook = Hook::PasidDetach as u16;
        record.header.phase = Phase::Point as u8;
        record.header.known = wire::known::PASID | wire::known::DEVICE;
        record.pasid = pasid;
        record.device.key = 1;
        record.device.name[..device.len()].copy_from_slice(device.as_bytes());
        decode(record.as_bytes()).expect("a record")
    }

    #[test]
    fn the_last_calls_are_kept_with_their_devices() {
        let mut history = History::default();
        for pasid in 1..=40 {
            history
                .note(&detach(pasid, if pasid.is_multiple_of(2) { "0000:00:02.0" } else { "0000:00:01.0" }));
        }
        let mut begin = detach(41, "0000:00:01.0");
        begin.phase = Phase::Begin;
        history.note(&begin);
        let told: Vec<_> = history.calls().map(|call| (call.pasid, call.device)).collect();
        let expected = (9..=40).map(|pasid: u32| {
            let device = if pasid.is_multiple_of(2) { "0000:00:02.0" } else { "0000:00:01.0" };
            (Some(pasid), Some(Name::from(device)))
        });
        assert!(told.into_iter().eq(expected));
    }

    #[test]
    fn of_too_many_devices_the_others_keep_their_names() {
        let mut history = History::default();
        for number in 0..300 {
            history.note(&detach(1, &format!("device-{number}")));
        }
        history.note(&detach(2, "device-254"));
        let told: Vec<_> = history.calls().map(|call| call.device).collect();
        assert_eq!(told.iter().filter(|device| device.is_some()).count(), 1);
        assert_eq!(told.last(), Some(&Some(Name::from("device-254"))));
    }
}
