//! The live end of the pipe: a running kernel drives a [`Watcher`].

mod ask;
mod audit;
mod configure;
mod deaf;
mod follow;
mod keeper;
mod resume;
mod stall;
mod tap;
mod wanted;

use ask::{ASK_AGAIN, ASKED};
use audit::Audit;
pub use follow::{follow, stop_requested, stop_requested_within};

use std::{io, time::Duration};

use monitor_ebpf::wire::{Hook, Phase};

pub use self::resume::Resumed;
use self::{deaf::Hearing, keeper::Keeper, stall::Stall, tap::Tap, wanted::Wanted};
use crate::{
    event::{self, Event, Malformed},
    input::{Input, Lost, Resync, Stage},
    kernel::{
        calls::Calls,
        clock,
        diagnostics::{self, Diagnostics},
        feed::Counts,
        journal::Journal,
        missed::{Missed, Misses},
        probes::{self, Probes},
        ring::{self, Ring, Wakeups},
        stacks::Stacks,
        sysfs::Sysfs,
        twins::Twins,
    },
    trace::{Recorder, Summary},
    watcher::{Options, Report, Watcher},
};

/// On a host where nothing happens, how often the kernel is asked what it left out, in ns: a system call for each program.
const NOTHING_MISSED: u64 = 10_000_000_000;

