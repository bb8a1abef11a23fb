//! What was fetched once and is kept, outside the build tree.
//!
//! An entry is a directory that appears in one step (it is made beside its place and renamed), with the
//! versions of what it holds in `versions.json`. To fetch newer ones, remove the entry.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::At;
use crate::{Error, Result};

/// Counts up whenever entries made by an older testbed can't be used any more.
const LAYOUT: &str = "v1";
const VERSIONS: &str = "versions.json";

#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

/// A directory of the cache, and what is in it.
#[derive(Debug, Clone)]
pub struct Entry {
    pub dir: PathBuf,
    pub versions: Versions,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// The release that the entry stands for: a kernel's `uname -r`, a program's package version.
    pub release: String,
    /// The Debian packages it was made from: name → version.
    pub packages: BTreeMap<String, String>,
}

/// Held while an entry is made; other processes and threads wait for it.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Cache {
    /// The user's cache: `$IOMMU_WATCH_CACHE`, else below `$XDG_CACHE_HOME`, else below `~/.cache`.
    pub fn open() -> Result<Self> {
        let base = env::var_os("IOMMU_WATCH_CACHE").map(PathBuf::from).or_else(|| {
            env::var_os("XDG_CACHE_HOME")
                .map(PathBuf::from)
                .or_else(|| env::home_dir().map(|home| home.join(".cache")))
                .map(|cache| cache.join("iommu-watch"))
        });
        Self::at(&base.ok_or(Error::NoCacheDir)?)
    }

    /// A cache in `base`.
    pub fn at(base: &Path) -> Result<Self> {
        let root = base.join(LAYOUT);
        fs::create_dir_all(&root).at(&root)?;
        Ok(Self { root: root.canonicalize().at(&root)? })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The entry `name`; where it is missing, `make` fills the directory it is given (the first argument),
    /// knowing where that will be in the end (the second).
    pub fn entry(&self, name: &str, make: impl FnOnce(&Path, &Path) -> Result<Versions>) -> Result<Entry> {
        let dir = self.root.join(name);
        if let Some(entry) = Entry::open(&dir)? {
            return Ok(entry);
        }
        let _lock = self.lock(name)?;
        if let Some(entry) = Entry::open(&dir)? {
            return Ok(entry);
        }
        // The lock makes it ours alone; what an ended run left is in the way.
        let beside = self.root.join(format!(".new-{name}"));
        remove(&beside)?;
        fs::create_dir(&beside).at(&beside)?;
        let versions = make(&beside, &dir).inspect_err(|_| drop(remove(&beside)))?;
        let file = beside.join(VERSIONS);
        let json = serde_json::to_string_pretty(&versions)
            .map_err(|source| Error::Json { path: file.clone(), source })?;
        fs::write(&file, json).at(&file)?;
        fs::rename(&beside, &dir).at(&dir)?;
        Ok(Entry { dir, versions })
    }

    /// The lock file of `name`, taken.
    pub fn lock(&self, name: &str) -> Result<Lock> {
        let path = self.root.join(format!(".{name}.lock"));
        let file = File::create(&path).at(&path)?;
        file.lock().at(&path)?;
        Ok(Lock { _file: file })
    }
}

fn remove(dir: &Path) -> Result<()> {
    if dir.exists() { fs::remove_dir_all(dir).at(dir) } else { Ok(()) }
}

impl Entry {
    fn open(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(VERSIONS);
        let Ok(json) = fs::read(&path) else { return Ok(None) };
        let versions = serde_json::from_slice(&json).map_err(|source| Error::Json { path, source })?;
        Ok(Some(Self { dir: dir.to_path_buf(), versions }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> (tempfile::TempDir, Cache) {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path()).unwrap();
        (dir, cache)
    }

    #[test]
    fn an_entry_is_made_once() {
        let (_dir, cache) = cache();
        let mut made = 0;
        for _ in 0..2 {
            let entry = cache
                .entry("kernel", |dir, _| {
                    made += 1;
                    fs::write(dir.join("vmlinux"), "ELF").unwrap();
                    Ok(Versions { release: "6.12".into(), ..Versions::default() })
                })
                .unwrap();
            assert_eq!(entry.versions.release, "6.12");
            assert_eq!(fs::read_to_string(entry.dir.join("vmlinux")).unwrap(), "ELF");
        }
        assert_eq!(made, 1);
    }

    #[test]
    fn a_failed_entry_leaves_nothing_behind() {
        let (_dir, cache) = cache();
        cache
            .entry("kernel", |dir, _| {
                fs::write(dir.join("half"), "").unwrap();
                Err(Error::NoMirror)
            })
            .unwrap_err();
        let left: Vec<_> = fs::read_dir(cache.root()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, [".kernel.lock"]);
    }
}
