//! What the operator wants to see.

/// What the operator wants to see; what is empty lets everything pass.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub groups: Vec<u32>,
    /// Names of devices.
    pub devices: Vec<String>,
    /// Names of checks; the others are off.
    pub checks: Vec<String>,
}

impl Filter {
    pub fn check(&self, name: &str) -> bool {
        self.checks.is_empty() || self.checks.iter().any(|wanted| wanted == name)
    }

    pub(super) fn passes(&self, group: Option<u32>, devices: &[String]) -> bool {
        (self.groups.is_empty() || group.is_some_and(|group| self.groups.contains(&group)))
            && (self.devices.is_empty() || devices.iter().any(|device| self.devices.contains(device)))
    }
}
