//! Page requests of a device that wait for their response though their PASID is attached no more.
//!
//! Who is answered leaves the list (`iopf_group_response`, `iopf_queue_remove_device`), and who hands requests to
//! userspace takes them off it before (`iommufd_fault_iopf_handler`). Since "iommu: Add attach handle to struct
//! iopf_group" (6.11) no request gets into it whose PASID isn't attached.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_loop;
use monitor_ebpf::{
    table::{
        Step,
        requests::{Members, STEPS, Walk},
    },
    wire::ABSENT,
};

use super::{
    array,
    read::{self, Kernel, layout, member},
};

/// The list was read to its end; the rest of the answer is the PASID, 0 if there is none.
pub const READ: u64 = 1 << 32;

struct Visit {
    place: Place,
    /// `xa_head` of the group's `pasid_array`.
    array: u64,
}

/// How far it is.
#[derive(Clone, Copy)]
struct Place {
    walk: Walk,
    pasid: u32,
    done: u32,
}

#[inline(always)]
fn members() -> Members {
    Members {
        next: layout!(list_next),
        node: layout!(requests.node),
        owner: layout!(requests.owner),
        flags: layout!(requests.last_flags),
        pasid: layout!(requests.last_pasid),
    }
}

/// The PASID of the request of a device's that waits longest, of those whose PASID the group has not attached. To be
/// called with the group's mutex held. 0: the list could not be read.
#[unsafe(export_name = "find_unanswered")]
#[inline(never)]
pub extern "C" fn find(group: u64, device: u64) -> u64 {
    if layout!(requests.node) == ABSENT {
        return 0;
    }
    let (array, readable) = read::read::<u64>(group, layout!(group_pasid_head));
    let iommu = member::<u64>(device, layout!(device_iommu));
    let (param, known) = read::read::<u64>(iommu, layout!(requests.param));
    if readable & known == 0 {
        return 0;
    }
    if param == 0 {
        // No driver takes requests of this device: none waits.
        return READ;
    }
    let head = param.wrapping_add(u64::from(layout!(requests.list)));
    let walk = Walk::start(&Kernel, members(), param, head);
    let mut visit = Visit { place: Place { walk, pasid: 0, done: 0 }, array };
    read::forget(&raw mut visit.place);
    // SAFETY: `step` matches the callback's prototype and `visit` outlives the call.
    unsafe { bpf_loop(STEPS, step as *const () as *mut c_void, (&raw mut visit).cast(), 0) };
    let whole = visit.place.done & u32::from(visit.place.walk.sound());
    if whole == 0 { 0 } else { READ | u64::from(visit.place.pasid) }
}

/// One step of the walk. Returns 1 to end the loop.
unsafe extern "C" fn step(_iteration: u32, context: *mut c_void) -> i64 {
    // SAFETY: bpf_loop passes the `Visit` that `find` gave it.
    let visit = unsafe { &mut *context.cast::<Visit>() };
    let mut end = 0;
    match visit.place.walk.step(&Kernel, members()) {
        Step::Next => {}
        Step::Found(pasid) => {
            // The last one came first (`list_add`).
            if array::is_empty_at(visit.array, pasid) != 0 {
                visit.place.pasid = pasid;
            }
        }
        Step::Done => {
            visit.place.done = 1;
            end = 1;
        }
    }
    read::forget(&raw mut visit.place);
    end
}
