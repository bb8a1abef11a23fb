//! Prometheus's promtool, which checks the rules: Debian's package, unpacked and not installed.

use std::path::PathBuf;

use crate::Result;
use crate::apt;
use crate::cache::Cache;

const PACKAGE: &str = "promtool";

#[derive(Debug, Clone)]
pub struct Promtool {
    pub binary: PathBuf,
    pub version: String,
}

impl Promtool {
    /// promtool from the cache, fetched where it isn't there yet.
    pub fn fetch(cache: &Cache) -> Result<Self> {
        let entry = apt::package(cache, "promtool", PACKAGE, "16 MB")?;
        Ok(Self { binary: entry.dir.join("root/usr/bin/promtool"), version: entry.versions.release })
    }
}
