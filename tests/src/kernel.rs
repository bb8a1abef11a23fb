//! Debian's kernels: image, modules, headers, of the newest release of a series on the mirror.

use std::cmp::Ordering;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::apt::{self, Apt};
use crate::cache::{Cache, Versions};
use crate::error::At;
use crate::modules::Modules;
use crate::{Error, Result, kbuild, progress, vmlinux};

/// A series of kernels that the testbed knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Series {
    /// No `*_device_pasid` functions: ownership and domains only.
    V6_1,
    /// The PASID API, without SVA.
    V6_12,
    /// The newest 7.x: SVA, removal of PASIDs through the blocked domain.
    V7,
}

/// Which releases belong to a series, and the packages of one.
struct Packaging {
    /// The package that stands for the release: `PREFIX` + release.
    image: &'static str,
    /// What a release of the series starts with.
    version: &'static str,
    /// What follows the digits and dots: the Debian release it was built for.
    build: &'static str,
    /// The packages of release `{r}`, built from version `{v}`.
    packages: &'static [&'static str],
}

const FLAVOUR: &str = "-amd64";

impl Series {
    pub const ALL: [Self; 3] = [Self::V6_1, Self::V6_12, Self::V7];

    pub fn name(self) -> &'static str {
        match self {
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
            Self::V7 => "7",
        }
    }

    fn packaging(self) -> Packaging {
        match self {
            Self::V6_1 => Packaging {
                image: "linux-image-",
                version: "6.1.0-",
                build: "",
                packages: &[
                    "linux-image-{r}",
                    "linux-headers-{r}",
                    "linux-headers-{v}-common",
                    "linux-kbuild-6.1",
                ],
            },
            Self::V6_12 => Packaging {
                image: "linux-image-",
                version: "6.12.",
                build: "+deb12",
                packages: &[
                    "linux-image-{r}",
                    "linux-headers-{r}",
                    "linux-headers-{v}-common",
                    "linux-kbuild-{v}",
                ],
            },
            Self::V7 => Packaging {
                image: "linux-binary-",
                version: "7.",
                build: "+deb13",
                packages: &[
                    "linux-binary-{r}",
                    "linux-modules-{r}",
                    "linux-base-{r}",
                    "linux-headers-{r}",
                    "linux-headers-{v}-common",
                    "linux-kbuild-{v}",
                ],
            },
        }
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Series {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|series| series.name() == text)
            .ok_or_else(|| format!("no such series; there are {}", Self::ALL.map(Self::name).join(", ")))
    }
}

/// An unpacked kernel.
#[derive(Debug)]
pub struct DebianKernel {
    pub series: Series,
    /// As `uname -r` says it.
    pub release: String,
    /// The kernel's ELF, with its BTF.
    pub vmlinux: PathBuf,
    pub modules: Modules,
    /// The tree that `make M=…` wants.
    pub headers: PathBuf,
}

impl DebianKernel {
    /// The kernel from the cache, fetched where it isn't there yet.
    pub fn fetch(cache: &Cache, series: Series) -> Result<Self> {
        let entry = cache.entry(&format!("kernel-{series}"), |dir, last| {
            let apt = Apt::open(cache)?;
            let release =
                newest(series, &apt.kernel_packages()?).ok_or(Error::NoRelease { series: series.name() })?;
            progress::step(format_args!("fetching kernel {} (90 to 140 MB)", release.name), || {
                fetch_into(&apt, &release, dir, last)
            })
        })?;
        let release = entry.versions.release;
        let root = entry.dir.join("root");
        Ok(Self {
            series,
            vmlinux: entry.dir.join("vmlinux"),
            modules: Modules::open(&release, &modules_dir(&root, &release), &entry.dir.join("ko"))?,
            headers: root.join("usr/src").join(format!("linux-headers-{release}")),
            release,
        })
    }
}

/// A release on the mirror, with the packages it comes in.
#[derive(Debug, PartialEq, Eq)]
struct Release {
    name: String,
    packages: Vec<String>,
}

