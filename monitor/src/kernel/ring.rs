//! Draining the ring, and the kernel side's own account of what did not get into it.

mod ends;

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::atomic::{Ordering, fence},
};

use aya::maps::{HashMap, MapData, MapError, PerCpuArray, RingBuf};
use monitor_ebpf::wire::{LossKind, Losses, count};

use tokio::io::{Interest, unix::AsyncFd};

use self::ends::Ends;
use super::{
    losses::{Account, Loss},
    probes::Probes,
};

/// The reading end of the ring.
pub struct Ring {
    ring: RingBuf<MapData>,
    ends: Ends,
    counts: PerCpuArray<MapData, u64>,
    losses: HashMap<MapData, u64, Losses>,
    account: Account,
}

/// Readable when the ring has records.
pub type Wakeups = AsyncFd<OwnedFd>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the eBPF object has no map `{0}`")]
    Missing(&'static str),
    #[error("map `{0}`: {1}")]
    Map(&'static str, #[source] MapError),
    #[error("map `EVENTS` can't be mapped: {0}")]
    Mapping(#[source] io::Error),
}

impl Ring {
    /// Takes the ring out of the probes.
    pub fn new(probes: &mut Probes) -> Result<Ring, Error> {
        let events = probes.take_map("EVENTS").ok_or(Error::Missing("EVENTS"))?;
        let counts = probes.take_map("COUNTS").ok_or(Error::Missing("COUNTS"))?;
        let losses = probes.take_map("LOSSES").ok_or(Error::Missing("LOSSES"))?;
        let ring = RingBuf::try_from(events).map_err(|error| Error::Map("EVENTS", error))?;
        let ends = Ends::map(ring.as_fd()).map_err(Error::Mapping)?;
        Ok(Ring {
            ring,
            ends,
            counts: PerCpuArray::try_from(counts).map_err(|error| Error::Map("COUNTS", error))?,
            losses: HashMap::try_from(losses).map_err(|error| Error::Map("LOSSES", error))?,
            account: Account::default(),
        })
    }

    /// Takes the next record out, with where it stood; `None` when there is none that can be read: see [`Ring::waiting`].
    /// It counts as taken when `read` is done with it.
    pub fn take<T>(&mut self, read: impl FnOnce(&[u8], u64) -> T) -> Option<T> {
        let item = self.ring.next()?;
        Some(read(&item, self.ends.read() as u64))
    }

    /// How far the ring was read: where the next record stands.
    pub fn position(&self) -> u64 {
        self.ends.read() as u64
    }

    /// There is a record that can't be read yet, or a new one: where it is. `None`: the ring is empty.
    pub fn waiting(&self) -> Option<usize> {
        self.ends.waiting()
    }

    /// Wakes whoever waits when there are records. To be called within a tokio runtime.
    pub fn wakeups(&self) -> io::Result<Wakeups> {
        let descriptor = self.ring.as_fd().try_clone_to_owned()?;
        // SAFETY: the descriptor is owned by what it is registered in, and so stays open as long.
        unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }.map_err(io::Error::from)
    }

    /// What was lost since the last time, by [`LossKind`]. Where nothing was, two small reads.
    pub fn losses(&mut self) -> Result<[Loss; LossKind::COUNT], Error> {
        let sums = self.sums(count::lost)?;
        if !self.account.moved(&sums) {
            return Ok(Default::default());
        }
        // The sums before the places: see `losses`.
        fence(Ordering::SeqCst);
        let elsewhere = self.sums(count::elsewhere)?;
        let groups: Result<Vec<(u64, Losses)>, _> = self.losses.iter().collect();
        let groups = groups.map_err(|error| Error::Map("LOSSES", error))?;
        Ok(self.account.take(sums, elsewhere, &groups))
    }

    /// What was told of losses so far, by [`LossKind`].
    pub fn told(&self) -> Losses {
        self.account.told()
    }

    /// Takes all that was lost so far for known; a process before this one has told so much of it. What it hasn't, by
    /// [`LossKind`], is given back: of which groups that was, nobody knows.
    pub fn resume(&mut self, told: Losses) -> Result<Losses, Error> {
        self.losses()?;
        let total = self.account.told();
        Ok(LossKind::ALL.map(|what| total[what as usize].saturating_sub(told[what as usize])))
    }

    /// A counter of each kind of loss, over all CPUs.
    fn sums(&self, index: fn(LossKind) -> u32) -> Result<Losses, Error> {
        let mut sums = Losses::default();
        for what in LossKind::ALL {
            let values = self.counts.get(&index(what), 0).map_err(|error| Error::Map("COUNTS", error))?;
            sums[what as usize] = values.iter().fold(0, |sum, value| sum.saturating_add(*value));
        }
        Ok(sums)
    }
}
