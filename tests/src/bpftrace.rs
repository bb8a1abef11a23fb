//! bpftrace, which measures are held against: Debian's package with the libraries it needs, unpacked and not installed,
//! to be run in a guest by its own loader.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::apt::{self, Apt};
use crate::cache::{Cache, Versions};
use crate::error::At;
use crate::{Error, Result, process, progress};

const SUITE: &str = "trixie";
const PACKAGE: &str = "bpftrace";
const LOADER: &str = "ld-linux-x86-64.so.2";

/// Where it is in a guest. Its loader is `ld.so` there.
const INSIDE: &str = "/opt/bpftrace";

#[derive(Debug, Clone)]
pub struct Bpftrace {
    root: PathBuf,
    pub version: String,
}

impl Bpftrace {
    /// bpftrace from the cache, fetched where it isn't there yet.
    pub fn fetch(cache: &Cache) -> Result<Self> {
        let entry = cache.entry("bpftrace", |dir, _| {
            let apt = Apt::open(cache)?;
            progress::step("fetching bpftrace and its libraries (90 MB)", || {
                let debs_dir = dir.join("debs");
                let debs = apt.download_closure(SUITE, &[PACKAGE], &debs_dir)?;
                apt::unpack(&debs, &dir.join("root"))?;
                fs::remove_dir_all(&debs_dir).at(&debs_dir)?;
                let packages: std::collections::BTreeMap<_, _> =
                    debs.into_iter().map(|deb| (deb.name, deb.version)).collect();
                let release = packages.get(PACKAGE).cloned().unwrap_or_default();
                Ok(Versions { release, packages })
            })
        })?;
        Ok(Self { root: entry.dir.join("root"), version: entry.versions.release })
    }

    /// What goes into a guest, and where: the program, its loader, and the libraries that the loader asks for. The
    /// others of the packages would only fill the guest's memory.
    pub fn files(&self) -> Result<Vec<(PathBuf, String)>> {
        let libraries_dir = self.root.join("usr/lib/x86_64-linux-gnu");
        let loader = libraries_dir.join(LOADER);
        let program = self.root.join("usr/bin").join(PACKAGE);
        let listed = process::run(
            Command::new(&loader).arg("--library-path").arg(&libraries_dir).arg("--list").arg(&program),
        )?;
        let mut files = vec![(loader, format!("{INSIDE}/ld.so")), (program, format!("{INSIDE}/{PACKAGE}"))];
        for library in libraries(&listed) {
            if !library.starts_with(&self.root) {
                return Err(Error::NoPackage { package: library.display().to_string() });
            }
            let name = library.file_name().unwrap_or_default().to_string_lossy().into_owned();
            files.push((library, format!("{INSIDE}/{name}")));
        }
        Ok(files)
    }
}

/// The files of `ld.so --list`: `libz.so.1 => /lib/libz.so.1 (0x…)`. The loader names itself without an arrow.
fn libraries(listed: &str) -> Vec<PathBuf> {
    let of_line = |line: &str| {
        let (_, rest) = line.split_once(" => ")?;
        let (path, _) = rest.rsplit_once(" (")?;
        Some(Path::new(path).to_owned())
    };
    listed.lines().filter_map(of_line).filter(|path| !path.ends_with(LOADER)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_what_the_loader_found() {
        let listed = "\tlinux-vdso.so.1 (0x00007ffc)\n\tlibz.so.1 => /x/lib/libz.so.1 (0x00007f12)\n\
                      \t/lib64/ld-linux-x86-64.so.2 => /x/lib/ld-linux-x86-64.so.2 (0x00007f13)\n";
        assert_eq!(libraries(listed), [Path::new("/x/lib/libz.so.1")]);
    }
}
