//! One traced function, by fentry and fexit or by kprobe and kretprobe: two thin shells on one body.

use core::ffi::c_void;

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, generated},
    macros::map,
    maps::HashMap,
};
use monitor_ebpf::wire::{Arguments, Call, Hook, LossKind, NO_ARGUMENT, Phase, Subject, known};

use super::{
    emit::{self, Reads},
    loss,
    read::{self, layout},
    turn,
};

/// Where each hooked function takes what it is about; set by userspace before the programs are loaded.
#[unsafe(no_mangle)]
static ARGUMENTS: [Arguments; Hook::COUNT] = [Arguments::NONE; Hook::COUNT];

/// The calls that began and have not ended, by task and hook. A task is in few at once.
#[map]
static CALLS: HashMap<Call, Subject> = HashMap::with_max_entries(4096, 0);

/// How a program gets at the arguments of its function.
#[derive(Clone, Copy)]
pub enum Access {
    /// fentry and fexit: by the trampoline's array.
    Trampoline,
    /// kprobe and kretprobe: by the saved registers.
    Registers,
}

/// Byte offsets in `struct pt_regs` of the first six arguments, and of the return value.
#[cfg(bpf_target_arch = "x86_64")]
mod registers {
    pub const ARGUMENTS: [u32; 6] = [112, 104, 96, 88, 72, 64];
    pub const RETURN: u32 = 80;
}
#[cfg(bpf_target_arch = "aarch64")]
mod registers {
    pub const ARGUMENTS: [u32; 6] = [0, 8, 16, 24, 32, 40];
    pub const RETURN: u32 = 0;
}

/// The argument at a position of the function's list; 0 for none.
#[inline(always)]
pub fn argument(context: *mut c_void, access: Access, position: u8) -> u64 {
    if position == NO_ARGUMENT {
        return 0;
    }
    let mut value = 0;
    match access {
        Access::Trampoline => {
            // SAFETY: the program's own context; the helper holds the position against the prototype.
            unsafe { generated::bpf_get_func_arg(context, u32::from(position), &raw mut value) };
        }
        Access::Registers => {
            let Some(&offset) = registers::ARGUMENTS.get(position as usize) else { return 0 };
            // SAFETY: pt_regs is kernel memory; the destination is a live local.
            unsafe {
                generated::bpf_probe_read_kernel(
                    (&raw mut value).cast(),
                    8,
                    context.byte_add(offset as usize),
                )
            };
        }
    }
    value
}

/// Where a hook's function takes what.
#[inline(always)]
pub fn positions(hook: Hook) -> Arguments {
    read::load(&ARGUMENTS[hook as usize])
}

/// The IOMMU instance that a call names; 0 if it names none.
#[inline(always)]
pub fn iommu(context: *mut c_void, access: Access, hook: Hook) -> u64 {
    argument(context, access, positions(hook).iommu)
}

/// The device that a call is about: the argument, or what lies in or is pointed to by it.
#[inline(always)]
fn device(context: *mut c_void, access: Access, at: &Arguments) -> u64 {
    let device = argument(context, access, at.device).wrapping_add_signed(i64::from(at.device_at));
    if at.device_pointed != 0 { read::member(device, 0) } else { device }
}

/// The first word of what a context descriptor is to become; 0 where a function takes none.
#[inline(always)]
pub fn descriptor(context: *mut c_void, access: Access, hook: Hook) -> u64 {
    let at = read::load(&ARGUMENTS[hook as usize]);
    read::member(argument(context, access, at.descriptor), 0)
}

/// Where the context descriptor lies that a call writes; 0 where a function takes none.
#[inline(always)]
pub fn entry(context: *mut c_void, access: Access, hook: Hook) -> u64 {
    argument(context, access, positions(hook).entry)
}

