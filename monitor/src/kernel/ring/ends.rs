//! How far the two ends of the ring are: whether a record is on its way that can't be read yet.
//!
//! A record is reserved, filled and submitted, and its task may be preempted in between. Whoever reads the ring stops
//! there, as he does where it ends, whatever others have submitted behind it (`bpf_ringbuf_reserve`, `ringbuf_map_poll`
//! in kernel/bpf/ringbuf.c). So that there is nothing more to read doesn't say that the ring is empty; its ends do.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
    ptr::{self, NonNull},
    sync::atomic::{AtomicUsize, Ordering},
};

/// The pages that hold the positions of the consumer and of the producers, the first of every ring.
pub(super) struct Ends {
    pages: NonNull<libc::c_void>,
    page: usize,
}

// SAFETY: the mapping belongs to the process, and is only ever read, by atomic loads.
unsafe impl Send for Ends {}

impl Ends {
    pub fn map(ring: BorrowedFd<'_>) -> io::Result<Ends> {
        // SAFETY: takes a number and returns one.
        let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).map_err(io::Error::other)?;
        // SAFETY: a new mapping at a place of the kernel's choice, of a descriptor that is open.
        let pages = unsafe {
            libc::mmap(ptr::null_mut(), 2 * page, libc::PROT_READ, libc::MAP_SHARED, ring.as_raw_fd(), 0)
        };
        if pages == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let pages = NonNull::new(pages).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Ends { pages, page })
    }

    /// How far the ring was read, if something was reserved since; `None`: it is empty. What was reserved before anything
    /// that the reader has seen counts.
    pub fn waiting(&self) -> Option<usize> {
        let [read, reserved] = [self.read(), self.end(self.page)];
        (read != reserved).then_some(read)
    }

    /// How far the ring was read.
    pub fn read(&self) -> usize {
        self.end(0)
    }

    fn end(&self, at: usize) -> usize {
        // SAFETY: within the mapping, which lives as long as this; both are aligned, and the kernel writes whole words.
        unsafe { self.pages.byte_add(at).cast::<AtomicUsize>().as_ref() }.load(Ordering::Acquire)
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        // SAFETY: what was mapped, and nobody has a reference into it any more.
        unsafe { libc::munmap(self.pages.as_ptr(), 2 * self.page) };
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::{fd::AsFd, unix::fs::FileExt},
    };

    use super::*;

    #[test]
    fn a_ring_is_empty_when_what_was_reserved_was_read() -> io::Result<()> {
        let path = std::env::temp_dir().join(format!("iommu-watch-ring-{}", std::process::id()));
        let file = fs::File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
        fs::remove_file(&path)?;
        let ends = Ends::map(file.as_fd())?;
        file.set_len(2 * ends.page as u64)?;
        assert_eq!(ends.waiting(), None);
        file.write_all_at(&720_usize.to_ne_bytes(), ends.page as u64)?;
        assert_eq!(ends.waiting(), Some(0));
        file.write_all_at(&360_usize.to_ne_bytes(), 0)?;
        assert_eq!(ends.waiting(), Some(360));
        file.write_all_at(&720_usize.to_ne_bytes(), 0)?;
        assert_eq!(ends.waiting(), None);
        Ok(())
    }

    #[test]
    fn what_can_not_be_mapped_is_an_error() -> io::Result<()> {
        assert!(Ends::map(fs::File::open("/proc/self/status")?.as_fd()).is_err());
        Ok(())
    }
}
