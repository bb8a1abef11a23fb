//! The heap of this process: what it has freed goes back to the kernel. Starting takes several times what watching takes:
//! the kernel's types are parsed twice, and its symbols sorted. glibc would keep that for ever.

/// Free memory at the end of an arena that glibc may keep, in bytes; its usual.
#[cfg(target_env = "gnu")]
const KEPT: libc::c_int = 128 << 10;

/// From now on what is large goes back as soon as it is freed. Of itself glibc learns from each large piece that is freed
/// to keep the next of that size (mallopt(3), M_MMAP_THRESHOLD); it does so no more once it is told a bound.
pub fn keep_little() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes two numbers. Where it refuses, things stay as they are.
    unsafe {
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
    }
}

/// Gives back what bursts have left free, now and then. What is used doesn't grow with the events, but it comes to lie
/// between ever more pages that once were. Not where the heap lies in huge pages (`command/huge_pages.rs` has decided
/// that): giving parts of them back would split them.
pub fn tidy() {
    if rustix::thread::transparent_huge_pages_are_disabled().unwrap_or(false) {
        give_back();
    }
}

/// Gives back what is free between things that are used, in all arenas.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes a number, and locks each arena while it looks at it.
    unsafe {
        libc::malloc_trim(0);
    }
}
