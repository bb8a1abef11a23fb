//! A Debian for a guest, whose systemd becomes its PID 1: the packages unpacked and not installed, and without what only
//! people read.

use std::fs;
use std::path::{Path, PathBuf};

use crate::apt::{self, Apt};
use crate::cache::{Cache, Versions};
use crate::error::At;
use crate::{Result, progress};

const SUITE: &str = "trixie";

/// systemd, and what a package's maintainer scripts may rely on: Debian's essential packages, as far as they are used.
const PACKAGES: [&str; 10] = [
    "systemd",
    "base-files",
    "coreutils",
    "dash",
    "dpkg",
    "findutils",
    "init-system-helpers",
    "libc-bin",
    "perl-base",
    "sed",
];

/// Half of it.
const LEFT_OUT: [&str; 7] = ["doc", "info", "locale", "man", "bash-completion", "zsh", "lintian"];
const CHARACTER_SETS: &str = "usr/lib/x86_64-linux-gnu/gconv";

/// What of its start would only take time in a guest: it is not as a host is by itself, but nothing here depends on it.
pub const ARGUMENTS: &str = "systemd.mask=systemd-modules-load.service systemd.mask=systemd-journal-flush.service \
    systemd.mask=ldconfig.service systemd.mask=dev-hugepages.mount systemd.mask=dev-mqueue.mount \
    systemd.mask=sys-fs-fuse-connections.mount systemd.mask=sys-kernel-config.mount \
    systemd.mask=systemd-random-seed.service systemd.mask=systemd-tmpfiles-setup-dev-early.service \
    systemd.mask=systemd-sysctl.service systemd.mask=systemd-journal-catalog-update.service";

/// Its root, from the cache, fetched where it isn't there yet.
pub fn fetch(cache: &Cache) -> Result<PathBuf> {
    let entry = cache.entry("debian", |dir, _| {
        let apt = Apt::open(cache)?;
        progress::step("fetching Debian with systemd (20 MB)", || fetch_into(&apt, dir))
    })?;
    Ok(entry.dir.join("root"))
}

fn fetch_into(apt: &Apt, dir: &Path) -> Result<Versions> {
    let (debs_dir, root) = (dir.join("debs"), dir.join("root"));
    let debs = apt.download_closure(SUITE, &PACKAGES, &debs_dir)?;
    apt::unpack(&debs, &root)?;
    fs::remove_dir_all(&debs_dir).at(&debs_dir)?;
    let share = root.join("usr/share");
    let left_out = LEFT_OUT.iter().map(|name| share.join(name)).chain([root.join(CHARACTER_SETS)]);
    for path in left_out.filter(|path| path.exists()) {
        fs::remove_dir_all(&path).at(&path)?;
    }
    let packages: std::collections::BTreeMap<_, _> =
        debs.into_iter().map(|deb| (deb.name, deb.version)).collect();
    let release = packages.get("systemd").cloned().unwrap_or_default();
    Ok(Versions { release, packages })
}
