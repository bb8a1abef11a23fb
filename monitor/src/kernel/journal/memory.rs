//! The journal's memory: pages of a map in the kernel, which live as long as it is pinned, whatever becomes of whoever
//! writes them.
//!
//! One process has it at a time (the lock of [`super::super::pins`]), and in that one thread writes all but single words.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
    ptr::{self, NonNull},
    sync::atomic::AtomicU64,
};

/// A mapping of a whole number of pages.
pub struct Memory {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread.
unsafe impl Send for Memory {}
// SAFETY: words are atomic, and all else is copied in and out by the one thread that has the journal.
unsafe impl Sync for Memory {}

impl Memory {
    /// The first bytes of a map.
    pub fn map(map: BorrowedFd<'_>, len: usize) -> io::Result<Memory> {
        Memory::new(map.as_raw_fd(), libc::MAP_SHARED, len)
    }

    /// Memory of this process alone.
    pub fn private(len: usize) -> io::Result<Memory> {
        Memory::new(-1, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, len)
    }

    fn new(descriptor: libc::c_int, flags: libc::c_int, len: usize) -> io::Result<Memory> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at a place of the kernel's choice, of a descriptor that is open, or of none.
        let base = unsafe { libc::mmap(ptr::null_mut(), len, access, flags, descriptor, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base).ok_or(io::ErrorKind::InvalidData)?.cast();
        Ok(Memory { base, len })
    }

    /// The word at this index, from the beginning.
    pub fn word(&self, index: usize) -> &AtomicU64 {
        let at = index * size_of::<u64>();
        assert!(at + size_of::<u64>() <= self.len, "the journal has no such word");
        // SAFETY: within the mapping, aligned since that begins a page, and only ever used as an atomic.
        unsafe { self.base.byte_add(at).cast::<AtomicU64>().as_ref() }
    }

    /// Copies bytes in; what doesn't fit is left out, and `false` said.
    pub fn write(&self, at: usize, bytes: &[u8]) -> bool {
        let fits = at.checked_add(bytes.len()).is_some_and(|end| end <= self.len);
        if fits {
            // SAFETY: within the mapping, of which no reference is ever given out but to words that are not written here.
            unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.base.as_ptr().add(at), bytes.len()) };
        }
        fits
    }

    /// Copies bytes out; `None` where there are none.
    pub fn read(&self, at: usize, len: usize) -> Option<Vec<u8>> {
        at.checked_add(len).filter(|&end| end <= self.len)?;
        let mut bytes = vec![0; len];
        // SAFETY: as above, and the destination is as long.
        unsafe { ptr::copy_nonoverlapping(self.base.as_ptr().add(at), bytes.as_mut_ptr(), len) };
        Some(bytes)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: what was mapped; references into it borrow this.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}
