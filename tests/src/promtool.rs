//! Prometheus's promtool, which checks the rules: Debian's package, unpacked and not installed.

use std::fs;
use std::path::PathBuf;

use crate::apt::{self, Apt};
use crate::cache::{Cache, Versions};
use crate::error::At;
use crate::{Error, Result, progress};

const PACKAGE: &str = "promtool";

#[derive(Debug, Clone)]
pub struct Promtool {
    pub binary: PathBuf,
    pub version: String,
}

impl Promtool {
    /// promtool from the cache, fetched where it isn't there yet.
    pub fn fetch(cache: &Cache) -> Result<Self> {
        let entry = cache.entry("promtool", |dir, _| {
            let apt = Apt::open(cache)?;
            progress::step("fetching promtool (16 MB)", || {
                let debs = apt.download(&[PACKAGE.into()], dir)?;
                apt::unpack(&debs, &dir.join("root"))?;
                let deb = debs.into_iter().next().ok_or(Error::NoPackage { package: PACKAGE.into() })?;
                fs::remove_file(&deb.path).at(&deb.path)?;
                Ok(Versions { release: deb.version.clone(), packages: [(deb.name, deb.version)].into() })
            })
        })?;
        Ok(Self { binary: entry.dir.join("root/usr/bin/promtool"), version: entry.versions.release })
    }
}
