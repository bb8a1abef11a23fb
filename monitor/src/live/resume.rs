//! Going on where a process before this one was when it ended: what it was told is told again, what it had told is not.

use std::hash::{DefaultHasher, Hash, Hasher};

use monitor_ebpf::wire::{LossKind, Losses};

use super::{
    Error, Live, diagnostics,
    keeper::{self, CARRIED, RECORD, SECOND},
};
use crate::{
    check::Settings,
    input::{Lost, Resync, Stage},
    kernel::{
        clock,
        journal::{Account, Journal, Teller},
        missed::Missed,
        twins::Twins,
    },
    watcher::{Report, Watcher},
};

/// How often it is tried to take a journal up.
const ATTEMPTS: u64 = 5;

/// What was taken up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resumed {
    /// For how long nobody was reading, in ns: since a process was last seen to.
    pub unwatched_ns: u64,
    /// Entries of the journal.
    pub kept: u64,
    /// Records that waited in the ring.
    pub waited: u64,
}

impl Live {
    /// Takes up what is in the journal; `None`: there is nothing in it, or nothing that can be read.
    pub(super) fn resume(&mut self) -> Result<Option<Vec<Report>>, Error> {
        let Some(journal) = self.keeper.journal.as_ref() else { return Ok(None) };
        let (beaten, account, now) = (journal.beaten(), journal.account(), clock::monotonic_ns());
        let mut resumed = Resumed {
            unwatched_ns: if beaten == 0 { 0 } else { now.saturating_sub(beaten) },
            ..Resumed::default()
        };
        let options = self.watcher.options().clone();
        // Something in it may be what the processes before this one died of.
        let read = if journal.attempt() > ATTEMPTS {
            None
        } else {
            replay(&mut self.watcher, journal, self.twins.get_or_insert_default())
        };
        let Some(replayed) = read else {
            // What was told of it so far is of no use.
            self.watcher = Watcher::new(options);
            self.keeper.journal.iter_mut().for_each(Journal::forget);
            self.resumed = Some(resumed);
            self.pass_over()?;
            return Ok(None);
        };
        if replayed.entries == 0 {
            if beaten != 0 {
                self.resumed = Some(resumed);
                self.pass_over()?;
            }
            return Ok(None);
        }
        self.watcher.unwatched(resumed.unwatched_ns);
        let mut reports = replayed.reports;
        let settings = said(&self.watcher.options().settings);
        if journal.settings() != settings {
            // What stands may be another matter now than it was when it was told, or never have been told.
            reports.extend(self.watcher.tell_standing());
        }
        // Killed after it was kept and before it was taken: it is known.
        if replayed.position == Some(self.ring.position()) {
            self.ring.take(|_, _| ());
        }
        reports.extend(self.take_over_account(account)?);
        loop {
            let (more, again) = self.drain()?;
            reports.extend(more);
            if !again {
                break;
            }
        }
        (resumed.kept, resumed.waited) = (replayed.entries, self.taken);
        self.resumed = Some(resumed);
        Ok(Some(reports))
    }

    /// What is in the ring is of a time of which nobody knows what was before: all of it goes.
    fn pass_over(&mut self) -> Result<(), Error> {
        while self.ring.take(|_, _| ()).is_some() {}
        self.ring.losses()?;
        Ok(())
    }

    /// What the kernel side lost, and the process before this one hasn't told.
    fn take_over_account(&mut self, [records, calls, missed]: Account) -> Result<Vec<Report>, Error> {
        let mut reports = Vec::new();
        let lost: Losses = self.ring.resume([records, calls])?;
        let stages = [Stage::Ring, Stage::Kernel];
        for (what, stage) in LossKind::ALL.into_iter().zip(stages) {
            let count = lost[what as usize];
            if count > 0 {
                reports.extend(self.tell_lost(Lost { stage, count, groups: None }));
            }
        }
        let left_out = (self.probes.missed_before + self.missed.runs).saturating_sub(missed);
        if left_out > 0 {
            diagnostics::left_out(left_out, self.missed.since(&Missed::default()));
            reports.extend(self.tell_lost(Lost { stage: Stage::Kernel, count: left_out, groups: None }));
        }
        Ok(reports)
    }

    /// Keeps what the operator says, and how much of the kernel side's account was told.
    pub(super) fn account(&self) {
        if let Some(journal) = &self.keeper.journal {
            journal.set_settings(said(&self.watcher.options().settings));
            let [records, calls] = self.ring.told();
            journal.set_account([records, calls, self.missed.runs]);
        }
    }

    /// Nothing of what was there was the end of this process.
    pub(super) fn is_taken_up(&self) {
        self.keeper.journal.iter().for_each(Journal::is_taken_up);
    }

    /// Where a half of the journal was begun, every group is read again.
    pub(super) fn keep_state(&mut self) -> Result<Vec<Report>, Error> {
        if !self.keeper.wants_state() {
            return Ok(Vec::new());
        }
        let reports = self.resync_all(Resync::Request)?;
        self.keeper.has_state();
        Ok(reports)
    }

    /// What was taken up of a process before this one; `None`: there was none.
    pub fn resumed(&self) -> Option<Resumed> {
        self.resumed
    }

    /// Who says that reports were told, and the number up to which all are in what was given out so far.
    pub fn teller(&self) -> Option<Teller> {
        self.keeper.journal.as_ref().map(Journal::teller)
    }

    pub fn given_out(&self) -> u64 {
        self.keeper.journal.as_ref().map_or(0, Journal::count)
    }
}

/// By what it is known again what the operator says, on whatever clock.
fn said(settings: &Settings) -> u64 {
    let mut hasher = DefaultHasher::new();
    format!("{:?}", settings.clone().on_clock(0)).hash(&mut hasher);
    hasher.finish()
}

/// What came of telling a watcher all that is in a journal.
#[derive(Debug, Default)]
struct Replayed {
    entries: u64,
    /// What was not told yet.
    reports: Vec<Report>,
    /// Where the last record stood in the ring.
    position: Option<u64>,
}

/// Tells a watcher all that is in a journal; `None` where something in it can't be read.
fn replay(watcher: &mut Watcher, journal: &Journal, twins: &mut Twins) -> Option<Replayed> {
    let told = journal.told();
    let mut replayed = Replayed::default();
    let mut news = false;
    for entry in journal.entries() {
        if entry.kind == CARRIED {
            let carried = serde_json::from_slice(&entry.body).ok()?;
            if entry.again {
                // Whoever kept it saw all that came before. What came too fast for a reading of the groups in between is
                // less than that here.
                watcher.stands(carried, entry.mono_ns);
            } else {
                watcher.carry(carried, entry.mono_ns);
            }
            continue;
        }
        if entry.again {
            continue;
        }
        if entry.kind == SECOND {
            twins.had_second(&entry.body);
            replayed.position = Some(entry.position);
            continue;
        }
        let input = keeper::read(&entry)?;
        if entry.number >= told && !std::mem::replace(&mut news, true) {
            // What was counted of what was told was scraped from the process that told it.
            watcher.begin_counting();
        }
        if entry.kind == RECORD {
            twins.is_second(&entry.body);
            replayed.position = Some(entry.position);
        }
        let reports = watcher.take(input, entry.mono_ns);
        if news {
            replayed.reports.extend(reports);
        }
        replayed.entries += 1;
    }
    if !news {
        watcher.begin_counting();
    }
    Some(replayed)
}

#[cfg(test)]
mod tests;
