//! The calls into the IOMMU core that can be made.

use monitor_ebpf::wire::Hook;

/// A call into the IOMMU core. Groups by their number, devices by their name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    Claim {
        group: u32,
        owner: u64,
    },
    Release {
        group: u32,
    },
    ClaimDevice {
        device: &'static str,
        owner: u64,
    },
    ReleaseDevice {
        device: &'static str,
    },
    Use {
        device: &'static str,
    },
    Unuse {
        device: &'static str,
    },
    AttachDevice {
        device: &'static str,
        domain: u64,
    },
    DetachDevice {
        device: &'static str,
        domain: u64,
    },
    AttachGroup {
        group: u32,
        domain: u64,
    },
    DetachGroup {
        group: u32,
        domain: u64,
    },
    /// iommufd's, from 6.11.
    AttachGroupHandle {
        group: u32,
        domain: u64,
    },
    ReplaceGroupHandle {
        group: u32,
        domain: u64,
    },
    DetachGroupHandle {
        group: u32,
        domain: u64,
    },
    /// `iommu_group_replace_domain`: iommufd's, 6.6 to 6.14.
    ReplaceGroup {
        group: u32,
        domain: u64,
    },
    Attach {
        device: &'static str,
        pasid: u32,
        domain: u64,
    },
    /// An attach without a handle: idxd's system PASID.
    AttachBare {
        device: &'static str,
        pasid: u32,
        domain: u64,
    },
    Replace {
        device: &'static str,
        pasid: u32,
        domain: u64,
    },
    Detach {
        device: &'static str,
        pasid: u32,
        domain: u64,
    },
    Bind {
        device: &'static str,
        mm: u64,
        pasid: u32,
    },
    Unbind {
        device: &'static str,
        mm: u64,
    },
    /// `pci_dev_reset_iommu_prepare`, from 7.0.
    ResetPrepare {
        device: &'static str,
    },
    /// `pci_dev_reset_iommu_done`
    ResetDone {
        device: &'static str,
    },
    /// `__pci_reset_function_locked`: what it does to the IOMMU, the calls inside it do.
    ResetFunction {
        device: &'static str,
    },
    /// `pcie_flr`
    ResetFlr {
        device: &'static str,
    },
}

impl Call {
    /// The device that it names.
    pub fn device(&self) -> Option<&'static str> {
        match *self {
            Call::ClaimDevice { device, .. }
            | Call::ReleaseDevice { device }
            | Call::Use { device }
            | Call::Unuse { device }
            | Call::AttachDevice { device, .. }
            | Call::DetachDevice { device, .. }
            | Call::Attach { device, .. }
            | Call::AttachBare { device, .. }
            | Call::Replace { device, .. }
            | Call::Detach { device, .. }
            | Call::Bind { device, .. }
            | Call::Unbind { device, .. }
            | Call::ResetPrepare { device }
            | Call::ResetDone { device }
            | Call::ResetFunction { device }
            | Call::ResetFlr { device } => Some(device),
            Call::Claim { .. }
            | Call::Release { .. }
            | Call::AttachGroup { .. }
            | Call::DetachGroup { .. }
            | Call::AttachGroupHandle { .. }
            | Call::ReplaceGroupHandle { .. }
            | Call::DetachGroupHandle { .. }
            | Call::ReplaceGroup { .. } => None,
        }
    }

    /// The PASID whose entry it works on. (A bind or an unbind does that by a call of its own.)
    pub fn pasid(&self) -> Option<u32> {
        match *self {
            Call::Attach { pasid, .. }
            | Call::AttachBare { pasid, .. }
            | Call::Replace { pasid, .. }
            | Call::Detach { pasid, .. } => Some(pasid),
            _ => None,
        }
    }

    /// The domain that it names.
    pub fn domain(&self) -> Option<u64> {
        match *self {
            Call::AttachDevice { domain, .. }
            | Call::DetachDevice { domain, .. }
            | Call::AttachGroup { domain, .. }
            | Call::DetachGroup { domain, .. }
            | Call::AttachGroupHandle { domain, .. }
            | Call::ReplaceGroupHandle { domain, .. }
            | Call::DetachGroupHandle { domain, .. }
            | Call::ReplaceGroup { domain, .. }
            | Call::Attach { domain, .. }
            | Call::AttachBare { domain, .. }
            | Call::Replace { domain, .. }
            | Call::Detach { domain, .. } => Some(domain),
            _ => None,
        }
    }

    /// The group that it names.
    pub fn group(&self) -> Option<u32> {
        match *self {
            Call::Claim { group, .. }
            | Call::Release { group }
            | Call::AttachGroup { group, .. }
            | Call::DetachGroup { group, .. }
            | Call::AttachGroupHandle { group, .. }
            | Call::ReplaceGroupHandle { group, .. }
            | Call::DetachGroupHandle { group, .. }
            | Call::ReplaceGroup { group, .. } => Some(group),
            _ => None,
        }
    }

    pub(super) fn hook(&self) -> Hook {
        match self {
            Call::Claim { .. } => Hook::ClaimGroup,
            Call::Release { .. } => Hook::ReleaseGroup,
            Call::AttachDevice { .. } => Hook::AttachDevice,
            Call::DetachDevice { .. } => Hook::DetachDevice,
            Call::AttachGroup { .. } => Hook::AttachGroup,
            Call::DetachGroup { .. } => Hook::DetachGroup,
            Call::AttachGroupHandle { .. } => Hook::AttachGroupHandle,
            Call::ReplaceGroupHandle { .. } => Hook::ReplaceGroupHandle,
            Call::DetachGroupHandle { .. } => Hook::DetachGroupHandle,
            Call::ReplaceGroup { .. } => Hook::ReplaceGroupDomain,
            Call::ClaimDevice { .. } => Hook::ClaimDevice,
            Call::ReleaseDevice { .. } => Hook::ReleaseDevice,
            Call::Use { .. } => Hook::UseDefault,
            Call::Unuse { .. } => Hook::UnuseDefault,
            Call::Attach { .. } | Call::AttachBare { .. } => Hook::PasidAttach,
            Call::Replace { .. } => Hook::PasidReplace,
            Call::Detach { .. } => Hook::PasidDetach,
            Call::Bind { .. } => Hook::SvaBind,
            Call::Unbind { .. } => Hook::SvaUnbind,
            Call::ResetPrepare { .. } => Hook::ResetPrepare,
            Call::ResetDone { .. } => Hook::ResetDone,
            Call::ResetFunction { .. } => Hook::ResetFunction,
            Call::ResetFlr { .. } => Hook::ResetFlr,
        }
    }
}
