//! Runs of our programs that the kernel left out, by its own count.
//!
//! It leaves one out where the same program (for kprobes: any BPF program) already runs on that CPU, where a
//! kprobe hits within a kprobe, and where more calls of a function are under way than its kretprobe has room
//! for (`maxactive`). A run that was left out reports nothing, not even that. So what is known may be wrong as
//! soon as a number here has grown; of which group isn't told.

use std::{
    collections::BTreeMap,
    fs, io,
    os::fd::{AsRawFd, RawFd},
};

use monitor_ebpf::wire::Hook;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use super::probes::{Attached, Probes};

/// `enum bpf_cmd` and `enum bpf_link_type` (include/uapi/linux/bpf.h).
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_LINK_TYPE_PERF_EVENT: u32 = 7;

/// The hooks of which a run is left out now and then, and no group's state hangs on it. An interrupt submits
/// invalidations at any moment, and a return that is missed hides no flush (`monitor-ebpf/src/descriptor/window.rs`).
/// Processes end, and are preempted in the middle of it: what is missed of them accuses nobody. I/O page faults are only
/// counted. Two processes that read groups' state come in each other's way, and a reading of which a part is missing makes
/// nothing known: it isn't of the whole group, and is asked for again (`model/look.rs`).
const HARMLESS: [Hook; 8] = [
    Hook::VtdSubmit,
    Hook::MmDrop,
    Hook::MmExit,
    Hook::IoPageFault,
    Hook::SnapshotGroup,
    Hook::SnapshotIntel,
    Hook::SnapshotAmd,
    Hook::SnapshotDma,
];

/// What the kernel says of all programs together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Missed {
    /// Runs left out, since the programs were attached.
    pub runs: u64,
    /// Which programs' they were, as far as the kernel counts by program: those of which any were left out.
    pub programs: BTreeMap<String, u64>,
    /// Kprobes of which this kernel does not say it (before 6.7).
    pub untold: usize,
}

impl Missed {
    /// The programs of which more were left out than `before`.
    pub fn since<'a>(&'a self, before: &'a Missed) -> impl Iterator<Item = &'a str> {
        let more = |entry: &(&String, &u64)| before.programs.get(entry.0).is_none_or(|had| had < entry.1);
        self.programs.iter().filter(more).map(|(name, _)| name.as_str())
    }
}

/// Where the kernel is asked.
pub struct Misses {
    /// The links of kprobes and kretprobes: open as long as the probes are, to which they belong.
    kprobes: Vec<RawFd>,
}

impl Misses {
    /// To be called when everything is attached.
    pub fn new(probes: &Probes) -> Misses {
        let has_kprobes = probes.attached.iter().any(|attached| attached.kprobe);
        Misses { kprobes: if has_kprobes { perf_links() } else { Vec::new() } }
    }

    /// How many runs were left out of the programs that `open` opens beside those that are open.
    pub(super) fn of<E>(open: impl FnOnce() -> Result<Vec<Attached>, E>) -> Result<u64, E> {
        let others = perf_links();
        let attached = open()?;
        let mut kprobes = perf_links();
        kprobes.retain(|link| !others.contains(link));
        Ok(Misses { kprobes }.count(&attached).runs)
    }

    /// Makes a system call for each program, and one more for each kprobe.
    pub fn read(&self, probes: &Probes) -> Missed {
        self.count(&probes.attached)
    }

    fn count(&self, attached: &[Attached]) -> Missed {
        let mut missed = Missed::default();
        let mut kprobes = 0;
        for Attached { name, program, kprobe, .. } in attached {
            if HARMLESS.iter().any(|hook| name.starts_with(hook.name())) {
                continue;
            }
            kprobes += usize::from(*kprobe);
            if let Ok((info, _)) = info::<ProgramInfo>(program.as_raw_fd())
                && info.recursion_misses > 0
            {
                missed.runs = missed.runs.saturating_add(info.recursion_misses);
                missed.programs.insert(name.clone(), info.recursion_misses);
            }
        }
        let told = self.kprobes.iter().filter_map(|&link| kprobe_misses(link));
        let told = told.map(|misses| missed.runs = missed.runs.saturating_add(misses)).count();
        missed.untold = kprobes.saturating_sub(told);
        missed
    }
}

