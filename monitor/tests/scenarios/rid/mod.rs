//! A RID's domain switched while the device has PASIDs: what a driver takes from them, whether it refuses, what of
//! the device is switched off; PASIDs that a driver doesn't take off; and resets and releases, where all of it is right.

mod capability;
mod conformance;
mod detach;
mod given_back;
mod reset;
mod switch;

use monitor::check::CheckState;
use monitor::coverage::{Coverage, HookState};
use monitor::input::Input;
use monitor::inventory::{DeviceEntry, GroupEntry, Inventory};
use monitor::watcher::{Options, Watcher};
use monitor_ebpf::wire::Hook;

use crate::kernel::{Call, EBUSY, EINVAL, Era, Faults, task};
use crate::rig::{D1, D2, NIC, NVME, OWNER, Raised, Rig, driver, options, other, raised, vfio};

const LOST: &str = "pasid-lost-on-detach";
const REFUSED: &str = "rid-switch-refused";
const OFF: &str = "capability-off-under-pasids";
const KEPT: &str = "driver-detach-failed";

/// The driver's hooks report.
fn rig(era: Era) -> Rig {
    let mut rig = Rig::unwatched(era);
    rig.kernel.driver_reports = true;
    rig.bootstrap();
    rig
}

/// The same, with a group of one device.
fn alone(era: Era) -> Rig {
    let mut rig = rig(era);
    rig.kernel.group_mut(7).devices.truncate(1);
    rig.kernel.snapshot_all();
    rig
}

fn attach(pasid: u32) -> Call {
    Call::Attach { device: NVME, pasid, domain: D1 }
}

fn detach(pasid: u32) -> Call {
    Call::Detach { device: NVME, pasid, domain: D1 }
}

fn switch() -> Call {
    Call::AttachGroup { group: 7, domain: D2 }
}

fn back() -> Call {
    Call::DetachGroup { group: 7, domain: D2 }
}

fn prepare() -> Call {
    Call::ResetPrepare { device: NVME }
}

fn done() -> Call {
    Call::ResetDone { device: NVME }
}

fn clears() -> Faults {
    Faults { switch_clears: true, ..Faults::default() }
}

fn frees() -> Faults {
    Faults { switch_frees: true, ..Faults::default() }
}

fn refuses() -> Faults {
    Faults { switch_refuses: true, ..Faults::default() }
}

fn off(ats: bool, pasid: bool) -> Faults {
    Faults { switch_ats_off: ats, switch_pasid_off: pasid, ..Faults::default() }
}

/// A call with these faults.
fn with(rig: &mut Rig, faults: Faults, who: &monitor::event::Task, call: Call) -> i32 {
    rig.kernel.faults = faults;
    let ret = rig.call(who, call);
    rig.kernel.faults = Faults::default();
    ret
}

fn lost(pasids: &[u32]) -> Raised {
    raised(LOST, 7, pasids, "driver", "vfio")
}
