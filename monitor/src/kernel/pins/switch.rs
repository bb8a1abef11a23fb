//! An upgrade: a set of programs succeeds another one, and at no moment does nobody record.
//!
//! The new set shares the ring and the journal of the old one, is attached beside it, and is silent until it is whole. One
//! word says which of them record: at the switch first both, then the new one alone. Then what the old one has begun is
//! awaited or handed over, and it goes. Whoever comes after a kill, of either name, finds both sets, and that word: he
//! makes his own the one that records, and the other one goes.

use std::{
    os::fd::AsFd,
    path::PathBuf,
    thread::sleep,
    time::{Duration, Instant},
};

use aya::maps::{Array, HashMap, MapData, MapInfo};
use monitor_ebpf::wire::{Call, Flush, Hook, Place as Entry, Subject, Windows};

use super::{
    CALLS, Error, JOURNAL, MAPS_FOLDER, Manifest, OWED, Place, Removed, WINDOWS, attached, file_name, map,
    memory, not_whole, pin_all,
};
use crate::kernel::{
    bpf,
    journal::{Journal, SETS},
    missed::Misses,
    probes::{self, Joined, Plan, Probes, RECORDING, SHARED},
};

/// How long both sets record. On one function their programs run one after the other, and a task may be preempted in
/// between; it must not take so long that both of them find that it is the other one's turn.
const BOTH: Duration = Duration::from_millis(50);
/// `BPF_NOEXIST` (include/uapi/linux/bpf.h).
const BPF_NOEXIST: u64 = 1;
/// How long the ends of what the old set has begun are awaited.
const UNDER_WAY: Duration = Duration::from_secs(1);

/// What became of the sets that had the ring before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Switched {
    pub removed: Removed,
    /// Runs of their programs that the kernel left out.
    pub missed: u64,
    /// Teardowns and switches of domains that had not ended: their flushes are not known.
    pub unended: usize,
    /// Entries that are owed a flush, which nobody watches any more.
    pub owed: usize,
}

/// A set that is whole.
struct Whole {
    root: PathBuf,
    manifest: Manifest,
    ring: u32,
    /// The sets that record into its ring, by number.
    recording: u64,
}

impl Whole {
    fn bit(&self) -> u64 {
        1 << self.manifest.number
    }

    fn records(&self) -> bool {
        self.recording & self.bit() != 0
    }
}

impl Place {
    /// Attaches the programs of a plan beside those of another set, silent, and pins them: `None` where there is none that
    /// they can succeed.
    pub fn succeed(&self, set: &str, plan: &Plan) -> Result<Option<(Probes, Journal)>, Error> {
        let sets = self.whole()?;
        let Some(old) = sets.iter().find(|other| other.records()) else { return Ok(None) };
        self.remove_parts_of(old.ring, &sets)?;
        let taken = sets.iter().filter(|other| other.ring == old.ring).map(|other| other.manifest.number);
        let Some(number) = free(taken) else { return Ok(None) };
        let succeeds = self.succeed_as(set, number, old, plan);
        if succeeds.is_err() {
            // Told is what went wrong first.
            let _ = self.remove(set);
        }
        succeeds.map(Some)
    }

    fn succeed_as(
        &self,
        set: &str,
        number: u8,
        old: &Whole,
        plan: &Plan,
    ) -> Result<(Probes, Journal), Error> {
        let root = self.folders(set)?;
        let share = |from: PathBuf, to: PathBuf| {
            let object = bpf::get(&from).map_err(Error::io(&from))?;
            bpf::pin(object.as_fd(), &to).map_err(Error::io(&to))
        };
        let mut maps = Vec::new();
        for name in SHARED {
            let within = |root: &PathBuf| root.join(MAPS_FOLDER).join(file_name(name));
            share(within(&old.root), within(&root))?;
            maps.push((name, within(&root)));
        }
        let mut probes = probes::attach_beside(plan, &Joined { number, maps: &maps })?;
        let memory = memory(&old.root)?;
        let journal = Journal::open(memory).map_err(|damage| not_whole(set, &damage.to_string()))?;
        pin_all(&root, number, &mut probes, &[], &journal)?;
        share(old.root.join(JOURNAL), root.join(JOURNAL))?;
        Ok((probes, journal))
    }

    /// Makes this set the one that records into its ring, and removes the others that have had it; `None`: there are none.
    pub fn switch(&self, set: &str) -> Result<Option<Switched>, Error> {
        let sets = self.whole()?;
        let own = sets.iter().find(|own| own.manifest.set == set);
        let own = own.ok_or_else(|| not_whole(set, "it is not there"))?;
        let others = || sets.iter().filter(|old| old.ring == own.ring && old.manifest.set != set);
        let mut word = map(&own.root, RECORDING)?;
        for (recording, after) in turns(own.recording, own.bit()) {
            sleep(after);
            if recording == own.bit() {
                // What it records from now on may be within what only the old one has seen begin.
                others().for_each(|old| hand_over(old, own, |hook| !has_window(hook)).unwrap_or(()));
            }
            probes::records(&mut word, recording)?;
        }
        let mut switched = None;
        for old in others() {
            let all = switched.get_or_insert_with(Switched::default);
            // Somebody who takes pins away while we look at them takes what is in them.
            all.unended += end(old).unwrap_or(0);
            hand_over(old, own, has_window).unwrap_or(());
            all.owed += owed(old).unwrap_or(0);
            all.missed += Misses::of(|| attached(&old.root, &old.manifest)).unwrap_or(0);
            let removed = self.remove(&old.manifest.set)?;
            all.removed.links += removed.links;
            all.removed.programs += removed.programs;
            all.removed.maps += removed.maps;
        }
        Ok(switched)
    }