/// Records taken at one go: more of them wait while something else has its turn.
const BATCH: usize = 4096;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Attach(#[from] probes::Error),
    #[error(transparent)]
    Ring(#[from] ring::Error),
    #[error("{path}: {source}")]
    Sysfs { path: String, source: io::Error },
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the eBPF object and this program are not of one build: {0}; build both anew")]
    Malformed(#[from] Malformed),
}

/// A kernel that is being watched.
pub struct Live {
    ring: Ring,
    stacks: Stacks,
    diagnostics: Diagnostics,
    sysfs: Sysfs,
    /// The names in stacks are read before they are needed.
    read_ahead: bool,
    calls: Calls,
    misses: Misses,
    counts: Counts,
    /// Runs of programs that the kernel left out, as far as they were told.
    missed: Missed,
    /// Records that had been taken when that was read, and when it is read again without any.
    missed_at: (u64, u64),
    /// sysfs may say something else than it did: devices or drivers came or went.
    stale: bool,
    /// Something was lost since the groups that are unknown were last asked.
    lossy: bool,
    /// The groups that were unknown when they were last asked, when they are asked again, and how long is
    /// waited for that.
    asked: Vec<u32>,
    ask_at: u64,
    ask_after: u64,
    audit: Audit,
    wanted: Wanted,
    stall: Stall,
    hearing: Hearing,
    /// CLOCK_REALTIME less CLOCK_MONOTONIC, in ns, when it was last looked at.
    clock_offset_ns: i64,
    pub watcher: Watcher,
    tap: Tap,
    keeper: Keeper,
    resumed: Option<Resumed>,
    /// What two sets of programs tell of one call: until the ring was found empty, if there may be records of two in it.
    twins: Option<Twins>,
    /// Records that were taken from the ring.
    taken: u64,
    /// Held to stay attached; dropped last.
    probes: Probes,
}

/// What is done beside the watching.
#[derive(Default)]
pub struct Upkeep {
    /// Every group is read from the kernel again, about this often.
    pub audit: Option<Duration>,
    /// All that the watcher is told is recorded.
    pub recorder: Option<Recorder>,
    /// The same is kept for the process after this one; what the one before this has kept is taken up.
    pub journal: Option<Journal>,
}

impl Live {
    /// Starts watching with probes that are attached, and asks the kernel for the state of every group.
    /// Returns what there is to say before the first event. Where a process before this one has kept what it was told,
    /// this goes on from there: see [`Live::resumed`].
    pub fn start(mut probes: Probes, options: Options, upkeep: Upkeep) -> Result<(Live, Vec<Report>), Error> {
        let diagnostics = Diagnostics::new(&mut probes);
        let ring = Ring::new(&mut probes)?;
        let stacks = Stacks::new(&mut probes)?;
        if upkeep.recorder.is_some() {
            // Else the first event would wait for it, and all that comes after.
            stacks.prepare();
        }
        let calls = Calls::new(&mut probes)?;
        let misses = Misses::new(&probes);
        let counts = Counts::new(&mut probes)?;
        let options = Options { coverage: probes.coverage.clone(), ..options };
        let mut live = Live {
            ring,
            stacks,
            read_ahead: false,
            diagnostics,
            sysfs: Sysfs::default(),
            // What came before the first look at the groups is of no account.
            missed: misses.read(&probes),
            calls,
            misses,
            missed_at: (0, 0),
            counts,
            stale: false,
            lossy: false,
            asked: Vec::new(),
            ask_at: 0,
            ask_after: ASK_AGAIN,
            audit: Audit::new(upkeep.audit),
            wanted: Wanted::default(),
            stall: Stall::default(),
            hearing: Hearing::default(),
            clock_offset_ns: clock::wall_offset_ns(),
            watcher: Watcher::new(options),
            tap: Tap::new(upkeep.recorder),
            twins: upkeep.journal.is_some().then(Twins::default),
            keeper: Keeper::new(upkeep.journal),
            resumed: None,
            taken: 0,
            probes,
        };
        let mut reports = match live.resume()? {
            Some(reports) => reports,
            None => live.tell(Input::Start),
        };
        live.account();
        reports.extend(live.refresh_inventory()?);
        reports.extend(live.resync_all(Resync::Start)?);
        live.is_taken_up();
        Ok((live, reports))
    }

    /// Takes in what is in the ring: a batch at most, so that a storm starves nobody. The flag says
    /// whether there is more.
    pub fn drain(&mut self) -> Result<(Vec<Report>, bool), Error> {
        let mut reports = Vec::new();
        for _ in 0..BATCH {
            let Some(event) = self.take()? else {
                let now = clock::monotonic_ns();
                reports.extend(self.settle(now)?);
                reports.extend(self.ask_unknown(now)?);
                reports.extend(self.look_where_wanted(now)?);
                return Ok((reports, false));
            };
            if changes_inventory(&event) {
                self.stale = true;
            } else if std::mem::take(&mut self.stale) {
                // What is found by this event is told with the names of now.
                reports.extend(self.refresh_inventory()?);
            }
            reports.extend(self.tell(Input::Event(event)));
        }
        // In a storm that fills the ring faster than it is emptied, that is told as well.
        reports.extend(self.tell_losses()?);
        Ok((reports, true))
    }

    /// Looks after what no record tells: names in sysfs, groups whose state isn't known, time that passes.
    /// To be called every now and then.
    pub fn tick(&mut self) -> Result<Vec<Report>, Error> {
        self.diagnostics.flush();
        let mut reports = Vec::new();
        if std::mem::take(&mut self.stale) {
            reports.extend(self.refresh_inventory()?);
        }
        // What is raised meanwhile asks for itself.
        let (taken, again) = self.missed_at;
        if self.taken != taken || clock::monotonic_ns() >= again {
            reports.extend(self.tell_missed());
        }
        reports.extend(self.look_at_the_clock());
        // Only what is found with the ring empty is settled: there may be more in it than a batch.
        reports.extend(self.drain()?.0);
        if self.tap.tick() {
            reports.extend(self.resync_all(Resync::Request)?);
        }
        reports.extend(self.keep_state()?);
        reports.extend(self.audit()?);
        Ok(reports)
    }

    /// More is to be done soon than by the next tick of a quiet host.
    pub fn busy(&self) -> bool {
        self.audit.under_way() || !self.watcher.wanted_looks().is_empty()
    }

    /// Nothing more can be read. If the ring is empty, and what did not get into it is told, violations can be raised.
    fn settle(&mut self, now: u64) -> Result<Vec<Report>, Error> {
        let mut reports = Vec::new();
        let drained = self.is_drained(now, &mut reports);
        reports.extend(self.tell_losses()?);
        if !drained {
            return Ok(reports);
        }
        // One set alone records since this process has attached it.
        self.twins = None;
        // Many system calls: only where a violation waits that they could explain, and at every tick.
        if self.watcher.deadline().is_some_and(|due| due <= now) {
            reports.extend(self.tell_missed());
        }
        reports.extend(self.tell(Input::Settled));
        Ok(reports)
    }

    /// Tells how many runs of our programs the kernel left out since the last time.
    fn tell_missed(&mut self) -> Vec<Report> {
        let missed = self.misses.read(&self.probes);
        self.missed_at = (self.taken, clock::monotonic_ns().saturating_add(NOTHING_MISSED));
        let before = std::mem::replace(&mut self.missed, missed);
        match self.missed.runs.saturating_sub(before.runs) {
            0 => Vec::new(),
            count => {
                diagnostics::left_out(count, self.missed.since(&before));
                let reports = self.tell_lost(Lost { stage: Stage::Kernel, count, groups: None });
                self.account();
                reports
            }
        }
    }

    /// Tells what the kernel side lost since the last time.
    fn tell_losses(&mut self) -> Result<Vec<Report>, Error> {
        let mut reports = Vec::new();
        let [records, mut calls] = self.ring.losses()?;
        if calls.count > 0 && self.calls.forget_the_dead()? > 0 {
            calls.groups = None;
        }
        for (stage, loss) in [(Stage::Ring, records), (Stage::Kernel, calls)] {
            if loss.count > 0 {
                let lost = Lost { stage, count: loss.count, groups: loss.groups };
                reports.extend(self.tell_lost(lost));
                self.account();
            }
        }
        Ok(reports)
    }

    fn tell_lost(&mut self, lost: Lost) -> Vec<Report> {
        self.lossy = true;
        // What changes the names in sysfs may be what was lost.
        self.stale = true;
        self.tell(Input::Lost(lost))
    }

    /// The next event out of the ring; `None` when it is empty.
    fn take(&mut self) -> Result<Option<Box<Event>>, Malformed> {
        loop {
            let taken = self.ring.take(|record, position| {
                if self.twins.as_mut().is_some_and(|twins| twins.is_second(record)) {
                    self.keeper.second(record, position);
                    return None;
                }
                self.tap.keep(record);
                // Before it counts as taken: whoever comes after a kill finds it here or there.
                self.keeper.record(record, position);
                Some(event::decode(record))
            });
            match taken {
                None => return Ok(None),
                Some(None) => {}
                Some(Some(event)) => {
                    self.taken += 1;
                    return event.map(Some);
                }
            }
        }
    }

    /// All that the watcher is told goes through here.
    fn tell(&mut self, input: Input) -> Vec<Report> {
        let now = clock::monotonic_ns();
        self.tap.record(&input, now, &self.stacks);
        let kept = self.keeper.before(&input, now);
        let reports = self.watcher.take(input, now);
        self.tap.told(&reports);
        self.keeper.after(kept, now, !reports.is_empty());
        self.keeper.carry(&self.watcher);
        reports
    }

    /// Ends the recording, if there is one.
    pub fn end_recording(&mut self) -> Option<Summary> {
        self.tap.end(clock::monotonic_ns())
    }

    /// Wakes whoever waits when there is something to drain.
    pub fn wakeups(&self) -> io::Result<Wakeups> {
        self.ring.wakeups()
    }

    /// Reads what the kernel side has counted, for a scrape.
    pub fn count(&mut self) -> Result<(), Error> {
        self.watcher.counted(self.counts.read()?);
        Ok(())
    }

    /// From now on the names in stacks are read before they are needed.
    pub fn read_ahead(&mut self) {
        self.read_ahead = true;
        self.stacks.read_ahead();
    }

    /// The kernel stacks that violations refer to.
    pub fn stacks(&self) -> &Stacks {
        &self.stacks
    }

    /// `Err` with the time to wait, while calls that began before we watched may still be under way.
    pub fn ready(&self) -> Result<(), Duration> {
        let from = self.watcher.host().trusted_from().unwrap_or(u64::MAX);
        match from.checked_sub(clock::monotonic_ns()) {
            None | Some(0) => Ok(()),
            Some(wait) => Err(Duration::from_nanos(wait)),
        }
    }

    fn refresh_inventory(&mut self) -> Result<Vec<Report>, Error> {
        if self.read_ahead {
            // With a driver its module may have come.
            self.stacks.read_ahead();
        }
        let inventory = self.sysfs.inventory().map_err(|source| self.sysfs_error(source))?;
        Ok(self.tell(Input::Inventory(inventory)))
    }

    fn sysfs_error(&self, source: io::Error) -> Error {
        Error::Sysfs { path: self.sysfs.groups().display().to_string(), source }
    }
}

/// Whether sysfs may say something else after this.
fn changes_inventory(event: &Event) -> bool {
    matches!(event.hook, Hook::DeviceAdd | Hook::DeviceRemove | Hook::UseDefault | Hook::UnuseDefault)
        && event.phase != Phase::Begin
}
