//! Asking the kernel for a group's state: reading its `reserved_regions` makes the core take the group's
//! mutex and call into the driver of each member, where a program of ours reports what it finds.
//! The answers arrive through the ring, in order with everything else.

use std::{fs, io, path::Path};

use monitor_ebpf::wire::{Hook, is_snapshot};

/// What one look at the state needs, and no more: the snapshot, and who goes away while we look.
pub fn is_needed(hook: Hook) -> bool {
    is_snapshot(hook) || matches!(hook, Hook::DeviceAdd | Hook::DeviceRemove)
}

/// The ids of all groups under `root` (`/sys/kernel/iommu_groups`); none if the kernel has no IOMMU.
pub fn groups(root: &Path) -> io::Result<Vec<u32>> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut ids = Vec::new();
    for entry in entries {
        ids.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()));
    }
    ids.sort_unstable();
    Ok(ids)
}

/// What came of asking for a group's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The kernel walked through it; what it found is in the ring.
    Asked,
    /// There is no such group (any more).
    Gone,
}

/// Asks for the state of one group.
pub fn request(root: &Path, group: u32) -> io::Result<Answer> {
    match fs::read(root.join(group.to_string()).join("reserved_regions")) {
        Ok(_) => Ok(Answer::Asked),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Answer::Gone),
        Err(error) => Err(error),
    }
}
