//! Builds the guest's small C programs on the host, statically: a guest has no libraries.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cache::Cache;
use crate::error::At;
use crate::{Result, process};

/// The program of `source`, a C file, and of the header of its name, if it has one. A build is kept by what went into it.
pub fn build(cache: &Cache, source: &Path) -> Result<PathBuf> {
    let name = source.file_stem().unwrap_or_default().to_string_lossy();
    let mut hasher = DefaultHasher::new();
    fs::read(source).at(source)?.hash(&mut hasher);
    let header = source.with_extension("h");
    if header.is_file() {
        fs::read(&header).at(&header)?.hash(&mut hasher);
    }
    let dir = cache.root().join("program");
    fs::create_dir_all(&dir).at(&dir)?;
    let kept = dir.join(format!("{name}-{:016x}", hasher.finish()));
    if !kept.exists() {
        let beside = tempfile::Builder::new().prefix(".new-").tempdir_in(&dir).at(&dir)?;
        let built = beside.path().join(name.as_ref());
        let flags = ["-static", "-O2", "-Wall", "-pthread", "-o"];
        process::run(Command::new("gcc").args(flags).arg(&built).arg(source))?;
        fs::rename(&built, &kept).at(&kept)?;
    }
    Ok(kept)
}

/// The C files right in `dir`.
pub fn sources(dir: &Path) -> Result<Vec<PathBuf>> {
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    let mut sources: Vec<PathBuf> =
        fs::read_dir(dir).at(dir)?.flatten().map(|entry| entry.path()).filter(|path| is_c(path)).collect();
    sources.sort();
    Ok(sources)
}

fn is_c(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "c")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_c_files_are_programs() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["vfio.c", "lib.sh"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        assert_eq!(sources(dir.path()).unwrap(), [dir.path().join("vfio.c")]);
    }
}
