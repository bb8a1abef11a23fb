//! AMD's driver and SMMUv3's at their queues: what they submit while they take a PASID's entry away, as the programs in the
//! kernel keep it. The sequences are those of the sources; no machine has run them.

use std::collections::BTreeMap;

use monitor::event::{Flush, Task};
use monitor_ebpf::descriptor::{self, Conditions, condition, window};
use monitor_ebpf::wire::{self, Frame, Hook, Phase, TableKind, Windows};

use super::Kernel;
use super::flush::report;

/// What a driver does at its queue.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// A command is submitted.
    Command([u64; 2]),
    /// The driver asks to be told when all of them are done: AMD's COMPLETION_WAIT in the buffer, SMMUv3's `sync`.
    Ask,
    /// The waiting returns: `iommu_completion_wait`, `arm_smmu_cmdq_issue_cmdlist`.
    Return(i32),
}

/// AMD's commands (`build_inv_*`, drivers/iommu/amd/iommu.c, 6.9 to 7.3).
pub mod amd {
    use super::Step::{self, Ask, Command, Return};

    /// `gcr3_tbl_info.domid` and `iommu_dev_data.devid` of the device.
    pub const DOMAIN: u32 = 0x21;
    pub const DEVICE: u32 = 0x100;
    /// `CMD_INV_IOMMU_ALL_PAGES_ADDRESS`, with S and GN; of the IOMMU's own with PDE.
    const ALL: u64 = 0x7fff_ffff_ffff_f000 | 1 | 4;
    /// `CMD_INV_ALL`
    pub const EVERYTHING: [u64; 2] = [8 << 60, 0];

    /// `build_inv_iommu_pages(&cmd, 0, …, domid, pasid, GN | PDE)`, of every address.
    pub fn pages(domain: u32, pasid: u32) -> [u64; 2] {
        [3 << 60 | u64::from(domain) << 32 | u64::from(pasid), ALL | 2]
    }

    /// The same of one page.
    pub fn page(domain: u32, pasid: u32) -> [u64; 2] {
        [pages(domain, pasid)[0], 0x7000 | 4 | 2]
    }

    /// `build_inv_iotlb_pages(&cmd, devid, qdep, 0, …, pasid, true)`, of every address.
    pub fn device(devid: u32, pasid: u32) -> [u64; 2] {
        let pasid = u64::from(pasid);
        let low = 4 << 60 | (pasid & 0xff) << 48 | u64::from(devid) << 32;
        [low | 32 << 24 | (pasid >> 8 & 0xff) << 16 | u64::from(devid), ALL]
    }

    /// `build_inv_dte`
    pub fn entry(devid: u32) -> [u64; 2] {
        [2 << 60 | u64::from(devid), 0]
    }

    /// `amd_iommu_dev_flush_pasid_pages`, which `update_gcr3` ends with.
    pub fn all(pasid: u32) -> Vec<Step> {
        vec![Command(pages(DOMAIN, pasid)), Command(device(DEVICE, pasid)), Ask, Return(0)]
    }
}

/// SMMUv3's commands (drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3.c, 6.10 to 7.3).
pub mod smmu {
    use super::Step::{self, Ask, Command, Return};

    /// The ASID of the descriptor, and the StreamID of the device.
    pub const ASID: u32 = 9;
    pub const STREAM: u32 = 0x1_0100;

    fn of(opcode: u64, stream: u32, pasid: u32) -> u64 {
        opcode | u64::from(pasid) << 12 | u64::from(stream) << 32
    }

    /// `CMDQ_OP_CFGI_CD`, `arm_smmu_sync_cd(master, ssid, true)`
    pub fn descriptor(stream: u32, pasid: u32) -> [u64; 2] {
        [of(0x05, stream, pasid), 1]
    }

    /// `CMDQ_OP_CFGI_CD_ALL`, `CMDQ_OP_CFGI_STE`, `CMDQ_OP_CFGI_ALL`
    pub const WIDER: [[u64; 2]; 3] =
        [[0x06 | (STREAM as u64) << 32, 0], [0x03 | (STREAM as u64) << 32, 1], [0x04, 31]];

    /// `CMDQ_OP_ATC_INV` of every address, for one substream.
    pub fn device(stream: u32, pasid: u32) -> [u64; 2] {
        [of(0x40, stream, pasid) | 1 << 11, 52]
    }

    /// The same for all of them, without SSV; and of 2 MiB.
    pub const EVERY_SUBSTREAM: [u64; 2] = [0x40 | (STREAM as u64) << 32, 52];
    pub fn range(pasid: u32) -> [u64; 2] {
        [of(0x40, STREAM, pasid) | 1 << 11, 9]
    }

    /// `CMDQ_OP_TLBI_NH_ASID`, from 7.1 when the last user of an ASID goes.
    pub const ASID_GOES: [u64; 2] = [0x11 | (ASID as u64) << 48, 0];

    /// A call with `sync`.
    pub fn issue(command: [u64; 2]) -> Vec<Step> {
        vec![Command(command), Ask, Return(0)]
    }

