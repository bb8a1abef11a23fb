//! Whether the heap of what watches for long lies in huge pages. A host with thousands of groups has more of them than
//! the processor's TLB holds pages of 4 KiB, and then each event waits for a walk of the page tables. Elsewhere they
//! only cost memory: a kernel that has them `always` would fill what starting has left free with pages of zeroes.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::thread::disable_transparent_huge_pages;

use crate::kernel::{snapshot, sysfs::Sysfs};

/// glibc reads it before `main` (from 2.35; manual, "Memory Allocation Tunables"), so that a program has to start anew
/// to set it. 1: `madvise(MADV_HUGEPAGE)`, which a host without huge pages takes for nothing.
const TUNABLES: &str = "GLIBC_TUNABLES";
const HUGE_PAGES: &str = "glibc.malloc.hugetlb";

/// Set in what was started anew: where glibc listens to no tunables, they don't get there.
const STARTED_ANEW: &str = "IOMMU_WATCH_HUGE_PAGES";

/// From so many groups on: their state is then some 4 MiB, about what a TLB of 1,536 entries covers.
const GROUPS: usize = 1024;

/// Asks for them on a host with many groups, and else does without them. That is a matter of speed and of memory: whatever
/// is in the way of it, the program goes on as it is.
pub(super) fn settle() {
    if snapshot::groups(&Sysfs::default().groups()).is_ok_and(|groups| groups.len() >= GROUPS) {
        start_anew();
    } else {
        let _ = disable_transparent_huge_pages(true);
    }
}

/// Starts this program anew with them, in this process, unless that was done or somebody else has decided.
fn start_anew() {
    let Some(tunables) = wanted(env::var_os(TUNABLES).as_deref(), env::var_os(STARTED_ANEW).as_deref())
    else {
        return;
    };
    let Ok(program) = env::current_exe() else { return };
    let mut arguments = env::args_os();
    let name = arguments.next().unwrap_or_else(|| program.clone().into());
    let mut anew = Command::new(program);
    anew.arg0(name).args(arguments).env(TUNABLES, tunables).env(STARTED_ANEW, "1");
    // It comes back only if it failed.
    let _ = anew.exec();
}

fn wanted(set: Option<&OsStr>, started_anew: Option<&OsStr>) -> Option<OsString> {
    let set = set.unwrap_or_default();
    if started_anew.is_some() || set.to_string_lossy().contains(HUGE_PAGES) {
        return None;
    }
    let mut tunables = set.to_owned();
    if !tunables.is_empty() {
        tunables.push(":");
    }
    tunables.push(format!("{HUGE_PAGES}=1"));
    Some(tunables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_asked_for_once_and_not_against_anybodys_will() {
        let wanted = |set: Option<&str>, anew: Option<&str>| {
            wanted(set.map(OsStr::new), anew.map(OsStr::new)).map(|tunables| tunables.into_string())
        };
        assert_eq!(wanted(None, None), Some(Ok("glibc.malloc.hugetlb=1".into())));
        let others = "glibc.malloc.check=3";
        assert_eq!(wanted(Some(others), None), Some(Ok(format!("{others}:glibc.malloc.hugetlb=1"))));
        assert_eq!(wanted(Some("glibc.malloc.hugetlb=0"), None), None);
        assert_eq!(wanted(None, Some("1")), None);
    }
}
