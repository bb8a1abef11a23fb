//! Errnos by name (include/uapi/asm-generic/errno*.h and include/linux/errno.h).

/// The errnos that the IOMMU's calls return, by number; every other is [`OTHER_ERRNO`].
pub const ERRNOS: [(u32, &str); 18] = [
    (1, "EPERM"),
    (2, "ENOENT"),
    (4, "EINTR"),
    (5, "EIO"),
    (11, "EAGAIN"),
    (12, "ENOMEM"),
    (14, "EFAULT"),
    (16, "EBUSY"),
    (17, "EEXIST"),
    (19, "ENODEV"),
    (22, "EINVAL"),
    (28, "ENOSPC"),
    (34, "ERANGE"),
    (75, "EOVERFLOW"),
    (95, "EOPNOTSUPP"),
    (110, "ETIMEDOUT"),
    (517, "EPROBE_DEFER"),
    (524, "ENOTSUPP"),
];

/// What all other errnos are counted as: the set of names is closed.
pub const OTHER_ERRNO: &str = "other";

/// The name of an errno, as metrics and evidence show it.
pub fn errno_name(ret: i32) -> &'static str {
    let known = ERRNOS.iter().find(|(number, _)| *number == ret.unsigned_abs());
    known.map_or(OTHER_ERRNO, |(_, name)| name)
}
