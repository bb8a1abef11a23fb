//! The machine that a program runs on: groups with their devices, tasks and CPUs.

use crate::kernel::Era;
use crate::random::Random;

/// Names of the devices, in the order in which they are given out.
const NAMES: [&str; 16] = [
    "0000:01:00.0",
    "0000:01:00.1",
    "0000:01:00.2",
    "0000:02:00.0",
    "0000:02:00.1",
    "0000:02:00.2",
    "0000:03:00.0",
    "0000:03:00.1",
    "0000:03:00.2",
    "0000:04:00.0",
    "0000:04:00.1",
    "0000:04:00.2",
    "0000:05:00.0",
    "0000:05:00.1",
    "0000:05:00.2",
    "0000:06:00.0",
];

/// The tasks of a program, each on a CPU of its own as long as it isn't moved.
pub const TASKS: usize = 8;
/// Two more, who do what is planted.
pub const CULPRITS: usize = 2;

#[derive(Clone, Debug)]
pub struct World {
    pub era: Era,
    pub groups: Vec<Members>,
}

#[derive(Clone, Debug)]
pub struct Members {
    pub id: u32,
    pub devices: Vec<Member>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    pub name: &'static str,
    /// 0: it takes no PASIDs, and the core skips it.
    pub max_pasids: u32,
    /// Those who call for it are its driver; else they are modules that nobody knows of.
    pub bound: bool,
}

impl World {
    /// Four to five groups of one to three devices; the first device of a group takes PASIDs.
    pub fn random(random: &mut Random) -> World {
        let eras =
            [Era::Owners, Era::Domains, Era::Handles, Era::Tagged, Era::Domains, Era::Handles, Era::Tagged];
        let era = eras[random.below(eras.len() as u64) as usize];
        let mut names = NAMES.iter();
        let groups = (0..4 + random.below(2)).map(|index| {
            let bound = !random.one_in(3);
            Members {
                id: 7 + index as u32,
                devices: (0..1 + random.below(3))
                    .filter_map(|member| {
                        let max_pasids = if member > 0 && random.one_in(3) { 0 } else { 1 << 20 };
                        names.next().map(|&name| Member { name, max_pasids, bound })
                    })
                    .collect(),
            }
        });
        World { era, groups: groups.collect() }
    }
}
