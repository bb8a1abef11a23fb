//! Programs, maps and the journal pinned in bpffs, so that the kernel goes on recording while no process reads.
//!
//! A set is a directory named after all that decides what is attached and how it is read. A start takes over its own set,
//! if that is whole; else it succeeds one of another name whose maps it can share (`switch.rs`), and replaces any other.
//! The journal is pinned last: a set without one was never whole.

mod manifest;
mod switch;

use std::{
    collections::HashMap,
    fs::{self, DirBuilder, File},
    io::{self, ErrorKind},
    os::{
        fd::AsFd,
        unix::fs::{DirBuilderExt, MetadataExt},
    },
    path::{Path, PathBuf},
};

use aya::{
    maps::{Map, MapData},
    programs::links::{FdLink, PinnedLink},
};
use monitor_ebpf::wire::WIRE_VERSION;
use rustix::fs::{FlockOperation, flock, statfs};
use sha2::{Digest, Sha256};

use self::manifest::Manifest;
pub use self::switch::Switched;
use super::{
    bpf,
    journal::{self, Journal, Memory},
    probes::{self, Attached, Loaded, OBJECT, OWNER, Plan, Probes, SHARED, Timing},
};

/// Where sets are pinned, where nobody says otherwise.
pub const PLACE: &str = "/sys/fs/bpf/iommu-watch";

/// `BPF_FS_MAGIC` (include/uapi/linux/magic.h).
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;
/// The maps that userspace reads or writes, beside those that sets share; the programs hold the others.
const MAPS: [&str; 5] = [CALLS, WINDOWS, OWED, ".bss", OWNER];
/// Of those: what is under way, and what is watched still when it is over.
const CALLS: &str = "CALLS";
const WINDOWS: &str = "WINDOWS";
const OWED: &str = "OWED";
/// The folders of a set, in the order in which they go: what is detached first records nothing half.
const LINKS: &str = "links";
const PROGRAMS: &str = "programs";
const MAPS_FOLDER: &str = "maps";
const JOURNAL: &str = "journal";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "{path}: another iommu-watch{by} has its pins there; stop it, or give this one another place by --pin-directory"
    )]
    Held { path: String, by: String },
    #[error("{path}: {source}")]
    Io { path: String, source: io::Error },
    #[error("{path} is not in a mounted bpffs")]
    NoBpffs { path: String },
    #[error("{what} can't be pinned: {why}")]
    Pin { what: String, why: String },
    #[error(transparent)]
    Attach(#[from] probes::Error),
}

impl Error {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.display().to_string();
        move |source| Error::Io { path, source }
    }

    /// Somebody else is there: two that read one ring would each have half of it.
    pub fn is_held(&self) -> bool {
        matches!(self, Error::Held { .. })
    }
}

/// The directory of all sets, which one process has at a time, as long as it lives.
pub struct Place {
    path: PathBuf,
    _lock: File,
}

/// What was removed of a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    pub links: usize,
    pub programs: usize,
    pub maps: usize,
    /// When somebody last read what it recorded, in ns of CLOCK_MONOTONIC, if that is known.
    pub beat: Option<u64>,
}

