//! What sysfs says of the host's IOMMU groups: plain data, made by `kernel`, read by everything above.
//!
//! It names things (drivers, IOMMU instances) that no event carries. It proves nothing about state: a
//! check never judges by it. Recordings hold it as it is here, by the names of its members.

use serde::{Deserialize, Serialize};

/// Every group of the host, in ascending order of id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Inventory {
    pub groups: Vec<GroupEntry>,
}

/// One folder of /sys/kernel/iommu_groups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupEntry {
    pub id: u32,
    /// The `type` file: what the group's default domain is (`DMA`, `DMA-FQ`, `identity`, …).
    pub default_domain: Option<String>,
    pub devices: Vec<DeviceEntry>,
}

/// One member of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceEntry {
    /// `0000:01:00.0` for a PCI device, else the name of the device on its bus.
    pub name: String,
    /// The driver that is bound to it.
    pub driver: Option<String>,
    /// The IOMMU instance that translates for it: `dmar0`.
    pub iommu: Option<String>,
    /// The driver of that instance: `intel`, `amd`, `arm-smmu-v3`, else the raw name of its class device.
    pub iommu_driver: Option<String>,
}

impl Inventory {
    pub fn group(&self, id: u32) -> Option<&GroupEntry> {
        self.groups.iter().find(|group| group.id == id)
    }

    /// Whether any device sits behind an IOMMU of this driver.
    pub fn has_iommu_driver(&self, name: &str) -> bool {
        let mut devices = self.groups.iter().flat_map(|group| &group.devices);
        devices.any(|device| device.iommu_driver.as_deref() == Some(name))
    }
}

impl GroupEntry {
    pub fn device(&self, name: &str) -> Option<&DeviceEntry> {
        self.devices.iter().find(|device| device.name == name)
    }

    /// The driver of the IOMMU that the group sits behind; its members share one.
    pub fn iommu_driver(&self) -> Option<&str> {
        self.devices.iter().find_map(|device| device.iommu_driver.as_deref())
    }
}
