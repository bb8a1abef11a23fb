//! Page requests of devices that have no right to them any more.
//!
//! A device in good order sends many, and all of them are for PASIDs that are attached: of those nothing is reported.

use core::ffi::c_void;

use aya_ebpf::{helpers::generated, macros::map, maps::LruHashMap};
use monitor_ebpf::{
    table::requests::PASID_VALID,
    wire::{Encoding, Hook, Phase, known},
};

use super::{
    array,
    call::{self, Access, program},
    emit::{self, Reads},
    read::{self, layout},
    turn,
};

/// A device is heard once in so many ns for one PASID, and for whichever it names: what it sends may be a guest's doing.
const GAP_OF_PASID: u64 = 100_000_000;
const GAP_OF_DEVICE: u64 = 1_000_000;
/// In place of a PASID: whichever.
const WHICHEVER: u64 = u64::MAX;

/// When a device was last heard, by its address and the PASID.
#[map]
static HEARD: LruHashMap<[u64; 2], u64> = LruHashMap::with_max_entries(4096, 0);

/// Whether a device was heard a moment ago.
#[inline(always)]
fn again(key: [u64; 2], now: u64, gap: u64) -> bool {
    let last = HEARD.get_ptr(key);
    // SAFETY: an entry of a live map; what another CPU writes meanwhile is a time as well.
    if last.is_some_and(|last| now.wrapping_sub(unsafe { *last }) < gap) {
        return true;
    }
    // What doesn't fit is heard again.
    let _ = HEARD.insert(key, now, 0);
    false
}

#[inline(always)]
fn request(context: *mut c_void, access: Access) {
    let event = call::argument(context, access, call::positions(Hook::PageRequest).fault);
    let flags: u32 = read::member(event, layout!(requests.flags));
    if flags & PASID_VALID == 0 {
        return;
    }
    let mut subject = call::subject(context, access, Hook::PageRequest);
    subject.pasid = read::member(event, layout!(requests.pasid));
    subject.known |= known::PASID;
    let head = read::member(subject.group, layout!(group_pasid_head));
    if array::slot(head, subject.pasid).encoding != Encoding::Empty as u16 || !turn::is_ours() {
        return;
    }
    // SAFETY: takes no pointer.
    let now = unsafe { generated::bpf_ktime_get_ns() };
    if again([subject.device, u64::from(subject.pasid)], now, GAP_OF_PASID)
        || again([subject.device, WHICHEVER], now, GAP_OF_DEVICE)
    {
        return;
    }
    emit::emit(context, Hook::PageRequest, Phase::Point, &subject, 0, Reads::STACK.and(Reads::SLOT));
}

const _: () = assert!(call::is_name_of(Hook::PageRequest, "page_request"));
program!("fentry", "page_request", context => request(context, Access::Trampoline));
program!("kprobe", "page_request", context => request(context, Access::Registers));
