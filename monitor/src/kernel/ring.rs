//! Draining the ring, and the kernel side's own count of what did not get into it.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use aya::maps::{MapData, MapError, PerCpuArray, RingBuf};
use monitor_ebpf::wire::count;

use tokio::io::{Interest, unix::AsyncFd};

use super::probes::Probes;
use crate::event::{self, Event, Malformed};

/// The reading end of the ring.
pub struct Ring {
    ring: RingBuf<MapData>,
    counts: PerCpuArray<MapData, u64>,
}

/// Readable when the ring has records.
pub type Wakeups = AsyncFd<OwnedFd>;

/// What the kernel side counted, over all CPUs, since it was attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records that were to be made.
    pub tried: u64,
    /// Records for which the ring had no room.
    pub no_room: u64,
    /// Calls that began and could not be remembered, so that their end is missing.
    pub no_call: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the eBPF object has no map `{0}`")]
    Missing(&'static str),
    #[error("map `{0}`: {1}")]
    Map(&'static str, #[source] MapError),
}

impl Ring {
    /// Takes the ring out of the probes.
    pub fn new(probes: &mut Probes) -> Result<Ring, Error> {
        let events = probes.ebpf.take_map("EVENTS").ok_or(Error::Missing("EVENTS"))?;
        let counts = probes.ebpf.take_map("COUNTS").ok_or(Error::Missing("COUNTS"))?;
        Ok(Ring {
            ring: RingBuf::try_from(events).map_err(|error| Error::Map("EVENTS", error))?,
            counts: PerCpuArray::try_from(counts).map_err(|error| Error::Map("COUNTS", error))?,
        })
    }

    /// Takes the next record out, decoded; `None` when the ring is empty.
    pub fn take(&mut self) -> Option<Result<Event, Malformed>> {
        let item = self.ring.next()?;
        Some(event::decode(&item))
    }

    /// Wakes whoever waits when there are records. To be called within a tokio runtime.
    pub fn wakeups(&self) -> io::Result<Wakeups> {
        let descriptor = self.ring.as_fd().try_clone_to_owned()?;
        // SAFETY: the descriptor is owned by what it is registered in, and so stays open as long.
        unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }.map_err(io::Error::from)
    }

    pub fn counts(&self) -> Result<Counts, Error> {
        let sum = |index: u32| -> Result<u64, Error> {
            let values = self.counts.get(&index, 0).map_err(|error| Error::Map("COUNTS", error))?;
            Ok(values.iter().sum())
        };
        Ok(Counts { tried: sum(count::TRIED)?, no_room: sum(count::NO_ROOM)?, no_call: sum(count::NO_CALL)? })
    }
}
