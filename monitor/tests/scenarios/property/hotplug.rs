//! When devices may come and go.

use crate::kernel::Call;

use super::run::Run;

impl Run {
    /// The driver core unbinds first, and nothing of the group is in use.
    pub fn may_unplug(&self, device: &str) -> bool {
        let Some(group) = self.is_there(device).then(|| self.kernel.group_of(device)) else { return false };
        let state = self.kernel.state(group);
        self.kernel.is_free(group)
            && self.busy_with(group).next().is_none()
            && !self.planted.contains(&group)
            && (state.count, state.owner, state.array.len()) == (0, 0, 0)
            && state.domain == state.default_domain
            && !self.workers.iter().any(|worker| worker.debts.iter().any(|debt| debt.group == group))
    }

    /// iommu_attach_device wants to be alone in its group: nobody joins it then.
    pub fn may_plug(&self, group: u32, device: &str) -> bool {
        let alone = |call: &Call| matches!(call, Call::AttachDevice { .. } | Call::DetachDevice { .. });
        !self.is_there(device)
            && !self.planted.contains(&group)
            && (!self.exists(group) || self.kernel.is_free(group))
            && !self.busy_with(group).any(|running| alone(&running.call))
            && !self
                .workers
                .iter()
                .flat_map(|worker| &worker.debts)
                .any(|debt| debt.group == group && alone(&debt.back()))
    }
}
