//! What the daemon leaves pinned, and takes over from the one before it.

use std::path::Path;

use anyhow::Result;

use crate::{
    kernel::{
        clock, host,
        journal::Journal,
        pins::{self, Place, Removed, Switched},
        probes::{self, Plan, Probes},
    },
    live::Live,
};

use super::{DaemonArguments, Global, RIGHT, output::put};

/// The programs that the daemon watches with, and what it keeps for the one after it.
pub struct Attached {
    pub probes: Probes,
    pub journal: Option<Journal>,
    pub holding: Holding,
}

/// What lasts as long as the daemon does.
pub struct Holding {
    _place: Option<Place>,
    /// A process before this one had attached the programs.
    taken_over: bool,
    /// They have taken over what was recorded by others.
    switched: Option<Switched>,
    /// Another set was replaced by them, which was last read at this time, in ns of CLOCK_MONOTONIC.
    replaced: Option<u64>,
    quiet: bool,
}

/// Takes over what is pinned, or attaches anew and pins that. What can't be pinned is watched with all the same.
pub fn attach(global: &Global, arguments: &DaemonArguments, plan: &Plan) -> Result<Attached> {
    let place = match arguments.pins(global)? {
        Some(path) if host::may_attach().is_ok() => place(global, &path)?,
        _ => None,
    };
    let mut holding =
        Holding { _place: None, taken_over: false, switched: None, replaced: None, quiet: global.quiet };
    let Some(place) = place else {
        return Ok(Attached { probes: probes::attach(plan)?, journal: None, holding });
    };
    let set = pins::set(plan, &host::identity().boot_id);
    let taken = place.adopt(&set).unwrap_or_else(|error| {
        eprintln!("iommu-watch: what is pinned can't be taken over: {error}");
        None
    });
    holding.taken_over = taken.is_some();
    let tell = |error| eprintln!("iommu-watch: other programs can't be succeeded: {error}");
    let taken = taken.or_else(|| place.succeed(&set, plan).map_err(tell).ok().flatten());
    let switched = taken.and_then(|(probes, journal)| {
        let switched = place.switch(&set).map_err(tell).ok()?;
        Some((probes, journal, switched))
    });
    holding.taken_over &= switched.is_some();
    let (probes, journal) = match switched {
        Some((mut probes, journal, switched)) => {
            holding.switched = switched;
            probes.missed_before = switched.map_or(0, |switched| switched.missed);
            holding.replaced = replace(&place, Some(&set));
            (probes, Some(journal))
        }
        None => {
            let mut probes = probes::attach(plan)?;
            // Only now that the new ones listen.
            holding.replaced = replace(&place, None);
            let pinned = place.pin(&set, &mut probes);
            let journal = pinned.inspect_err(|error| not_pinned(global, &error.to_string())).ok();
            (probes, journal)
        }
    };
    holding._place = Some(place);
    Ok(Attached { probes, journal, holding })
}

/// Removes every set but this one, and says when one of them was last read.
fn replace(place: &Place, but: Option<&str>) -> Option<u64> {
    let sets = place.sets().unwrap_or_default();
    let mut beat = None;
    for set in sets.iter().filter(|set| but != Some(set.as_str())) {
        match place.remove(set) {
            Ok(removed) => {
                beat = beat.max(removed.beat);
                eprintln!(
                    "iommu-watch: replaced programs of another version, of other options or of no whole set: {}",
                    counted(removed)
                );
            }
            Err(error) => eprintln!("iommu-watch: {set} stays pinned: {error}"),
        }
    }
    beat
}

/// The place for the pins, unless there can't be one. That somebody else has it is an error.
fn place(global: &Global, path: &Path) -> Result<Option<Place>> {
    match Place::take(path) {
        Ok(place) => Ok(Some(place)),
        Err(error) if error.is_held() => Err(error.into()),
        Err(error) => {
            not_pinned(global, &error.to_string());
            Ok(None)
        }
    }
}

fn not_pinned(global: &Global, why: &str) {
    if !global.quiet {
        eprintln!("iommu-watch: nothing is pinned, so a restart begins anew: {why}");
    }
}

impl Holding {
    /// How the programs came to be attached, in words that follow "hooks".
    pub fn attached(&self, timing: probes::Timing) -> String {
        if self.taken_over { "taken over".into() } else { format!("attached in {timing}") }
    }

    /// Says for how long nobody was reading, and what became of what was recorded meanwhile.
    pub fn tell(&self, live: &mut Live) {
        let seconds = |ns: u64| ns as f64 / 1e9;
        if let Some(Switched { removed, unended, owed, .. }) = self.switched {
            if !self.quiet {
                eprintln!(
                    "iommu-watch: succeeded programs of another version or of other options: {}",
                    counted(removed)
                );
            }
            if unended > 0 {
                eprintln!(
                    "iommu-watch: {unended} tasks were within a teardown for more than a second: what they flushed is not judged"
                );
            }
            if owed > 0 {
                eprintln!(
                    "iommu-watch: {owed} entries that are owed a flush are watched no more: what they were is told"
                );
            }
        }
        if let Some(resumed) = live.resumed() {
            let gap = seconds(resumed.unwatched_ns);
            if resumed.kept > 0 && !self.quiet {
                eprintln!(
                    "iommu-watch: took over after {gap:.2} s without a reader; {} records waited",
                    resumed.waited
                );
            } else if resumed.kept == 0 {
                eprintln!(
                    "iommu-watch: what the process before this one knew is not there: what happened in the last {gap:.2} s is \
                     not judged"
                );
            }
        } else if let Some(beat) = self.replaced {
            let gap = clock::monotonic_ns().saturating_sub(beat);
            live.watcher.unwatched(gap);
            eprintln!("iommu-watch: what happened in the last {:.2} s is not judged", seconds(gap));
        }
    }
}

/// `daemon --unpin`.
pub fn unpin(global: &Global, arguments: &DaemonArguments) -> Result<u8> {
    let path = arguments.pins(global)?.unwrap_or_else(|| pins::PLACE.into());
    let removed = if path.is_dir() { Place::take(&path)?.remove_all()? } else { Removed::default() };
    if !global.quiet {
        put(&format!("removed {}\n", counted(removed)))?;
    }
    Ok(RIGHT)
}

fn counted(Removed { links, programs, maps, .. }: Removed) -> String {
    format!("{links} links, {programs} programs, {maps} maps")
}
