//! What can be wrong.

/// What a kernel, or what calls it, may do wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// The last release forgets to give the owner up.
    pub release_keeps_owner: bool,
    /// The last release forgets to go back to the default domain.
    pub release_keeps_domain: bool,
    /// `iommu_device_unuse_default_domain` forgets to count down.
    pub unuse_keeps_count: bool,
    /// An attach doesn't look whether the PASID is attached.
    pub attach_over: bool,
    /// A replace doesn't look whether the PASID is attached.
    pub replace_nothing: bool,
    /// Every unbind detaches, not the last alone.
    pub unbind_detaches: bool,
    /// No unbind detaches, not even the last.
    pub unbind_keeps: bool,
    /// A member that refuses a domain has it in its hardware table all the same.
    pub refusal_stays: bool,
    /// Members that had taken what another one refuses keep it.
    pub no_way_back: bool,
    /// An attach leaves the last member out.
    pub skips_last: bool,
    /// A switch of a RID's domain clears the PASIDs of the first member that has some.
    pub switch_clears: bool,
    /// A switch of a RID's domain frees the table of the first member that has PASIDs.
    pub switch_frees: bool,
    /// A member with PASIDs refuses a switch of its RID's domain.
    pub switch_refuses: bool,
    /// A switch of a RID's domain switches these capabilities off.
    pub switch_ats_off: bool,
    pub switch_pasid_off: bool,
    /// The driver doesn't take a PASID off the first device, and says so.
    pub detach_fails: bool,
    /// It leaves the entry of a PASID that is detached in the last member's table, and doesn't say so.
    pub detach_keeps_entry: bool,
    /// The end of a reset puts the RID back, and no PASID.
    pub done_loses_pasids: bool,
    /// The driver refuses to put the RID back at the end of a reset.
    pub done_is_refused: bool,
}
