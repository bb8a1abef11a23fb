//! What sysfs tells of groups and devices: names, drivers and IOMMU instances. State is not read here:
//! sysfs does not have it.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
};

use super::catalogue::Drivers;
use crate::inventory::{DeviceEntry, GroupEntry, Inventory};

/// sysfs under a root of its own, so that tests can lay out one.
pub struct Sysfs {
    root: PathBuf,
}

impl Default for Sysfs {
    fn default() -> Sysfs {
        Sysfs { root: PathBuf::from("/sys") }
    }
}

impl Sysfs {
    pub fn at(root: impl Into<PathBuf>) -> Sysfs {
        Sysfs { root: root.into() }
    }

    /// The folder of the groups.
    pub fn groups(&self) -> PathBuf {
        self.root.join("kernel/iommu_groups")
    }

    /// Every group with its members. Groups and devices that go away meanwhile are left out; a kernel
    /// without IOMMU support has none.
    pub fn inventory(&self) -> io::Result<Inventory> {
        let instances = self.instances();
        let mut groups = Vec::new();
        for path in entries(&self.groups())? {
            let Some(id) = name(&path).and_then(|name| name.parse().ok()) else { continue };
            let mut devices: Vec<DeviceEntry> = entries(&path.join("devices"))?
                .iter()
                .filter_map(|device| {
                    let name = name(device)?.to_owned();
                    let iommu = instances.get(&name).cloned();
                    Some(DeviceEntry {
                        driver: link(&device.join("driver")),
                        iommu_driver: iommu.as_deref().map(driver_of),
                        iommu,
                        name,
                    })
                })
                .collect();
            devices.sort_by(|a, b| a.name.cmp(&b.name));
            let default_domain =
                fs::read_to_string(path.join("type")).ok().map(|text| text.trim().to_owned());
            groups.push(GroupEntry { id, default_domain, devices });
        }
        groups.sort_by_key(|group| group.id);
        Ok(Inventory { groups })
    }

    /// The drivers that have an IOMMU here, of those whose hooks are told apart. Where that can't be read, all may have.
    pub fn drivers(&self) -> Drivers {
        let Ok(instances) = entries(&self.root.join("class/iommu")) else { return Drivers::EVERY };
        let running: Vec<String> = instances.iter().filter_map(|path| name(path).map(driver_of)).collect();
        Drivers::of(|driver| running.iter().any(|running| running == driver.name()))
    }

    /// The IOMMU instance behind each device, by the device's name.
    fn instances(&self) -> HashMap<String, String> {
        let mut by_device = HashMap::new();
        for instance in entries(&self.root.join("class/iommu")).unwrap_or_default() {
            let Some(iommu) = name(&instance) else { continue };
            for device in entries(&instance.join("devices")).unwrap_or_default() {
                // Each is a link to the device, itself named after it.
                if let Some(device) = link(&device).as_deref().or(name(&device)) {
                    by_device.insert(device.to_owned(), iommu.to_owned());
                }
            }
        }
        by_device
    }
}

/// The driver of an IOMMU instance, by the names that the drivers give (`iommu_device_sysfs_add`:
/// intel/dmar.c `dmar%d`, amd/init.c `ivhd%d`, arm-smmu-v3.c `smmu3.%pa`, arm-smmu.c `smmu.%pa`).
fn driver_of(instance: &str) -> String {
    let known = [("dmar", "intel"), ("ivhd", "amd"), ("smmu3.", "arm-smmu-v3"), ("smmu.", "arm-smmu")];
    match known.iter().find(|(prefix, _)| instance.starts_with(prefix)) {
        Some((_, driver)) => (*driver).to_owned(),
        None => instance.trim_end_matches(|c: char| c.is_ascii_digit()).to_owned(),
    }
}

/// The entries of a folder; none if there is no such folder.
fn entries(path: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(path) {
        Ok(listing) => listing.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

/// The last part of what a link points to.
fn link(path: &Path) -> Option<String> {
    name(&fs::read_link(path).ok()?).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::super::catalogue::Driver;
    use super::*;

    #[test]
    fn a_group_names_its_members_their_drivers_and_their_iommu() -> io::Result<()> {
        let root = std::env::temp_dir().join(format!("iommu-watch-sysfs-{}", std::process::id()));
        let device = root.join("devices/pci0000:00/0000:01:00.0");
        let group = root.join("kernel/iommu_groups/5");
        let class = root.join("class/iommu/dmar0/devices");
        for folder in [&device, &group.join("devices"), &class] {
            fs::create_dir_all(folder)?;
        }
        fs::write(group.join("type"), "DMA-FQ\n")?;
        symlink(&device, group.join("devices/0000:01:00.0"))?;
        symlink(&device, class.join("0000:01:00.0"))?;
        symlink(root.join("bus/pci/drivers/nvme"), device.join("driver"))?;

        let inventory = Sysfs::at(&root).inventory();
        fs::remove_dir_all(&root)?;
        let expected = GroupEntry {
            id: 5,
            default_domain: Some("DMA-FQ".into()),
            devices: vec![DeviceEntry {
                name: "0000:01:00.0".into(),
                driver: Some("nvme".into()),
                iommu: Some("dmar0".into()),
                iommu_driver: Some("intel".into()),
            }],
        };
        assert_eq!(inventory?.groups, [expected]);
        Ok(())
    }

    #[test]
    fn a_driver_is_in_use_where_it_has_an_instance() -> io::Result<()> {
        let root = std::env::temp_dir().join(format!("iommu-watch-drivers-{}", std::process::id()));
        for instance in ["ivhd0", "ivhd1", "smmu.0x1", "softiommu0"] {
            fs::create_dir_all(root.join("class/iommu").join(instance))?;
        }
        let drivers = Sysfs::at(&root).drivers();
        fs::remove_dir_all(&root)?;
        assert_eq!(Driver::ALL.map(|driver| drivers.has(driver)), [false, true, false]);
        Ok(())
    }

    #[test]
    fn where_the_instances_can_not_be_read_every_driver_may_be_in_use() -> io::Result<()> {
        let root = std::env::temp_dir().join(format!("iommu-watch-no-drivers-{}", std::process::id()));
        fs::create_dir_all(root.join("class"))?;
        fs::write(root.join("class/iommu"), "no folder")?;
        let drivers = Sysfs::at(&root).drivers();
        fs::remove_dir_all(&root)?;
        assert_eq!(drivers, Drivers::EVERY);
        Ok(())
    }

    #[test]
    fn a_kernel_without_groups_has_an_empty_inventory() -> io::Result<()> {
        assert_eq!(Sysfs::at("/nonexistent").inventory()?, Inventory::default());
        Ok(())
    }
}
