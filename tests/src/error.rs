//! What can go wrong in the testbed, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("can't run `{program}`: {source}; the testbed needs Debian's apt, dpkg, gcc and make")]
    Spawn { program: String, source: io::Error },
    #[error("`{command}` failed ({status}):\n{output}")]
    Command { command: String, status: String, output: String },
    #[error("no cache directory: set IOMMU_WATCH_CACHE, XDG_CACHE_HOME or HOME")]
    NoCacheDir,
    #[error("no Debian archive in this machine's apt sources (looked at `apt-get indextargets`)")]
    NoMirror,
    #[error("no release of kernel {series} with all of its packages on this machine's mirror")]
    NoRelease { series: &'static str },
    #[error("{package}: no package file was downloaded")]
    NoPackage { package: String },
    #[error("{path}: {reason}")]
    NotAKernel { path: PathBuf, reason: &'static str },
    #[error("kernel {release} has no module `{name}`")]
    NoModule { release: String, name: String },
    #[error("{path}: not a kernel module: {reason}")]
    NotAModule { path: PathBuf, reason: String },
    #[error("a kernel image of one's own comes without modules: `{name}` can't be built or loaded")]
    ModuleForImage { name: String },
    #[error("{dir} has no source of test module `{name}`")]
    NoTestModule { dir: PathBuf, name: String },
    #[error("the guest did not come up in {attempts} attempts; its console: {console}\n{tail}")]
    NoBoot { attempts: u32, console: PathBuf, tail: String },
    #[error("the guest died before its script ended; its console: {console}\n{tail}")]
    Died { console: PathBuf, tail: String, output: String },
    #[error("the script did not end within {} s; the guest's console: {console}", limit.as_secs())]
    Timeout { limit: Duration, console: PathBuf, output: String },
    #[error("Prometheus: {reason}")]
    Prometheus { reason: String },
    #[error("{path}: {source}")]
    Json { path: PathBuf, source: serde_json::Error },
}

/// Names the path in an I/O error.
pub trait At<T> {
    fn at(self, path: impl AsRef<Path>) -> Result<T>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|source| Error::Io { path: path.as_ref().to_path_buf(), source })
    }
}
