//! What attachments stand on: PASIDs of the global allocator, the `mm_struct` behind an SVA domain, and domains.
//!
//! `__mmdrop` and `exit_mmap` run at the end of every process. All but those that have a PASID leave after two reads.

use core::ffi::c_void;

use monitor_ebpf::wire::{ABSENT, Domain, Hook, Phase, Subject, known};

use super::{
    array::SVA,
    call::{self, Access, call, program},
    emit::{self, Reads},
    read::{self, layout},
    turn,
};

/// `IOMMU_PASID_INVALID` (include/linux/iommu.h).
const INVALID: u32 = u32::MAX;
/// The greatest errno that the kernel folds into a pointer (include/linux/err.h).
const MAX_ERRNO: u64 = 4095;

/// The PASID of an `mm_struct`, if it ever had one: from 6.8 on in memory of its own, before that in itself.
#[inline(always)]
fn pasid_of(mm: u64) -> Option<u32> {
    let within = if layout!(mm_iommu) == ABSENT { mm } else { read::member(mm, layout!(mm_iommu)) };
    let (pasid, readable) = read::read::<u32>(within, layout!(mm_pasid));
    (within != 0 && readable != 0 && pasid != INVALID).then_some(pasid)
}

/// What a call on an `mm_struct` is about; `None`: it has no PASID.
#[inline(always)]
fn with_pasid(context: *mut c_void, access: Access, hook: Hook) -> Option<Subject> {
    let mut subject = call::subject(context, access, hook);
    subject.pasid = pasid_of(subject.mm)?;
    subject.known |= known::PASID;
    Some(subject)
}

#[inline(always)]
fn mm_drops(context: *mut c_void, access: Access) {
    let Some(subject) = with_pasid(context, access, Hook::MmDrop).filter(|_| turn::is_ours()) else { return };
    emit::emit(context, Hook::MmDrop, Phase::Begin, &subject, 0, Reads::STACK);
    call::remember(Hook::MmDrop, &subject);
}

#[inline(always)]
fn mm_exits(context: *mut c_void, access: Access) {
    let Some(subject) = with_pasid(context, access, Hook::MmExit).filter(|_| turn::is_ours()) else { return };
    emit::emit(context, Hook::MmExit, Phase::Point, &subject, 0, Reads::PLAIN);
}

/// Names the `mm_struct` for which a PASID is taken or given back: the one that the call around it is about.
#[inline(always)]
fn inside(subject: &mut Subject, around: Hook) {
    subject.mm = call::mm_of_call(around);
    subject.known |= known::MM;
}

#[inline(always)]
fn pasid_taken(context: *mut c_void, access: Access, mut subject: Subject) {
    inside(&mut subject, Hook::SvaBind);
    let pasid = call::result(context, access);
    emit::emit(context, Hook::PasidAlloc, Phase::End, &subject, pasid, Reads::STACK);
}

#[inline(always)]
fn pasid_goes_back(context: *mut c_void, access: Access) {
    if !turn::is_ours() {
        return;
    }
    let mut subject = call::subject(context, access, Hook::PasidFree);
    inside(&mut subject, Hook::MmDrop);
    emit::emit(context, Hook::PasidFree, Phase::Point, &subject, 0, Reads::STACK);
}

#[inline(always)]
fn domain_made(context: *mut c_void, access: Access, mut subject: Subject) {
    let made = call::result(context, access);
    if (made as u64) < (MAX_ERRNO as i64).wrapping_neg() as u64 {
        subject.domain = made as u64;
        subject.known |= known::DOMAIN;
    }
    emit::emit(context, Hook::DomainAlloc, Phase::End, &subject, made, Reads::STACK);
}

/// A static domain's `free` is NULL, and it is "freed" many times over. An SVA domain's PASID is that of its mm.
#[inline(always)]
fn domain_goes(context: *mut c_void, access: Access, hook: Hook) {
    let mut subject = call::subject(context, access, hook);
    let operations = read::member(subject.domain, layout!(domain_ops));
    if read::member::<u64>(operations, layout!(domain_ops_free)) == 0 || !turn::is_ours() {
        return;
    }
    let Domain { kind, kind_known, .. } = read::domain(subject.domain);
    if kind_known != 0 && kind == SVA {
        subject.mm = read::member(subject.domain, layout!(domain_mm));
        subject.known |= known::MM;
        if let Some(pasid) = pasid_of(subject.mm) {
            subject.pasid = pasid;
            subject.known |= known::PASID;
        }
    }
    emit::emit(context, hook, Phase::Point, &subject, 0, Reads::STACK);
}

/// The programs of a function of which the entry is reported.
macro_rules! at_entry {
    ($hook:ident, $name:literal, $then:ident $(, $more:expr)?) => {
        call!(named $hook, $name);
        program!("fentry", $name, context => $then(context, Access::Trampoline $(, $more)?));
        program!("kprobe", $name, context => $then(context, Access::Registers $(, $more)?));
    };
}

call!(then PasidAlloc, "pasid_alloc", pasid_taken);
at_entry!(PasidFree, "pasid_free", pasid_goes_back);
at_entry!(MmExit, "mm_exit", mm_exits);
call!(then DomainAlloc, "domain_alloc", domain_made);
at_entry!(DomainFree, "domain_free", domain_goes, Hook::DomainFree);
at_entry!(VtdDomainFree, "vtd_domain_free", domain_goes, Hook::VtdDomainFree);
at_entry!(AmdDomainFree, "amd_domain_free", domain_goes, Hook::AmdDomainFree);

at_entry!(MmDrop, "mm_drop", mm_drops);
program!("fexit", "mm_drop", context => call::end(context, Access::Trampoline, Hook::MmDrop, Reads::PLAIN));
program!("kretprobe", "mm_drop", context => call::end(context, Access::Registers, Hook::MmDrop, Reads::PLAIN));
