//! The commands of bpf(2) that the loader has for nobody: pins of any object, and a map that userspace alone writes.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

/// `enum bpf_cmd`, `enum bpf_map_type` and the flags of maps (include/uapi/linux/bpf.h).
const BPF_MAP_CREATE: libc::c_long = 0;
const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_MAP_TYPE_ARRAY: u32 = 2;
const BPF_F_MMAPABLE: u32 = 1 << 10;

/// The members of `union bpf_attr` for pins.
#[repr(C)]
struct Pin {
    path: u64,
    descriptor: u32,
    flags: u32,
}

/// Its members for a new map.
#[repr(C)]
struct Create {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
    inner: u32,
    numa_node: u32,
    name: [u8; 16],
}

/// Opens what is pinned there: a map, a program or a link.
pub fn get(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut pin = Pin { path: path.as_ptr().expose_provenance() as u64, descriptor: 0, flags: 0 };
    let descriptor = call(BPF_OBJ_GET, &mut pin)?;
    // SAFETY: a descriptor that was just made, and that nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Pins an object there.
pub fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let descriptor = u32::try_from(object.as_raw_fd()).map_err(io::Error::other)?;
    let mut pin = Pin { path: path.as_ptr().expose_provenance() as u64, descriptor, flags: 0 };
    call(BPF_OBJ_PIN, &mut pin).map(drop)
}

/// An array of so many pages that can be mapped.
pub fn pages(name: &[u8], page: usize, pages: usize) -> io::Result<OwnedFd> {
    let number = |size: usize| u32::try_from(size).map_err(io::Error::other);
    let mut create = Create {
        kind: BPF_MAP_TYPE_ARRAY,
        key_size: size_of::<u32>() as u32,
        value_size: number(page)?,
        max_entries: number(pages)?,
        flags: BPF_F_MMAPABLE,
        inner: 0,
        numa_node: 0,
        name: [0; 16],
    };
    // The last byte stays zero.
    create.name[..15].iter_mut().zip(name).for_each(|(to, from)| *to = *from);
    let descriptor = call(BPF_MAP_CREATE, &mut create)?;
    // SAFETY: a descriptor that was just made, and that nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn call<T>(command: libc::c_long, attributes: &mut T) -> io::Result<RawFd> {
    // SAFETY: the kernel reads as many bytes as it is told of a live value; the strings that it points to live in the
    // caller.
    let status = unsafe { libc::syscall(libc::SYS_bpf, command, attributes as *mut T, size_of::<T>()) };
    if status < 0 {
        Err(io::Error::last_os_error())
    } else {
        RawFd::try_from(status).map_err(io::Error::other)
    }
}
