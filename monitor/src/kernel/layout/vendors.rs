//! Where the drivers of three vendors keep a device's PASID table, by what their structures have, and whether
//! it can be read on a kernel.

use monitor_ebpf::wire::{ABSENT, AmdLayout, Bit, Hook, Layout, SmmuLayout, Symbols, Variable};

use super::{
    super::btf::{Btf, Error, Parameter},
    bit, offset,
};

/// AMD: `iommu_dev_data.gcr3_info` came with 6.9 ("iommu/amd: Introduce get_gcr3_info()"), before it the table
/// was the domain's.
pub fn amd(btf: &Btf) -> Result<AmdLayout, Error> {
    let device = |path: &str| offset(btf, "iommu_dev_data", "", path);
    let domain = |path: &str| offset(btf, "protection_domain", "", path);
    Ok(match device("gcr3_info.gcr3_tbl")? {
        ABSENT => AmdLayout {
            domain: device("domain")?,
            table: domain("gcr3_tbl")?,
            levels: domain("glx")?,
            id: domain("id")?,
        },
        table => AmdLayout {
            domain: ABSENT,
            table,
            levels: device("gcr3_info.glx")?,
            id: device("gcr3_info.domid")?,
        },
    })
}

/// Whether AMD's device has ATS on: a flag of its own, up to 6.6 in a structure ("iommu/amd: Introduce iommu_dev_data
/// flags to track device capabilities").
pub fn amd_ats(btf: &Btf) -> Result<Bit, Error> {
    let own = bit(btf, "iommu_dev_data", "ats_enabled")?;
    if own == Bit::ABSENT { bit(btf, "iommu_dev_data", "ats.enabled") } else { Ok(own) }
}

/// SMMUv3: `arm_smmu_master.cd_table` came with 6.7 ("iommu/arm-smmu-v3: Move CD table to
/// arm_smmu_master"), before it the table was the domain's. SMMUv2 has structures of the same names, so each is
/// told by a member that only SMMUv3's has.
pub fn smmu(btf: &Btf) -> Result<SmmuLayout, Error> {
    let master = |path: &str| offset(btf, "arm_smmu_master", "", path);
    let domain = |path: &str| offset(btf, "arm_smmu_domain", "s1_cfg", path);
    let config = |path: &str| offset(btf, "arm_smmu_ctx_desc_cfg", "", path);
    let first = |paths: [&str; 2]| match config(paths[0])? {
        ABSENT => config(paths[1]),
        found => Ok(found),
    };
    let own = master("cd_table")?;
    let (master_domain, config_at, format) = if own != ABSENT {
        (ABSENT, own, config("s1fmt")?)
    } else {
        // `s1fmt` stands behind the configuration, in `struct arm_smmu_s1_cfg`.
        let (at, format) = (domain("s1_cfg.cdcfg")?, domain("s1_cfg.s1fmt")?);
        (master("domain")?, at, if format == ABSENT { ABSENT } else { format.wrapping_sub(at) })
    };
    // Up to 6.10 the list is of `struct arm_smmu_l1_ctx_desc`, since then of pointers.
    let (list_width, list_pointer) = if config("l2.l2ptrs")? != ABSENT {
        (0, 0)
    } else {
        match (btf.size("arm_smmu_l1_ctx_desc"), offset(btf, "arm_smmu_l1_ctx_desc", "", "l2ptr")?) {
            (Some(size @ (8 | 16 | 32 | 64)), at) if at < size && at % 8 == 0 => (size.ilog2() - 3, at / 8),
            _ => (ABSENT, 0),
        }
    };
    Ok(SmmuLayout {
        master_device: master("dev")?,
        master_smmu: master("smmu")?,
        smmu_instance: offset(btf, "arm_smmu_device", "strtab_cfg", "iommu")?,
        master_domain,
        domain_stage: domain("stage")?,
        config: config_at,
        root: first(["linear.table", "cdtab"])?,
        linear_len: first(["linear.num_ents", "num_l1_ents"])?,
        list: first(["l2.l2ptrs", "l1_desc"])?,
        list_len: first(["l2.num_l1_ents", "num_l1_ents"])?,
        format,
        list_width,
        list_pointer,
    })
}

