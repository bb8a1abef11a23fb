//! Asking the kernel for a group's state: reading its `reserved_regions` makes the core take the group's
//! mutex and call into the driver of each member, where a program of ours reports what it finds.
//! The answers arrive through the ring, in order with everything else.

use std::{fs, io, path::Path};

/// Asks for the state of every group under `root` (`/sys/kernel/iommu_groups`). Returns how many were
/// asked, and those that could not be.
pub fn request_all(root: &Path) -> io::Result<(usize, Vec<(u32, io::Error)>)> {
    let mut asked = 0;
    let mut failed = Vec::new();
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        match fs::read(entry.path().join("reserved_regions")) {
            Ok(_) => asked += 1,
            // The group went away meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => failed.push((id, error)),
        }
    }
    Ok((asked, failed))
}
