//! The guest's userland: Debian's static busybox.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::apt::{self, Apt};
use crate::cache::{Cache, Versions};
use crate::error::At;
use crate::{Error, Result, process, progress};

const PACKAGE: &str = "busybox-static";

#[derive(Debug, Clone)]
pub struct Busybox {
    pub binary: PathBuf,
    pub applets: Vec<String>,
    pub version: String,
}

impl Busybox {
    /// busybox from the cache, fetched where it isn't there yet.
    pub fn fetch(cache: &Cache) -> Result<Self> {
        let entry = cache.entry("busybox", |dir, _| {
            let apt = Apt::open(cache)?;
            progress::step("fetching busybox (1 MB)", || {
                let debs = apt.download(&[PACKAGE.into()], dir)?;
                apt::unpack(&debs, &dir.join("root"))?;
                let deb = debs.into_iter().next().ok_or(Error::NoPackage { package: PACKAGE.into() })?;
                fs::remove_file(&deb.path).at(&deb.path)?;
                Ok(Versions { release: deb.version.clone(), packages: [(deb.name, deb.version)].into() })
            })
        })?;
        let root = entry.dir.join("root");
        let binary = ["usr/bin/busybox", "bin/busybox"]
            .iter()
            .map(|path| root.join(path))
            .find(|path| path.exists())
            .ok_or(Error::NoPackage { package: PACKAGE.into() })?;
        let applets = process::run(Command::new(&binary).arg("--list"))?.lines().map(str::to_owned).collect();
        Ok(Self { binary, applets, version: entry.versions.release })
    }
}