/// The newest release of `series` of which every package is there (headers may lag behind images).
fn newest(series: Series, packages: &[String]) -> Option<Release> {
    let packaging = series.packaging();
    packages
        .iter()
        .filter_map(|package| {
            let name = package.strip_prefix(packaging.image)?;
            let version = name.strip_suffix(FLAVOUR)?;
            let digits = version.strip_prefix(packaging.version)?.strip_suffix(packaging.build)?;
            let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit() || b == b'.');
            let needed: Vec<String> =
                packaging.packages.iter().map(|p| p.replace("{r}", name).replace("{v}", version)).collect();
            let complete = needed.iter().all(|needed| packages.contains(needed));
            (plain && complete).then(|| Release { name: name.to_owned(), packages: needed })
        })
        .max_by(|a, b| natural(&a.name, &b.name))
}

/// Compares as a reader would: runs of digits by their value, all else by its bytes.
fn natural(a: &str, b: &str) -> Ordering {
    fn runs(text: &str) -> impl Iterator<Item = (u64, &str)> {
        text.split_inclusive(|c: char| !c.is_ascii_digit()).map(|run| {
            let end = run.find(|c: char| !c.is_ascii_digit()).unwrap_or(run.len());
            (run[..end].parse().unwrap_or(0), &run[end..])
        })
    }
    runs(a).cmp(runs(b))
}

fn fetch_into(apt: &Apt, release: &Release, dir: &Path, last: &Path) -> Result<Versions> {
    let debs_dir = dir.join("debs");
    fs::create_dir(&debs_dir).at(&debs_dir)?;
    let debs = apt.download(&release.packages, &debs_dir)?;
    let root = dir.join("root");
    apt::unpack(&debs, &root)?;
    fs::remove_dir_all(&debs_dir).at(&debs_dir)?;

    let name = &release.name;
    let image = [root.join("boot").join(format!("vmlinuz-{name}")), modules_dir(&root, name).join("vmlinuz")]
        .into_iter()
        .find(|image| image.is_file())
        .ok_or_else(|| Error::NotAKernel { path: root.clone(), reason: "no kernel image in the packages" })?;
    let elf = vmlinux::extract(fs::read(&image).at(&image)?)
        .map_err(|reason| Error::NotAKernel { path: image.clone(), reason })?;
    let vmlinux = dir.join("vmlinux");
    fs::write(&vmlinux, elf).at(&vmlinux)?;
    kbuild::relocate(&root, &last.join("root"))?;

    let packages = debs.into_iter().map(|deb| (deb.name, deb.version)).collect();
    Ok(Versions { release: name.clone(), packages })
}

/// Debian moved the modules below /usr with trixie.
fn modules_dir(root: &Path, release: &str) -> PathBuf {
    let below_usr = root.join("usr/lib/modules").join(release);
    if below_usr.is_dir() { below_usr } else { root.join("lib/modules").join(release) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packages(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn versions_are_ordered_by_their_numbers() {
        assert_eq!(natural("6.12.9+deb12-amd64", "6.12.101+deb12-amd64"), Ordering::Less);
        assert_eq!(natural("7.10.1", "7.9.12"), Ordering::Greater);
        assert_eq!(natural("6.1.0-49-amd64", "6.1.0-49-amd64"), Ordering::Equal);
    }

    #[test]
    fn the_newest_complete_release_is_taken() {
        let mut there = packages(&["linux-kbuild-6.1"]);
        for abi in ["9", "56"] {
            there.push(format!("linux-image-6.1.0-{abi}-amd64"));
            there.push(format!("linux-headers-6.1.0-{abi}-amd64"));
            there.push(format!("linux-headers-6.1.0-{abi}-common"));
        }
        there.push("linux-image-6.1.0-57-amd64".into());
        assert_eq!(newest(Series::V6_1, &there).unwrap().name, "6.1.0-56-amd64");
    }

    #[test]
    fn flavours_are_not_taken_for_releases() {
        let there = packages(&[
            "linux-kbuild-6.1",
            "linux-image-6.1.0-56-cloud-amd64",
            "linux-headers-6.1.0-56-cloud-amd64",
            "linux-headers-6.1.0-56-cloud-common",
            "linux-image-6.1.0-56-amd64-unsigned",
        ]);
        assert_eq!(newest(Series::V6_1, &there), None);
    }

    #[test]
    fn a_series_is_named_as_on_the_command_line() {
        for series in Series::ALL {
            assert_eq!(series.to_string().parse(), Ok(series));
        }
        assert!("5.10".parse::<Series>().unwrap_err().contains("6.12"));
    }
}
