//! VT-d's cache tags: which caches a domain's flushes reach. They are assigned and unassigned for each device and PASID
//! that the domain is attached to; what a device has of them is read when the driver has done that.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_loop;
use monitor_ebpf::{
    table::{
        Step,
        tags::{STEPS, Sought, Tag, Walk},
    },
    wire::{ABSENT, Hook, Phase, Subject, known, tags},
};

use super::{
    call::{self, Access, call, program},
    emit::{self, Reads},
    read::{self, Kernel, layout},
    tables, teardown, turn,
};

struct Visit {
    place: Place,
    sought: Sought,
}

/// How far a walk is.
#[derive(Clone, Copy)]
struct Place {
    walk: Walk,
    /// How often the tag that is sought was assigned.
    users: u32,
    done: u32,
}

#[inline(always)]
fn members() -> Tag {
    Tag {
        node: layout!(tags.node),
        next: layout!(list_next),
        kind: layout!(tags.kind),
        device: layout!(tags.device),
        pasid: layout!(tags.pasid),
        users: layout!(tags.users),
    }
}

/// What a device of VT-d's has of cache tags on a PASID (0: its RID) in a domain of that driver's: bits of [`tags`].
#[unsafe(export_name = "read_tags")]
#[inline(never)]
pub extern "C" fn read(domain: u64, device: u64, pasid: u32) -> u32 {
    let (ats, ats_read) = teardown::flag(tables::private(device), layout!(flush.vtd_info_ats));
    let mut found = ats_read * tags::ATS_READ | ats * tags::ATS;
    if layout!(tags.domain) == ABSENT || layout!(tags.list) == ABSENT {
        return found;
    }
    let around = domain.wrapping_sub(u64::from(layout!(tags.domain)));
    let walk = Walk::start(&Kernel, members(), around.wrapping_add(u64::from(layout!(tags.list))));
    let place = Place { walk, users: 0, done: 0 };
    let mut visit = Visit { place, sought: Sought { device, pasid } };
    read::forget(&raw mut visit.place);
    // SAFETY: `step` matches the callback's prototype and `visit` outlives the call.
    unsafe { bpf_loop(STEPS, step as *const () as *mut c_void, (&raw mut visit).cast(), 0) };
    found |= tags::READ * (visit.place.done & u32::from(visit.place.walk.sound()));
    found | visit.place.users.min(tags::MAX_USERS) << tags::USERS_SHIFT
}

/// One step of the walk. Returns 1 to end the loop.
unsafe extern "C" fn step(_iteration: u32, context: *mut c_void) -> i64 {
    // SAFETY: bpf_loop passes the `Visit` that `read` gave it.
    let visit = unsafe { &mut *context.cast::<Visit>() };
    let mut end = 0;
    match visit.place.walk.step(&Kernel, members(), visit.sought) {
        Step::Next => {}
        Step::Found(users) => visit.place.users = users,
        Step::Done => {
            visit.place.done = 1;
            end = 1;
        }
    }
    read::forget(&raw mut visit.place);
    end
}

/// What a call on a domain's tags is about. It names the driver's own domain, in which that of the core lies.
#[inline(always)]
fn subject(context: *mut c_void, access: Access, hook: Hook) -> Subject {
    let mut subject = call::subject(context, access, hook);
    let around = call::argument(context, access, call::positions(hook).vtd_domain);
    subject.domain = around.wrapping_add(u64::from(layout!(tags.domain)));
    subject.known |= known::DOMAIN;
    subject
}

/// A list of tags is about to change: told, so that what others read of it meanwhile isn't relied on.
#[inline(always)]
fn changes(context: *mut c_void, access: Access, hook: Hook) {
    if !turn::is_ours() {
        return;
    }
    let subject = subject(context, access, hook);
    emit::emit(context, hook, Phase::Begin, &subject, 0, Reads::PLAIN);
    call::remember(hook, &subject);
}

/// It has changed.
#[inline(always)]
fn changed(context: *mut c_void, access: Access, hook: Hook) {
    let Some(subject) = call::recall(hook) else { return };
    let tags = read(subject.domain, subject.device, subject.pasid);
    emit::tagged(hook, &subject, call::result(context, access), tags);
}

macro_rules! changes {
    ($hook:ident, $name:literal) => {
        const _: () = assert!(call::is_name_of(Hook::$hook, $name));
        program!("fentry", $name, context => changes(context, Access::Trampoline, Hook::$hook));
        program!("fexit", $name, context => changed(context, Access::Trampoline, Hook::$hook));
        program!("kprobe", $name, context => changes(context, Access::Registers, Hook::$hook));
        program!("kretprobe", $name, context => changed(context, Access::Registers, Hook::$hook));
    };
}
changes!(VtdTagAssign, "vtd_tag_assign");
changes!(VtdTagUnassign, "vtd_tag_unassign");

/// A RID was switched to a paging domain. Its tags are read once more: ATS may have come on after they were assigned,
/// as it did before "iommu/vt-d: Fix missed device TLB cache tag" (6.10).
#[inline(always)]
fn attached(context: *mut c_void, access: Access, mut subject: Subject) {
    subject.pasid = 0;
    subject.known |= known::PASID;
    let tags = read(subject.domain, subject.device, 0);
    emit::tagged(Hook::VtdAttach, &subject, call::result(context, access), tags);
}

call!(then VtdAttach, "vtd_attach", attached);
