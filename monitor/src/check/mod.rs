//! The checks: each holds one invariant against what became known.
//!
//! A check keeps no state of its own. It judges a transition by the model, and says of what it raised
//! whether it still stands.

mod ats_flush_to_absent;
mod attach_imbalance;
mod book;
mod cache_tag;
mod cache_tag_leaked;
mod capability_off_under_pasids;
mod devtlb_tag_missing;
mod dispatch;
mod domain_freed_while_attached;
mod domain_off_default;
mod driver_detach_failed;
mod drivers;
mod expectation;
mod failed_attach_residue;
mod fault_after_detach;
mod fingerprint;
mod flush;
mod flush_range_short;
mod flush_slow;
mod group_divergence;
mod invalidation_failed;
mod iopf_unanswered;
mod kernel_advisory;
mod look;
mod open;
mod outcome;
mod ownership_conflict;
mod ownership_leaked;
mod ownership_stuck;
mod pasid_freed_while_attached;
mod pasid_leaked;
mod pasid_left_on_release;
mod pasid_lost_on_detach;
mod pasid_reused_without_flush;
mod pasid_table_mismatch;
mod pasid_table_shared;
mod released_with_pasids;
mod reset_unpaired;
mod rid_switch_refused;
mod settings;
mod spec;
mod sva_bond_imbalance;
mod sva_outlives_mm;
mod teardown_flush_incomplete;
pub mod threshold;
mod user_pasid_on_nonconforming;
mod violation;

pub(crate) use book::{Book, Carried, Scope};
pub(crate) use dispatch::Dispatch;
pub use expectation::Expectation;
pub use fingerprint::Fingerprint;
pub(crate) use outcome::Outcome;
pub use outcome::{Reason, Resolved};
pub(crate) use ownership_stuck::was_last as was_last_release;
pub use settings::Settings;
pub use spec::{CheckState, Needs, Severity, Spec, alert_name};
pub use violation::{
    Confidence, Fault, Finding, Implied, Pasid, Read, Standing, Step, Subject, Value, Violation,
};

use monitor_ebpf::wire::Hook;

use crate::advisory::Advisories;
use crate::coverage::Coverage;
use crate::inventory::Inventory;
use crate::model::{Group, GroupRef, Host, Look, Names, Transition};

/// Every check, in the order in which they are listed.
pub static REGISTRY: [&dyn Check; 33] = [
    &pasid_left_on_release::PasidLeftOnRelease,
    &ownership_stuck::OwnershipStuck,
    &ownership_leaked::OwnershipLeaked,
    &domain_off_default::DomainOffDefault,
    &ownership_conflict::OwnershipConflict,
    &attach_imbalance::AttachImbalance,
    &pasid_lost_on_detach::PasidLostOnDetach,
    &rid_switch_refused::RidSwitchRefused,
    &user_pasid_on_nonconforming::UserPasidOnNonconforming,
    &capability_off_under_pasids::CapabilityOffUnderPasids,
    &driver_detach_failed::DriverDetachFailed,
    &failed_attach_residue::FailedAttachResidue,
    &group_divergence::GroupDivergence,
    &pasid_freed_while_attached::PasidFreedWhileAttached,
    &pasid_leaked::PasidLeaked,
    &pasid_table_shared::PasidTableShared,
    &pasid_table_mismatch::PasidTableMismatch,
    &released_with_pasids::ReleasedWithPasids,
    &domain_freed_while_attached::DomainFreedWhileAttached,
    &sva_bond_imbalance::SvaBondImbalance,
    &sva_outlives_mm::SvaOutlivesMm,
    &teardown_flush_incomplete::TeardownFlushIncomplete,
    &invalidation_failed::InvalidationFailed,
    &pasid_reused_without_flush::PasidReusedWithoutFlush,
    &fault_after_detach::FaultAfterDetach,
    &iopf_unanswered::IopfUnanswered,
    &reset_unpaired::ResetUnpaired,
    &devtlb_tag_missing::DevtlbTagMissing,
    &cache_tag_leaked::CacheTagLeaked,
    &flush_slow::FlushSlow,
    &ats_flush_to_absent::AtsFlushToAbsent,
    &flush_range_short::FlushRangeShort,
    &kernel_advisory::KernelAdvisory,
];

/// One invariant.
pub trait Check: Sync {
    fn spec(&self) -> &'static Spec;

    /// Holds what became known against the invariant. Called for the kinds that the spec's `judges` names.
    fn judge(&self, _transition: &Transition, _case: &mut Case<'_>) {}

    /// Holds one look at a group against the invariant, where that decides it.
    fn look(&self, _look: &Look, _group: &Group, _case: &mut Case<'_>) {}

    /// Holds what is known of the kernel against the invariant.
    fn advise(&self, _advisories: &Advisories, _mono_ns: u64, _case: &mut Case<'_>) {}

    /// The IOMMU driver of this group was seen to break a rule of the API, for the first time.
    fn deviates(&self, _group: &Group, _mono_ns: u64, _case: &mut Case<'_>) {}

    /// Whether it takes looks at groups where a call did what only a look tells.
    fn wants_looks(&self) -> bool {
        false
    }

    /// Whether what was found still stands.
    fn standing(&self, subject: &Subject, host: &Host) -> Standing;

    /// How far the check can do its work.
    fn state(&self, coverage: &Coverage, _inventory: Option<&Inventory>) -> CheckState {
        self.spec().needs.state(coverage)
    }

    /// How far one look at the groups decides it; `None`: it takes events.
    fn look_state(&self, coverage: &Coverage, _inventory: Option<&Inventory>) -> Option<CheckState> {
        self.spec().by_look.as_ref().map(|needs| needs.state(coverage))
    }
}

/// What a check judges by, and where it puts what it found.
pub struct Case<'a> {
    pub host: &'a Host,
    pub names: &'a mut Names,
    pub findings: &'a mut Vec<Finding>,
    pub conformance: &'a dyn Conforming,
}

/// Who knows how the IOMMU drivers behaved so far.
pub trait Conforming {
    /// The IOMMU driver of a group, and the rules of the API that it was seen to break, but for what is allowed; `None`:
    /// it broke none.
    fn deviation(&self, group: GroupRef, mono_ns: u64) -> Option<(String, Vec<&'static str>)>;
}

/// This check is off unless it is asked for: it needs hooks that are attached for whoever asks alone.
pub fn is_on_demand(name: &str) -> bool {
    find(name).is_some_and(|check| check.spec().needs.hooks().any(Hook::on_demand))
}

/// The check of this name.
pub fn find(name: &str) -> Option<&'static dyn Check> {
    REGISTRY.iter().copied().find(|check| check.spec().name == name)
}
