//! QEMU 11.1 and the libraries it was built with, run from one directory by its own loader.
//!
//! The emulated VT-d needs that release: PASIDs of 20 bits, first-stage tables, device TLBs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::apt::{self, Apt};
use crate::cache::{Cache, Versions};
use crate::error::At;
use crate::{Result, progress};

const SUITE: &str = "trixie-backports";
const PACKAGE: &str = "qemu-system-x86";

#[derive(Debug, Clone)]
pub struct Qemu {
    root: PathBuf,
    pub version: String,
}

impl Qemu {
    /// QEMU from the cache, fetched where it isn't there yet.
    pub fn fetch(cache: &Cache) -> Result<Self> {
        let entry = cache.entry("qemu", |dir, _| {
            let apt = Apt::open(cache)?;
            progress::step("fetching QEMU and its libraries (40 MB)", || fetch_into(&apt, dir))
        })?;
        Ok(Self { root: entry.dir.join("root"), version: entry.versions.release })
    }

    /// A QEMU command line to be filled.
    pub fn command(&self) -> Command {
        let mut command = self.run(&self.root.join("usr/bin/qemu-system-x86_64"));
        // Without it the host's modules of another QEMU would be loaded.
        command.env("QEMU_MODULE_DIR", self.libraries().join("qemu"));
        for firmware in ["qemu", "seabios"] {
            command.arg("-L").arg(self.root.join("usr/share").join(firmware));
        }
        command
    }

    /// A command that runs `program`, a Debian binary newer than this machine, by the unpacked loader.
    fn run(&self, program: &Path) -> Command {
        // A guest must not outlive the process that watches it.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(self.loader());
        command.arg("--library-path").arg(self.libraries()).arg(program);
        command
    }

    /// The unpacked dynamic loader.
    pub fn loader(&self) -> PathBuf {
        self.libraries().join("ld-linux-x86-64.so.2")
    }

    /// The unpacked shared libraries.
    pub fn libraries(&self) -> PathBuf {
        self.root.join("usr/lib/x86_64-linux-gnu")
    }
}

fn fetch_into(apt: &Apt, dir: &Path) -> Result<Versions> {
    let debs_dir = dir.join("debs");
    let debs = apt.download_closure(SUITE, &[PACKAGE, "seabios"], &debs_dir)?;
    let root = dir.join("root");
    apt::unpack(&debs, &root)?;
    fs::remove_dir_all(&debs_dir).at(&debs_dir)?;
    let packages: std::collections::BTreeMap<_, _> =
        debs.into_iter().map(|deb| (deb.name, deb.version)).collect();
    let release = packages.get(PACKAGE).cloned().unwrap_or_default();
    Ok(Versions { release, packages })
}
