//! Events that are missing, and said to be, never raise anything that the whole recording doesn't.

use std::collections::BTreeSet;

use monitor::event::Key;
use monitor::input::{Input, Lost, Stage};
use monitor::replay::Replay;
use monitor::trace::{Item, Reader};
use monitor::watcher::{Options, Report, Watcher};

use crate::golden::{KERNELS, recording};

/// Subsets of each recording that are tried.
const SUBSETS: u64 = 300;

/// A violation, as far as it says that something is wrong.
type Claim = (String, Option<u32>, Vec<u32>, Option<u32>);

/// Numbers that look random, the same in each run (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// True once in so many times.
    fn once_in(&mut self, times: u64) -> bool {
        self.next().is_multiple_of(times)
    }
}

fn claim(report: &Report) -> Option<Claim> {
    let Report::Violation(violation) = report else { return None };
    let pasids = violation.pasids.iter().map(|pasid| pasid.pasid).collect();
    let by = violation.triggered_by.as_ref().map(|actor| actor.tid);
    Some((violation.check.name.to_owned(), violation.group, pasids, by))
}

/// How much is said of events that are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    /// They may have been about any group.
    Unknown,
    /// They were about these groups.
    Groups,
}

/// Replays the inputs for which `keep` holds. Those that are left out are told as lost where the ring is
/// found empty next, as the live path tells them.
fn claims(bytes: &[u8], extent: Extent, mut keep: impl FnMut(&Input) -> bool) -> Vec<Claim> {
    let reader = Reader::open(bytes).expect("a recording");
    let head = reader.head();
    let options = Options { boot_id: head.boot_id.clone(), coverage: head.coverage(), ..Options::default() };
    let mut watcher = Watcher::new(options);
    let (mut claims, mut lost) = (Vec::new(), Missing::default());
    for entry in reader {
        let entry = entry.expect("a recording that is whole");
        let Item::Input(input) = entry.item else { continue };
        let mut reports = Vec::new();
        if lost.count > 0 && matches!(input, Input::Settled) {
            let Missing { count, groups, anywhere } = std::mem::take(&mut lost);
            let groups = (extent == Extent::Groups && !anywhere).then_some(groups);
            let told = Lost { stage: Stage::Ring, count, groups };
            reports.extend(watcher.take(Input::Lost(told), entry.mono_ns));
        }
        if keep(&input) {
            reports.extend(watcher.take(input, entry.mono_ns));
        } else {
            lost.add(&input);
        }
        claims.extend(reports.iter().filter_map(claim));
    }
    claims
}

/// Events that were left out since that was told.
#[derive(Default)]
struct Missing {
    count: u64,
    groups: Vec<Key>,
    /// One of them was of no group that it named.
    anywhere: bool,
}

impl Missing {
    fn add(&mut self, input: &Input) {
        let group = match input {
            Input::Event(event) => event.group.map(|group| group.key),
            _ => None,
        };
        self.count += 1;
        self.anywhere |= group.is_none();
        self.groups.extend(group);
    }
}

#[test]
fn what_is_missing_raises_nothing() {
    for kernel in KERNELS {
        let bytes = recording(kernel);
        let whole: BTreeSet<Claim> = claims(&bytes, Extent::Unknown, |_| true).into_iter().collect();
        for extent in [Extent::Unknown, Extent::Groups] {
            let (mut silent, mut dropped) = (0, 0);
            for subset in 0..SUBSETS {
                let mut numbers = Numbers(subset);
                // From every second event to one in a whole recording.
                let once_in = 2 << (numbers.next() % 7);
                let said = claims(&bytes, extent, |input| {
                    let drop = matches!(input, Input::Event(_)) && numbers.once_in(once_in);
                    dropped += u64::from(drop);
                    !drop
                });
                let more: Vec<&Claim> = said.iter().filter(|claim| !whole.contains(claim)).collect();
                assert!(more.is_empty(), "{kernel}, {extent:?}, subset {subset}: {more:?}");
                silent += u64::from(said.is_empty());
            }
            assert!(dropped > SUBSETS, "{kernel}: {dropped} events dropped");
            // Silence would be easy: what is left must still be judged, where it can be.
            println!("{kernel} {extent:?}: {silent} of {SUBSETS} silent, {dropped} dropped");
            let most = if extent == Extent::Unknown { SUBSETS * 19 / 20 } else { SUBSETS * 4 / 5 };
            assert!(whole.is_empty() || silent < most, "{kernel}, {extent:?}: {silent} silent");
        }
    }
}

/// The same with a stretch of events missing, as when the ring overflows.
#[test]
fn a_gap_raises_nothing() {
    for kernel in KERNELS {
        let bytes = recording(kernel);
        let whole: BTreeSet<Claim> = claims(&bytes, Extent::Unknown, |_| true).into_iter().collect();
        let events = {
            let mut replay = Replay::open(bytes.as_slice(), Options::default()).expect("a recording");
            while replay.step().is_some() {}
            replay.events()
        };
        for subset in 0..SUBSETS {
            let mut numbers = Numbers(subset ^ 0xfeed);
            let (from, length) = (numbers.next() % events, 1 + numbers.next() % 20);
            let mut at = 0;
            let extent = [Extent::Unknown, Extent::Groups][(numbers.next() % 2) as usize];
            let said = claims(&bytes, extent, |input| {
                at += u64::from(matches!(input, Input::Event(_)));
                !matches!(input, Input::Event(_)) || !(from..from + length).contains(&at)
            });
            let more: Vec<&Claim> = said.iter().filter(|claim| !whole.contains(claim)).collect();
            assert!(more.is_empty(), "{kernel}, {length} events from {from}: {more:?}");
        }
    }
}