    /// The sets that are whole and of a version that this one knows.
    fn whole(&self) -> Result<Vec<Whole>, Error> {
        let sets = self.sets()?;
        Ok(sets.iter().filter_map(|set| self.open(set)).collect())
    }

    fn open(&self, set: &str) -> Option<Whole> {
        let root = self.path.join(set);
        // What it recorded of hooks that this version doesn't know could not be read.
        let manifest = Manifest::of(set, &memory(&root).ok()?).filter(|known| known.coverage().is_some())?;
        let word: Array<_, u64> = Array::try_from(map(&root, RECORDING).ok()?).ok()?;
        let ring = self.ring(set)?;
        // Else its links may be gone, or some of them.
        let whole = attached(&root, &manifest).is_ok();
        let recording = word.get(&0, 0).ok().filter(|_| whole)?;
        Some(Whole { root, manifest, ring, recording })
    }

    /// By its number in the kernel.
    fn ring(&self, set: &str) -> Option<u32> {
        Some(MapInfo::from_pin(self.path.join(set).join(MAPS_FOLDER).join(SHARED[0])).ok()?.id())
    }

    /// Removes what is left of sets that were to have this ring, or had it, and are not whole: they are silent.
    fn remove_parts_of(&self, ring: u32, whole: &[Whole]) -> Result<(), Error> {
        for set in self.sets()? {
            if self.ring(&set) == Some(ring) && !whole.iter().any(|known| known.manifest.set == set) {
                self.remove(&set)?;
            }
        }
        Ok(())
    }
}

/// What the word becomes, and after which time, until this set alone records. At each moment one does that has done so
/// before.
fn turns(recording: u64, own: u64) -> impl Iterator<Item = (u64, Duration)> {
    let both = (recording | own, Duration::ZERO);
    [both, (own, BOTH)].into_iter().filter(move |_| recording != own)
}

/// A number that no other set has.
fn free(taken: impl Iterator<Item = u8>) -> Option<u8> {
    let taken: Vec<u8> = taken.collect();
    (0..SETS as u8).find(|number| !taken.contains(number))
}

/// A map of keys and values as bytes.
type Entries<const K: usize, const V: usize> = HashMap<MapData, [u8; K], [u8; V]>;

/// A map of what a set keeps in mind.
fn entries<K, V, const A: usize, const B: usize>(set: &Whole, name: &str) -> Result<Entries<A, B>, Error> {
    const { assert!(size_of::<K>() == A && size_of::<V>() == B) };
    let known = HashMap::try_from(map(&set.root, name)?);
    known.map_err(|error| not_whole(&set.manifest.set, &error.to_string()))
}

fn calls(set: &Whole) -> Result<Entries<CALL, SUBJECT>, Error> {
    entries::<Call, Subject, CALL, SUBJECT>(set, CALLS)
}

const CALL: usize = size_of::<Call>();
const SUBJECT: usize = size_of::<Subject>();

/// Waits until no window of a set is open; says how many are after a while.
fn end(old: &Whole) -> Result<usize, Error> {
    let windows = entries::<u32, Windows, 4, { size_of::<Windows>() }>(old, WINDOWS)?;
    let until = Instant::now() + UNDER_WAY;
    loop {
        let open = windows.keys().flatten().count();
        if open == 0 || Instant::now() >= until {
            return Ok(open);
        }
        sleep(Duration::from_millis(5));
    }
}

/// The calls of such hooks that a set has begun and not ended, another one ends. Until the first is gone both do, which are
/// twins.
fn hand_over(old: &Whole, own: &Whole, which: impl Fn(u16) -> bool) -> Result<(), Error> {
    let mut to = calls(own)?;
    for (call, subject) in calls(old)?.iter().flatten() {
        // A `Call` is the task and the hook.
        if call.last_chunk().is_some_and(|&hook| which(u32::from_ne_bytes(hook) as u16)) {
            // One that this task has begun anew meanwhile is there already.
            let _ = to.insert(call, subject, BPF_NOEXIST);
        }
    }
    Ok(())
}

/// Whether the end of such a call tells what was flushed in it: only who has seen it begin knows that.
fn has_window(hook: u16) -> bool {
    let hook = Hook::from_number(hook);
    matches!(hook, Some(Hook::VtdTearDown | Hook::AmdClear | Hook::SmmuRemove))
}

/// The entries that a set watches, since they are owed a flush.
fn owed(old: &Whole) -> Result<usize, Error> {
    let owed = entries::<Entry, Flush, { size_of::<Entry>() }, { size_of::<Flush>() }>(old, OWED)?;
    Ok(owed.keys().flatten().count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wherever_a_switch_is_cut_off_one_records_and_the_next_ends_it_or_takes_it_back() {
        let (old, new) = (1 << 0, 1 << 1);
        let mut states = vec![old];
        states.extend(turns(old, new).map(|(recording, _)| recording));
        assert_eq!(states, [old, old | new, new]);
        for &cut in &states {
            for own in [old, new, 1 << 2] {
                let mut before = cut;
                for (recording, after) in turns(cut, own) {
                    assert!(before & recording != 0, "nobody records between {before:b} and {recording:b}");
                    assert!(recording == before | own || after == BOTH, "both have their time");
                    before = recording;
                }
                assert_eq!(before, own);
            }
        }
    }

    #[test]
    fn who_records_alone_changes_nothing() {
        assert_eq!(turns(4, 4).count(), 0);
    }

    #[test]
    fn a_number_is_taken_that_nobody_has_who_is_left() {
        assert_eq!(free([].into_iter()), Some(0));
        assert_eq!(free([0, 2].into_iter()), Some(1));
        assert_eq!(free(0..SETS as u8), None, "then what is there is replaced");
    }
}
