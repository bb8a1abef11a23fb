//! The rules of the API that a driver is held to, each with the checks that find it broken.

use monitor_ebpf::wire::Hook;

/// One rule.
#[derive(Debug)]
pub struct Rule {
    /// Its name in the reports.
    pub name: &'static str,
    /// What a driver that conforms does.
    pub holds: &'static str,
    /// A violation of one of these breaks it. The first one must judge, or nothing is exercised.
    pub checks: &'static [&'static str],
    /// A violation that is for information breaks it, too.
    pub by_info: bool,
    /// The drivers of which it can be seen, each by a hook of its own; empty: it is seen of every driver.
    pub seen_of: &'static [(&'static str, Hook)],
}

/// By what a driver takes an entry off.
const CLEARS: &[(&str, Hook)] =
    &[("intel", Hook::VtdTearDown), ("amd", Hook::AmdClear), ("arm-smmu-v3", Hook::SmmuClear)];

/// Every rule, in the order of the reports.
pub static RULES: [Rule; 9] = [
    Rule {
        name: "rid-switch-keeps-pasids",
        holds: "a switch of the RID's domain leaves the device's PASIDs alone (a); it doesn't take them with it (b), and \
                isn't refused because of them (c)",
        checks: &["pasid-lost-on-detach", "rid-switch-refused"],
        by_info: true,
        seen_of: CLEARS,
    },
    Rule {
        name: "capabilities-stay-on",
        holds: "PASID and ATS of a device stay on through a switch of the RID's domain while PASIDs are attached",
        checks: &["capability-off-under-pasids"],
        by_info: false,
        seen_of: &[],
    },
    Rule {
        name: "table-per-device",
        holds: "every device has a PASID table of its own",
        checks: &["pasid-table-shared"],
        by_info: true,
        seen_of: &[],
    },
    Rule {
        name: "tables-agree",
        holds: "what is attached is in the hardware's PASID table, and nothing else",
        checks: &["pasid-table-mismatch"],
        by_info: false,
        seen_of: &[],
    },
    Rule {
        name: "detach-is-done",
        holds: "a PASID is taken off when the core says so",
        checks: &["driver-detach-failed"],
        by_info: false,
        seen_of: &[("intel", Hook::VtdDetach), ("amd", Hook::AmdDetach), ("arm-smmu-v3", Hook::SmmuDetach)],
    },
    Rule {
        name: "teardown-is-flushed",
        holds: "a PASID entry that is torn down is dropped from every cache before that returns",
        checks: &["teardown-flush-incomplete", "pasid-reused-without-flush"],
        by_info: false,
        seen_of: &[("intel", Hook::VtdQueue), ("amd", Hook::AmdQueue), ("arm-smmu-v3", Hook::SmmuQueue)],
    },
    Rule {
        name: "failed-attach-rolls-back",
        holds: "an attach or replace that failed leaves every member as it was",
        checks: &["failed-attach-residue"],
        by_info: false,
        seen_of: &[],
    },
    Rule {
        name: "members-alike",
        holds: "the members of a group translate a PASID alike",
        checks: &["group-divergence"],
        by_info: false,
        seen_of: &[],
    },
    Rule {
        name: "default-domain-restored",
        holds: "after the last release the group is back on its default domain",
        checks: &["ownership-stuck"],
        by_info: false,
        seen_of: &[],
    },
];

/// Where a rule is in [`RULES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Index {
    Switch,
    Capabilities,
    OwnTable,
    Agree,
    Detach,
    Flush,
    RollBack,
    Alike,
    Restored,
}
