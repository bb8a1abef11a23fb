//! The guest's userland: Debian's static busybox.

use std::path::PathBuf;
use std::process::Command;

use crate::apt;
use crate::cache::Cache;
use crate::{Error, Result, process};

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
        let entry = apt::package(cache, "busybox", PACKAGE, "1 MB")?;
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