/// Where a parameter leads to a device, from what it points to on: at this offset, and whether there is the device
/// or a pointer to it. `None`: it is nothing that has a device, or this kernel has it otherwise.
pub fn device_in(btf: &Btf, parameter: &Parameter) -> Result<Option<(i32, bool)>, Error> {
    let offset = |name: &str, path: &str| {
        Ok(match offset(btf, name, "", path)? {
            ABSENT => None,
            found => i32::try_from(found).ok(),
        })
    };
    Ok(match parameter.points_to.as_deref() {
        Some("pci_dev") => offset("pci_dev", "dev")?.map(|at| (at, false)),
        Some(name @ ("iommu_dev_data" | "arm_smmu_master")) => offset(name, "dev")?.map(|at| (at, true)),
        // AMD's table lies in the device's data (from 6.9).
        Some("gcr3_tbl_info") => {
            let (table, device) = (offset("iommu_dev_data", "gcr3_info")?, offset("iommu_dev_data", "dev")?);
            table.zip(device).map(|(table, device)| (device - table, true))
        }
        _ => None,
    })
}

/// Whether a vendor's PASID tables can be read on a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    pub vendor: &'static str,
    /// The table hangs off the domain: devices that share one share it by design.
    pub per_domain: bool,
    pub state: State,
}

impl Table {
    /// The hook that reads it, and why its entries can't be read, if so.
    pub fn unread(&self) -> Option<(Hook, String)> {
        let hook = match self.vendor {
            "vtd" => Hook::SnapshotIntel,
            "amd" => Hook::SnapshotAmd,
            _ => Hook::SnapshotDma,
        };
        match self.state {
            State::Whole | State::Absent => None,
            State::Root { reason } => Some((hook, reason.to_owned())),
            State::Unknown { missing } => Some((hook, format!("this kernel's types have no {missing}"))),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its root and its entries.
    Whole,
    /// Its root, and of its entries only what needs no physical address.
    Root { reason: &'static str },
    /// The kernel hasn't got the driver, or keeps it as a module.
    Absent,
    /// The driver is there, and something of its structures is not as this version knows it: what.
    Unknown { missing: &'static str },
}

/// What of each vendor's tables can be read with these offsets and addresses.
pub fn tables(layout: &Layout, symbols: Symbols, no_symbols: &'static str) -> [Table; 3] {
    let physical = |state: State| match state {
        State::Whole if symbols.page_offset_base == Variable::value(0) => State::Root { reason: no_symbols },
        state => state,
    };
    let (amd, smmu) = (&layout.amd, &layout.smmu);
    let on_domain = amd.domain != ABSENT;
    let vtd = [
        ("device_domain_info.pasid_table", layout.vtd_info_table),
        ("pasid_table.table", layout.vtd_table_directory),
        ("pasid_table.max_pasid", layout.vtd_table_max),
    ];
    let gcr3 = [("gcr3_tbl", amd.table), ("glx", amd.levels), ("domid", amd.id)];
    let descriptors = [
        ("arm_smmu_master.smmu", smmu.master_smmu),
        ("arm_smmu_master.dev", smmu.master_device),
        ("arm_smmu_device.iommu", smmu.smmu_instance),
        ("arm_smmu_ctx_desc_cfg", smmu.config),
        ("the array of descriptors", smmu.root),
        ("its length", smmu.linear_len),
        ("the list of second-level tables", smmu.list),
        ("its length", smmu.list_len),
        ("the form of the list", smmu.list_width),
        ("s1fmt", smmu.format),
        ("iommu_device.dev", layout.instance_device),
    ];
    [
        Table { vendor: "vtd", per_domain: false, state: physical(whole(&vtd)) },
        Table { vendor: "amd", per_domain: on_domain, state: physical(whole(&gcr3)) },
        Table { vendor: "smmuv3", per_domain: smmu.master_domain != ABSENT, state: whole(&descriptors) },
    ]
}

/// Absent if the first of the members is, unknown if another is.
fn whole(members: &[(&'static str, u32)]) -> State {
    let mut missing = members.iter().filter(|(_, offset)| *offset == ABSENT).peekable();
    match missing.peek() {
        None => State::Whole,
        Some((name, _)) if members.first().is_some_and(|(first, _)| first == name) => State::Absent,
        Some((name, _)) => State::Unknown { missing: name },
    }
}