/// What a call is about, from its arguments.
#[inline(always)]
pub fn subject(context: *mut c_void, access: Access, hook: Hook) -> Subject {
    let at = positions(hook);
    let mut subject = Subject {
        group: argument(context, access, at.group),
        device: device(context, access, &at),
        domain: argument(context, access, at.domain),
        old: argument(context, access, at.old),
        owner: argument(context, access, at.owner),
        handle: argument(context, access, at.handle),
        mm: argument(context, access, at.mm),
        pasid: argument(context, access, at.pasid) as u32,
        known: 0,
    };
    for (position, bit) in [
        (at.domain, known::DOMAIN),
        (at.old, known::OLD),
        (at.owner, known::CLAIMANT),
        (at.handle, known::HANDLE),
        (at.mm, known::MM),
        (at.pasid, known::PASID),
    ] {
        if position != NO_ARGUMENT {
            subject.known |= bit;
        }
    }
    if at.handle != NO_ARGUMENT {
        subject.device = read::member(subject.handle, layout!(sva_dev));
        subject.domain = read::member(subject.handle, layout!(sva_domain));
        subject.mm = read::member(subject.domain, layout!(domain_mm));
        subject.known |= known::DOMAIN | known::MM;
    }
    if at.group == NO_ARGUMENT {
        subject.group = read::group_of(subject.device);
    }
    subject
}

#[inline(always)]
fn this_call(hook: Hook) -> Call {
    Call { tid: bpf_get_current_pid_tgid() as u32, hook: hook as u32 }
}

/// The function is entered, and its return will be seen too. Says whether it is this set's to tell.
#[inline(always)]
pub fn begin(context: *mut c_void, access: Access, hook: Hook, reads: Reads) -> bool {
    if !turn::is_ours() {
        return false;
    }
    let subject = subject(context, access, hook);
    emit::emit(context, hook, Phase::Begin, &subject, 0, reads);
    remember(hook, &subject);
    true
}

/// The function is entered, of which the return alone is told: a kretprobe has the arguments no more.
#[inline(always)]
pub fn keep(context: *mut c_void, hook: Hook) {
    if turn::is_ours() {
        remember(hook, &subject(context, Access::Registers, hook));
    }
}

/// Keeps what this task's call is about until it returns.
#[inline(always)]
pub fn remember(hook: Hook, subject: &Subject) {
    if CALLS.insert(this_call(hook), *subject, 0).is_err() {
        loss::count(subject.group, LossKind::Call);
    }
}

/// The function returns, and its entry was of no interest: fexit still has the arguments.
#[inline(always)]
pub fn returned(context: *mut c_void, hook: Hook, reads: Reads) {
    if !turn::is_ours() {
        return;
    }
    let subject = subject(context, Access::Trampoline, hook);
    emit::emit(context, hook, Phase::End, &subject, result(context, Access::Trampoline), reads);
}

/// What the function returns, as it stands in the register.
#[inline(always)]
pub fn result(context: *mut c_void, access: Access) -> i64 {
    let mut value = 0u64;
    match access {
        // SAFETY: the program's own context and a live local.
        Access::Trampoline => unsafe {
            generated::bpf_get_func_ret(context, &raw mut value);
        },
        // SAFETY: pt_regs is kernel memory; the destination is a live local.
        Access::Registers => unsafe {
            generated::bpf_probe_read_kernel(
                (&raw mut value).cast(),
                8,
                context.byte_add(registers::RETURN as usize),
            );
        },
    }
    value as i64
}

/// What this task's call is about, if its entry was seen.
#[inline(always)]
pub fn recall(hook: Hook) -> Option<Subject> {
    let call = this_call(hook);
    let found = CALLS.get_ptr(call)?;
    // SAFETY: the entry of this task's own call: nobody else writes or removes it.
    let subject = unsafe { *found };
    let _ = CALLS.remove(call);
    Some(subject)
}

/// What a call that returns is about, if it is this set's to tell: fexit still has the arguments, a kretprobe what was kept
/// of them.
#[inline(always)]
pub fn of_return(context: *mut c_void, access: Access, hook: Hook) -> Option<Subject> {
    match access {
        Access::Trampoline if turn::is_ours() => Some(subject(context, access, hook)),
        Access::Trampoline => None,
        Access::Registers => recall(hook),
    }
}