    /// `arm_smmu_clear_cd` (the word with V first, then the others), `arm_smmu_atc_inv_master`, from 7.1
    /// `arm_smmu_install_old_domain_invs`.
    pub fn all(pasid: u32) -> Vec<Step> {
        let clear = descriptor(STREAM, pasid);
        [clear, clear, device(STREAM, pasid), ASID_GOES].into_iter().flat_map(issue).collect()
    }
}

/// A present entry of a device with ATS, whose driver's waiting is seen.
pub const LIVE: u32 = condition::PRESENT | condition::ATS | condition::WAITS;
const KNOWN: u32 = LIVE | condition::GONE;

/// An entry is taken away.
#[derive(Clone, Debug)]
pub struct Removal {
    pub pasid: u32,
    pub steps: Vec<Step>,
    /// Bits of [`condition`], at the begin and at the end.
    pub begin: u32,
    pub end: u32,
    pub known: u32,
    pub contested: bool,
}

impl Removal {
    pub fn new(pasid: u32, steps: Vec<Step>) -> Removal {
        Removal { pasid, steps, begin: LIVE, end: LIVE, known: KNOWN, contested: false }
    }

    /// The conditions are these from begin to end.
    pub fn under(self, set: u32) -> Removal {
        Removal { begin: set, end: set, ..self }
    }
}

/// A driver, and what the kernel side remembers of it.
pub struct Queue {
    pub kind: TableKind,
    /// What entries are owed, by device and PASID.
    owed: BTreeMap<(&'static str, u32), wire::Flush>,
}

impl Queue {
    pub fn new(kind: TableKind) -> Queue {
        Queue { kind, owed: BTreeMap::new() }
    }

    /// The hooks on the teardown, on what fails, and on the set-up.
    fn hooks(&self) -> (Hook, Hook, Hook) {
        match self.kind {
            TableKind::Amd => (Hook::AmdClear, Hook::AmdWait, Hook::AmdSet),
            _ => (Hook::SmmuRemove, Hook::SmmuQueue, Hook::SmmuSet),
        }
    }

    fn entry(&self, removal: &Removal) -> wire::Flush {
        let (tag, source) = match self.kind {
            TableKind::Amd => (amd::DOMAIN, amd::DEVICE),
            _ => (smmu::ASID, smmu::STREAM),
        };
        let &Removal { pasid, begin: set, known, .. } = removal;
        wire::Flush { vendor: self.kind as u32, tag, pasid, source, set, known, ..wire::Flush::NONE }
    }

    /// `amd_iommu_clear_gcr3`; `arm_smmu_blocking_set_dev_pasid`
    pub fn remove(&mut self, kernel: &mut Kernel, task: &Task, name: &'static str, removal: &Removal) {
        let pasid = removal.pasid;
        let (remove, returns, _) = self.hooks();
        if remove == Hook::AmdClear {
            report(kernel, task, name, remove, Phase::Begin, Some(pasid), |_| {});
        }
        let mut frame = Frame { flush: self.entry(removal), ..Windows::NONE.frames[0] };
        for step in &removal.steps {
            match *step {
                Step::Command([low, high]) => {
                    self.flushes(low, high);
                    window::submitted(&mut frame, self.kind, low, high);
                }
                Step::Ask => window::waited(&mut frame),
                Step::Return(ret) => {
                    if self.kind == TableKind::Amd {
                        window::waited(&mut frame);
                    }
                    let scopes = frame.pending_scopes;
                    window::returned(&mut frame, ret, 0);
                    if ret != 0 {
                        let failed = wire::Flush { failed: ret, failed_scopes: scopes, ..frame.flush };
                        report(kernel, task, name, returns, Phase::End, Some(pasid), |event| {
                            event.ret = Some(ret);
                            event.flush = Some(Box::new(Flush::new(&failed)));
                        });
                    }
                }
            }
        }
        let now = Conditions { set: removal.end, known: removal.known & (condition::ATS | condition::GONE) };
        let mut flush = window::closed(&frame);
        window::settle(&mut flush, &now, removal.contested, kernel.now + 1_000);
        if flush.owed != 0 {
            self.owed.insert((name, pasid), flush);
        }
        report(kernel, task, name, remove, Phase::End, Some(pasid), |event| {
            event.ret = (remove == Hook::AmdClear).then_some(0);
            event.flush = Some(Box::new(Flush::new(&flush)));
        });
    }

    /// `amd_iommu_set_gcr3`; `arm_smmu_write_cd_entry`. Both drivers flush what they have written, before they return.
    pub fn set_up(
        &mut self,
        kernel: &mut Kernel,
        task: &Task,
        name: &'static str,
        pasid: u32,
        steps: &[Step],
    ) {
        for step in steps {
            if let Step::Command([low, high]) = *step {
                self.flushes(low, high);
            }
        }
        let owed = self.owed.remove(&(name, pasid)).filter(|flush| flush.owed != 0);
        let hook = self.hooks().2;
        report(kernel, task, name, hook, Phase::End, Some(pasid), |event| {
            event.ret = (hook == Hook::AmdSet).then_some(0);
            event.flush = owed.map(|flush| Box::new(Flush::new(&flush)));
        });
    }

    /// A command that somebody submits.
    fn flushes(&mut self, low: u64, high: u64) {
        for flush in self.owed.values_mut() {
            flush.owed &= !descriptor::drops(self.kind, low, high, &window::entry(flush));
        }
    }
}
