//! What the control groups of this process let it have: of interest before it takes what it can't have.
//!
//! What is charged for a page of its own beyond `memory.max` has the kernel kill it (`try_charge_memcg`, mm/memcontrol.c);
//! afterwards there is nobody who could say why.

use std::{fs, path::Path};

const MEMBERSHIP: &str = "/proc/self/cgroup";
/// Where control groups of the second version are.
const HIERARCHY: &str = "/sys/fs/cgroup";

/// A bound that is nearer than the kernel's own: whose, and how many bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    pub of: String,
    pub bytes: u64,
}

/// The tightest bound on this process's memory; `None`: there is none, or it can't be read.
pub fn memory() -> Option<Bound> {
    tightest(&fs::read_to_string(MEMBERSHIP).ok()?, Path::new(HIERARCHY))
}

/// Of its group and all above it.
fn tightest(membership: &str, root: &Path) -> Option<Bound> {
    let own = membership.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let own = root.join(own);
    let groups = own.ancestors().take_while(|group| group.starts_with(root));
    let bounds = groups.filter_map(|group| {
        let of = group.join("memory.max");
        let bytes = fs::read_to_string(&of).ok()?.trim().parse().ok()?;
        Some(Bound { of: of.display().to_string(), bytes })
    });
    bounds.min_by_key(|bound| bound.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_of_all_groups_above_counts() -> std::io::Result<()> {
        let root = std::env::temp_dir().join(format!("iommu-watch-cgroup-{}", std::process::id()));
        let own = root.join("system.slice/iommu-watch.service");
        fs::create_dir_all(&own)?;
        fs::write(own.join("memory.max"), "268435456\n")?;
        let membership = "1:name=x:/y\n0::/system.slice/iommu-watch.service\n";
        let of =
            |group: &Path, bytes| Some(Bound { of: group.join("memory.max").display().to_string(), bytes });
        assert_eq!(tightest(membership, &root), of(&own, 268_435_456));
        fs::write(root.join("system.slice/memory.max"), "4096\n")?;
        assert_eq!(tightest(membership, &root), of(&root.join("system.slice"), 4096));
        fs::write(root.join("system.slice/memory.max"), "max\n")?;
        assert_eq!(tightest(membership, &root), of(&own, 268_435_456));
        assert_eq!(tightest("1:memory:/x\n", &root), None);
        assert_eq!(tightest("0::/../..\n", &root), None);
        fs::remove_dir_all(&root)
    }
}