/// The `mm_struct` that a call of this task to another function is about, if it is in one; else 0.
#[inline(always)]
pub fn mm_of_call(hook: Hook) -> u64 {
    let Some(found) = CALLS.get_ptr(this_call(hook)) else { return 0 };
    // SAFETY: the entry of this task's own call: nobody else writes or removes it.
    unsafe { (*found).mm }
}

/// The function returns. A call whose entry was not seen is not reported: nothing is known of it.
#[inline(always)]
pub fn end(context: *mut c_void, access: Access, hook: Hook, reads: Reads) {
    let Some(subject) = recall(hook) else { return };
    emit::emit(context, hook, Phase::End, &subject, result(context, access), reads.without(Reads::STACK));
}

/// The function is entered, and that is all that is to be seen.
#[inline(always)]
pub fn point(context: *mut c_void, access: Access, hook: Hook, reads: Reads) {
    if turn::is_ours() {
        emit::emit(context, hook, Phase::Point, &subject(context, access, hook), 0, reads);
    }
}

/// One program: its kind (which is its ELF section), the name that userspace knows it by, its body.
macro_rules! program {
    ($kind:literal, $hook:literal, $context:ident => $body:expr) => {
        const _: () = {
            #[unsafe(link_section = $kind)]
            #[unsafe(export_name = concat!($hook, "_", $kind))]
            pub fn program($context: *mut core::ffi::c_void) -> i32 {
                $body;
                0
            }
        };
    };
}
pub(super) use program;

/// The programs of a traced function, by the trampoline and by registers: `call!(both Hook, "name", reads)`
/// for its entry and its return, `call!(entry …)` and `call!(exit …)` for one of them, `call!(then …)` where a function
/// of ours reports the return. The catalogue of hooks in userspace says the same.
macro_rules! call {
    (both $hook:ident, $name:literal, $reads:expr) => {
        call!(named $hook, $name);
        program!("fentry", $name, context => {
            call::begin(context, Access::Trampoline, Hook::$hook, $reads);
        });
        program!("fexit", $name, context => call::end(context, Access::Trampoline, Hook::$hook, $reads));
        call!(registers $hook, $name, $reads);
    };
    (exit $hook:ident, $name:literal, $reads:expr) => {
        call!(named $hook, $name);
        program!("fexit", $name, context => call::returned(context, Hook::$hook, $reads));
        // On return the registers hold the arguments no more: the entry has to keep them.
        call!(registers $hook, $name, $reads);
    };
    (entry $hook:ident, $name:literal, $reads:expr) => {
        call!(named $hook, $name);
        program!("fentry", $name, context => call::point(context, Access::Trampoline, Hook::$hook, $reads));
        program!("kprobe", $name, context => call::point(context, Access::Registers, Hook::$hook, $reads));
    };
    // By what reports its return: fexit has the arguments still, a kretprobe what was kept of them on entry.
    (then $hook:ident, $name:literal, $then:ident) => {
        call!(named $hook, $name);
        program!("fexit", $name, context => {
            if let Some(subject) = call::of_return(context, Access::Trampoline, Hook::$hook) {
                $then(context, Access::Trampoline, subject);
            }
        });
        program!("kprobe", $name, context => call::keep(context, Hook::$hook));
        program!("kretprobe", $name, context => {
            if let Some(subject) = call::recall(Hook::$hook) {
                $then(context, Access::Registers, subject);
            }
        });
    };
    (registers $hook:ident, $name:literal, $reads:expr) => {
        program!("kprobe", $name, context => {
            call::begin(context, Access::Registers, Hook::$hook, $reads);
        });
        program!("kretprobe", $name, context => call::end(context, Access::Registers, Hook::$hook, $reads));
    };
    (named $hook:ident, $name:literal) => {
        const _: () = assert!(call::is_name_of(Hook::$hook, $name));
    };
}
pub(super) use call;

/// Whether userspace will look for the programs of a hook under this name.
pub const fn is_name_of(hook: Hook, name: &str) -> bool {
    let (ours, theirs) = (name.as_bytes(), hook.name().as_bytes());
    let mut same = ours.len() == theirs.len();
    let mut at = 0;
    while same && at < ours.len() {
        same = ours[at] == theirs[at];
        at += 1;
    }
    same
}
