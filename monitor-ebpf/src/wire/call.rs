//! How the kernel side remembers a call from its begin to its end. Userspace looks at the keys only.

/// A call that began and has not ended. A task is in few at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Call {
    pub tid: u32,
    /// A [`super::Hook`] by number.
    pub hook: u32,
}

/// What a call is about, as its arguments say; 0 where it takes no such thing.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct Subject {
    pub group: u64,
    pub device: u64,
    pub domain: u64,
    pub old: u64,
    pub owner: u64,
    pub handle: u64,
    pub mm: u64,
    pub pasid: u32,
    /// Bits of [`known`](super::known) for the members above that the call takes.
    pub known: u32,
}

/// Without padding, their sizes are the sums of their members'.
const _: () = {
    assert!(size_of::<Call>() == 8);
    assert!(size_of::<Subject>() == 7 * 8 + 8);
};