/// `struct bpf_prog_info`, up to the member that is of interest (from 5.12).
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct ProgramInfo {
    before: [u64; 26],
    recursion_misses: u64,
}

/// `struct bpf_link_info` with its member `perf_event.kprobe`, up to the member that is of interest (from 6.7).
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct LinkInfo {
    kind: u32,
    id: u32,
    program: u32,
    reserved: u32,
    event: u32,
    reserved_too: u32,
    function: u64,
    function_len: u32,
    offset: u32,
    address: u64,
    missed: u64,
}

/// How often a kprobe did not run; `None` where the kernel does not say.
fn kprobe_misses(link: RawFd) -> Option<u64> {
    let (info, known) = info::<LinkInfo>(link).ok()?;
    (known >= size_of::<LinkInfo>()).then_some(info.missed)
}

/// The descriptors of this process that are BPF links to perf events. The loader, which made them, gives
/// access to none.
fn perf_links() -> Vec<RawFd> {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return Vec::new() };
    let descriptors = entries.flatten().filter_map(|entry| {
        let target = fs::read_link(entry.path()).ok()?;
        let number = entry.file_name().to_str()?.parse::<RawFd>().ok()?;
        target.to_str()?.contains("bpf_link").then_some(number)
    });
    descriptors
        .filter(|&descriptor| {
            info::<LinkInfo>(descriptor).is_ok_and(|(info, _)| info.kind == BPF_LINK_TYPE_PERF_EVENT)
        })
        .collect()
}

/// What the kernel tells of a BPF object, and how many bytes of it this kernel knows; the rest is zero.
fn info<T: FromZeros + FromBytes + IntoBytes>(descriptor: RawFd) -> io::Result<(T, usize)> {
    /// The member `info` of `union bpf_attr`.
    #[repr(C)]
    struct Query {
        descriptor: u32,
        len: u32,
        info: u64,
    }
    let mut info = T::new_zeroed();
    let mut query = Query {
        descriptor: u32::try_from(descriptor).map_err(io::Error::other)?,
        len: size_of::<T>() as u32,
        info: (&raw mut info).expose_provenance() as u64,
    };
    // SAFETY: the kernel writes to `query`, and at most `len` bytes to `info`; both live until it is done, and
    // any bytes are a `T`.
    let status =
        unsafe { libc::syscall(libc::SYS_bpf, BPF_OBJ_GET_INFO_BY_FD, &raw mut query, size_of::<Query>()) };
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok((info, query.len as usize)) }
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;

    #[test]
    fn the_layouts_are_those_of_the_kernels_interface() {
        assert_eq!(offset_of!(ProgramInfo, recursion_misses), 208);
        assert_eq!(offset_of!(LinkInfo, event), 16);
        assert_eq!(offset_of!(LinkInfo, missed), 48);
        assert_eq!(size_of::<LinkInfo>(), 56);
    }

    #[test]
    fn the_programs_are_named_of_which_more_were_left_out() {
        let missed = |programs: &[(&str, u64)]| Missed {
            programs: programs.iter().map(|&(name, count)| (name.to_owned(), count)).collect(),
            ..Missed::default()
        };
        let (before, now) = (missed(&[("a", 1), ("b", 1)]), missed(&[("a", 1), ("b", 2), ("c", 1)]));
        assert_eq!(now.since(&before).collect::<Vec<_>>(), ["b", "c"]);
    }

    #[test]
    fn what_is_no_bpf_object_is_an_error() {
        let file = fs::File::open("/proc/self/status").expect("every process has one");
        assert!(info::<ProgramInfo>(file.as_raw_fd()).is_err());
        assert!(info::<ProgramInfo>(-1).is_err());
        assert_eq!(kprobe_misses(file.as_raw_fd()), None);
    }
}