/// The name of the set of this plan, on this kernel and in this boot.
pub fn set(plan: &Plan, boot_id: &str) -> String {
    let Plan { wanted: _, means, drivers, demanded, submission_returns, flush_slow, log_level, advisories } =
        plan;
    let mut digest = Sha256::new();
    digest.update(OBJECT);
    digest.update(format!(
        "{WIRE_VERSION} {boot_id} {means:?} {drivers:?} {demanded:?} {submission_returns} {flush_slow:?} {log_level:?} \
         {advisories:?}"
    ));
    digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

impl Place {
    /// Makes the directory, if it isn't there, and takes it for this process.
    pub fn take(path: &Path) -> Result<Place, Error> {
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                let missing = error.kind() == ErrorKind::NotFound;
                let (path, at) = (path.display().to_string(), Error::io(path));
                return Err(if missing { Error::NoBpffs { path } } else { at(error) });
            }
            _ => {}
        }
        let file_system = statfs(path).map_err(|error| Error::io(path)(error.into()))?;
        if file_system.f_type as u64 != BPF_FS_MAGIC {
            // What was just made, and nothing else, goes.
            let _ = fs::remove_dir(path);
            return Err(Error::NoBpffs { path: path.display().to_string() });
        }
        let lock = File::open(path).map_err(Error::io(path))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Place { path: path.to_owned(), _lock: lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let by = holder(&lock).map_or(String::new(), |pid| format!(" (process {pid})"));
                Err(Error::Held { path: path.display().to_string(), by })
            }
            Err(error) => Err(Error::io(path)(error.into())),
        }
    }

    /// Takes over a set that an earlier process left; `None`: there is none. An error says what is missing of it.
    pub fn adopt(&self, set: &str) -> Result<Option<(Probes, Journal)>, Error> {
        let root = self.path.join(set);
        if !root.is_dir() {
            return Ok(None);
        }
        let not_whole = |why: &str| not_whole(set, why);
        let memory = memory(&root)?;
        let manifest = Manifest::of(set, &memory).ok_or_else(|| not_whole("it doesn't say what it is"))?;
        let journal = Journal::open(memory).map_err(|damage| not_whole(&damage.to_string()))?;
        let coverage = manifest.coverage().ok_or_else(|| not_whole("it has hooks of another version"))?;
        let maps = SHARED.into_iter().chain(MAPS).map(|name| Ok((name.to_owned(), map(&root, name)?)));
        let mut maps = maps.collect::<Result<HashMap<_, _>, Error>>()?;
        let attached = attached(&root, &manifest)?;
        let owner = maps.get_mut(OWNER).ok_or_else(|| not_whole("it has no owner"))?;
        probes::own(owner).map_err(|error| not_whole(&error.to_string()))?;
        let loaded = Loaded::Before(maps);
        let (timing, costs, tables) = (Timing::default(), Vec::new(), Vec::new());
        Ok(Some((Probes { loaded, attached, coverage, timing, costs, tables, missed_before: 0 }, journal)))
    }

    /// Pins what was attached, and begins its journal. Nothing stays pinned of what can't be pinned as a whole.
    pub fn pin(&self, set: &str, probes: &mut Probes) -> Result<Journal, Error> {
        let pinned = self.folders(set).and_then(|root| {
            let path = root.join(JOURNAL);
            let map = bpf::pages(b"JOURNAL", journal::PAGE, journal::PAGES).map_err(Error::io(&path))?;
            let memory = Memory::map(map.as_fd(), journal::LEN).map_err(Error::io(&path))?;
            let journal = Journal::begin(memory);
            pin_all(&root, 0, probes, &SHARED, &journal)?;
            bpf::pin(map.as_fd(), &path).map_err(Error::io(&path))?;
            Ok(journal)
        });
        if pinned.is_err() {
            // Told is what went wrong first.
            let _ = self.remove(set);
        }
        pinned
    }

    /// Makes the directories of a set.
    fn folders(&self, set: &str) -> Result<PathBuf, Error> {
        let root = self.path.join(set);
        for folder in [root.clone(), root.join(MAPS_FOLDER), root.join(PROGRAMS), root.join(LINKS)] {
            DirBuilder::new().mode(0o700).create(&folder).map_err(Error::io(&folder))?;
        }
        Ok(root)
    }

    /// The names of all sets that are pinned, whole or not.
    pub fn sets(&self) -> Result<Vec<String>, Error> {
        let entries = fs::read_dir(&self.path).map_err(Error::io(&self.path))?;
        Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
    }

    /// Removes a set: its programs are detached, where nobody else holds them.
    pub fn remove(&self, set: &str) -> Result<Removed, Error> {
        let root = self.path.join(set);
        let beat = memory(&root).ok().and_then(|memory| Journal::last_beat(&memory));
        let links = empty(&root.join(LINKS))?;
        let programs = empty(&root.join(PROGRAMS))?;
        let maps = empty(&root.join(MAPS_FOLDER))?;
        empty(&root)?;
        Ok(Removed { links, programs, maps, beat })
    }

    /// Removes every set and the directory.
    pub fn remove_all(self) -> Result<Removed, Error> {
        let mut all = Removed::default();
        for set in self.sets()? {
            let removed = self.remove(&set)?;
            all.links += removed.links;
            all.programs += removed.programs;
            all.maps += removed.maps;
        }
        // Where the service manager has made it, it is not ours to remove.
        let _ = fs::remove_dir(&self.path);
        Ok(all)
    }
}

