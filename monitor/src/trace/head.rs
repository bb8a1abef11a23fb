//! What a recording is of: the first frame of each file, in JSON, so that any tool can read it.

use monitor_ebpf::wire::{self, Hook, WIRE_VERSION};
use serde::{Deserialize, Serialize};

use super::{
    Error,
    content::{Hooks, printable},
};
use crate::coverage::Coverage;

/// Where something is recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    pub host: String,
    /// The kernel's release.
    pub kernel: String,
    pub boot_id: String,
    /// SHA-256 of /sys/kernel/btf/vmlinux, in hexadecimal: two kernels with the same one have the same types.
    pub btf: String,
    /// CLOCK_REALTIME less CLOCK_MONOTONIC, ns, when the recording was begun.
    pub clock_offset_ns: i64,
    /// Nowhere: it is written by hand, after this.
    pub synthetic: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The version of the iommu-watch that recorded.
    pub program: String,
    /// Of the records.
    pub wire: u32,
    /// 0 for the first file of a recording, 1 for the one after it.
    pub part: u32,
    pub host: String,
    pub kernel: String,
    /// The architecture, as `uname -m`.
    pub machine: String,
    pub boot_id: String,
    #[serde(rename = "btf_sha256")]
    pub btf: String,
    pub clock_offset_ns: i64,
    /// No kernel was recorded: it tells what a kernel's source says, by hand. What source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub synthetic: Option<String>,
    pub records: RecordSizes,
    #[serde(flatten)]
    pub(super) hooks: Hooks,
}

/// Lengths of the shapes of records, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordSizes {
    pub operation: usize,
    pub inventory: usize,
    /// Of a snapshot without entries.
    pub snapshot: usize,
}

impl RecordSizes {
    /// As this version has them.
    const OURS: RecordSizes = RecordSizes {
        operation: size_of::<wire::Operation>(),
        inventory: size_of::<wire::Inventory>(),
        snapshot: size_of::<wire::SnapshotHead>(),
    };
}

/// What of a head every version has.
#[derive(Deserialize)]
struct Version {
    program: String,
    wire: u32,
}

impl Head {
    pub fn new(origin: Origin, coverage: &Coverage) -> Head {
        Head {
            program: env!("CARGO_PKG_VERSION").into(),
            wire: WIRE_VERSION,
            part: 0,
            host: origin.host,
            kernel: origin.kernel,
            machine: std::env::consts::ARCH.into(),
            boot_id: origin.boot_id,
            btf: origin.btf,
            clock_offset_ns: origin.clock_offset_ns,
            synthetic: origin.synthetic,
            records: RecordSizes::OURS,
            hooks: Hooks::of(coverage),
        }
    }

    /// Which hooks report, at the beginning of the file.
    pub fn coverage(&self) -> Coverage {
        self.hooks.clone().coverage()
    }

    /// Reads a head. Records of another version are not read as of this one: neither are they if a hook's
    /// number means another hook, or if their lengths differ.
    pub(super) fn read(body: &[u8]) -> Result<Result<Head, Error>, String> {
        let version: Version = super::content::parse(body)?;
        let refused = |mut version: Version| {
            printable(&mut version.program);
            Ok(Err(Error::Wire { program: version.program, wire: version.wire }))
        };
        if version.wire != WIRE_VERSION {
            return refused(version);
        }
        let mut head: Head = super::content::parse(body)?;
        let same_hook =
            |number: u16, name: &str| Hook::from_number(number).is_none_or(|hook| hook.name() == name);
        let same_hooks = head.hooks.hooks.iter().all(|hook| same_hook(hook.number, &hook.name));
        if !same_hooks || head.records != RecordSizes::OURS {
            return refused(version);
        }
        for text in
            [&mut head.program, &mut head.host, &mut head.kernel, &mut head.machine, &mut head.boot_id]
        {
            printable(text);
        }
        head.synthetic.iter_mut().for_each(printable);
        Ok(Ok(head))
    }

    /// Whether the recording iommu-watch had a hook of this number, which this one doesn't know.
    pub(super) fn has_newer_hook(&self, number: u16) -> bool {
        Hook::from_number(number).is_none() && self.hooks.hooks.iter().any(|hook| hook.number == number)
    }
}