/// Pins all of a set but its journal, in which is kept what it says of itself. `maps`: those that it shares with nobody yet.
fn pin_all(
    root: &Path,
    number: u8,
    probes: &mut Probes,
    maps: &[&str],
    journal: &Journal,
) -> Result<(), Error> {
    for &name in maps.iter().chain(&MAPS) {
        let why = |why: String| Error::Pin { what: format!("map `{name}`"), why };
        let map = probes.map(name).ok_or_else(|| why("the eBPF object has none".into()))?;
        map.pin(root.join(MAPS_FOLDER).join(file_name(name))).map_err(|error| why(error.to_string()))?;
    }
    for attached in &mut probes.attached {
        let path = root.join(PROGRAMS).join(&attached.name);
        bpf::pin(attached.program.as_fd(), &path).map_err(Error::io(&path))?;
        if let Some(link) = attached.link.take() {
            let why = |why: String| Error::Pin { what: format!("the link of `{}`", attached.name), why };
            let pinned = link.pin(root.join(LINKS).join(&attached.name));
            attached.link = Some(pinned.map_err(|error| why(error.to_string()))?.into());
        }
    }
    let programs = probes.attached.iter().map(|attached| (attached.name.clone(), attached.kprobe)).collect();
    let set = root.file_name().unwrap_or_default().to_string_lossy();
    let manifest = serde_json::to_vec(&Manifest::new(&set, number, programs, &probes.coverage));
    let kept = manifest.is_ok_and(|manifest| journal.set_manifest(number.into(), &manifest));
    kept.then_some(()).ok_or_else(|| Error::Pin { what: "the journal".into(), why: "it has no room".into() })
}

/// The programs of a set, with what holds them attached.
fn attached(root: &Path, manifest: &Manifest) -> Result<Vec<Attached>, Error> {
    let programs = manifest.programs.iter().map(|(name, kprobe)| {
        let path = root.join(PROGRAMS).join(name);
        let program = bpf::get(&path).map_err(Error::io(&path))?;
        let link = PinnedLink::from_pin(root.join(LINKS).join(name))
            .map_err(|error| not_whole(&manifest.set, &error.to_string()))?;
        Ok(Attached { name: name.clone(), program, kprobe: *kprobe, link: Some(FdLink::from(link)) })
    });
    programs.collect()
}

/// A map of a set.
fn map(root: &Path, name: &str) -> Result<Map, Error> {
    let map = MapData::from_pin(root.join(MAPS_FOLDER).join(file_name(name))).and_then(Map::from_map_data);
    map.map_err(|error| Error::Pin { what: format!("map `{name}`"), why: error.to_string() })
}

fn not_whole(set: &str, why: &str) -> Error {
    Error::Pin { what: format!("the set {set}"), why: why.into() }
}

/// The journal's memory, of any version.
fn memory(root: &Path) -> Result<Memory, Error> {
    let path = root.join(JOURNAL);
    let map = bpf::get(&path).map_err(Error::io(&path))?;
    Memory::map(map.as_fd(), journal::LEN).map_err(Error::io(&path))
}

/// Removes what is in a folder, and the folder; says how much there was. What isn't there is removed already.
fn empty(folder: &Path) -> Result<usize, Error> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        entries => entries.map_err(Error::io(folder))?,
    };
    let mut count = 0;
    for entry in entries {
        let path = entry.map_err(Error::io(folder))?.path();
        fs::remove_file(&path).map_err(Error::io(&path))?;
        count += 1;
    }
    fs::remove_dir(folder).map_err(Error::io(folder))?;
    Ok(count)
}

/// bpffs takes no dots in names.
fn file_name(map: &str) -> &str {
    map.trim_start_matches('.')
}

/// The process that has a file locked, as far as it is told.
fn holder(file: &File) -> Option<u32> {
    let inode = format!(":{}", file.metadata().ok()?.ino());
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let mut lines = locks.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    lines.find_map(|line| match line[..] {
        [_, "FLOCK", _, _, pid, place, ..] if place.ends_with(&inode) => pid.parse().ok(),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::probes::Means;

    #[test]
    fn what_is_no_bpffs_is_told_and_left_as_it_was() {
        let path = std::env::temp_dir().join(format!("iommu-watch-pins-{}", std::process::id()));
        assert!(matches!(Place::take(&path), Err(Error::NoBpffs { .. })));
        assert!(!path.exists());
        assert!(matches!(Place::take(&path.join("nothing")), Err(Error::NoBpffs { .. })));
    }

    #[test]
    fn another_plan_or_boot_is_another_set() {
        let plan = Plan::for_tests();
        let name = set(&plan, "boot");
        assert_eq!(name, set(&plan.clone(), "boot"));
        assert_ne!(name, set(&plan, "another"));
        assert_ne!(name, set(&Plan { means: Means::NoTrampolines, ..plan.clone() }, "boot"));
        assert_ne!(name, set(&Plan { submission_returns: false, ..plan }, "boot"));
    }
}
