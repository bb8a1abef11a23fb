//! Fetches Debian packages from the mirror that this machine already uses, in an apt root of our own:
//! nothing of the system changes, and no privilege is needed.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use crate::cache::{Cache, Entry, Versions};
use crate::error::At;
use crate::{Error, Result, process, progress};

/// The suites of the archive that the testbed draws from, and those of the security archive.
const SUITES: [&str; 4] = ["bookworm", "bookworm-updates", "trixie", "trixie-backports"];
const SECURITY_SUITES: [&str; 1] = ["bookworm-security"];

/// Debian's keyring, where `debian-archive-keyring` puts it.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// An apt root with fresh package lists.
#[derive(Debug)]
pub struct Apt {
    dir: PathBuf,
    architecture: &'static str,
}

/// A downloaded package file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deb {
    pub name: String,
    pub version: String,
    pub path: PathBuf,
}

/// The addresses of Debian's archives.
#[derive(Debug, PartialEq, Eq)]
struct Mirror {
    archive: String,
    security: Option<String>,
}

impl Apt {
    /// Opens the apt root in `cache`; the lists are brought up to date once in a process.
    pub fn open(cache: &Cache) -> Result<Self> {
        static UPDATED: Mutex<bool> = Mutex::new(false);

        let apt = Self { dir: cache.root().join("apt"), architecture: "amd64" };
        let mut updated = UPDATED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !*updated {
            let _lock = cache.lock("apt")?;
            apt.lay_out()?;
            progress::step("updating the package lists", || process::run(apt.get().arg("update")))?;
            *updated = true;
        }
        Ok(apt)
    }

    /// The apt root of another architecture.
    pub fn foreign(cache: &Cache, architecture: &'static str) -> Result<Self> {
        let apt = Self { dir: cache.root().join(format!("apt-{architecture}")), architecture };
        let _lock = cache.lock("apt")?;
        apt.lay_out()?;
        progress::step("updating the package lists", || process::run(apt.get().arg("update")))?;
        Ok(apt)
    }

    /// The names of all kernel packages on the mirror.
    pub fn kernel_packages(&self) -> Result<Vec<String>> {
        let found = process::run(self.command("apt-cache").args(["search", "--names-only", "^linux-"]))?;
        Ok(found.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect())
    }

    /// Downloads exactly `packages`, each a name or `NAME=VERSION`.
    pub fn download(&self, packages: &[String], into: &Path) -> Result<Vec<Deb>> {
        process::run(self.get().current_dir(into).arg("download").args(packages))?;
        let debs = debs_in(into)?;
        let name = |package: &str| package.split('=').next().unwrap_or_default().to_owned();
        match packages.iter().find(|package| !debs.iter().any(|deb| deb.name == name(package))) {
            None => Ok(debs),
            Some(missing) => Err(Error::NoPackage { package: missing.clone() }),
        }
    }

    /// Downloads `packages` of `suite` and all that they depend on, as if nothing were installed.
    pub fn download_closure(&self, suite: &str, packages: &[&str], into: &Path) -> Result<Vec<Deb>> {
        fs::create_dir_all(into.join("partial")).at(into)?;
        process::run(
            self.get()
                .arg("-o")
                .arg(assign("Dir::Cache::archives", into))
                .args(["install", "--download-only", "--yes", "--no-install-recommends", "-t", suite])
                .args(packages),
        )?;
        debs_in(into)
    }

    fn lay_out(&self) -> Result<()> {
        for dir in ["lists/partial", "archives/partial"] {
            let dir = self.dir.join(dir);
            fs::create_dir_all(&dir).at(&dir)?;
        }
        let mirror = Mirror::of_this_machine()?;
        for (file, text) in [("status", String::new()), ("sources.list", mirror.sources())] {
            let file = self.dir.join(file);
            fs::write(&file, text).at(&file)?;
        }
        Ok(())
    }

    fn get(&self) -> Command {
        let mut get = self.command("apt-get");
        get.arg("-qq");
        get
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("LC_ALL", "C");
        let dir = &self.dir;
        for option in [
            assign("Dir::State", dir),
            assign("Dir::State::status", &dir.join("status")),
            assign("Dir::Cache", dir),
            assign("Dir::Etc::sourcelist", &dir.join("sources.list")),
            "Dir::Etc::sourceparts=-".into(),
            "Dir::Etc::preferencesparts=-".into(),
            "Debug::NoLocking=true".into(),
            "Acquire::Retries=3".into(),
            "Acquire::Languages=none".into(),
            format!("APT::Architecture={}", self.architecture),
            format!("APT::Architectures::={}", self.architecture),
            // A root's cache is closed to apt's own user.
            "APT::Sandbox::User=root".into(),
        ] {
            command.arg("-o").arg(option);
        }
        // Hooks of the machine (docker images have some) are none of ours.
        for hook in ["APT::Update::Post-Invoke", "APT::Update::Post-Invoke-Success", "DPkg::Post-Invoke"] {
            command.arg("-o").arg(format!("#clear={hook}"));
        }
        command
    }
}

impl Mirror {
    fn of_this_machine() -> Result<Self> {
        let targets = process::run(Command::new("apt-get").args([
            "indextargets",
            // A fresh machine has sources and no lists yet.
            "--no-release-info",
            "--format",
            "$(RELEASE) $(REPO_URI)",
            "Created-By: Packages",
        ]))?;
        Self::parse(&targets).ok_or(Error::NoMirror)
    }

    /// `targets`: a line for each index, with its suite and the address of its archive.
    fn parse(targets: &str) -> Option<Self> {
        let pairs = || targets.lines().filter_map(|line| line.split_once(' '));
        let is_debian = |suite: &str| {
            let base = suite.split('-').next().unwrap_or_default();
            ["bookworm", "trixie", "forky", "sid", "oldstable", "stable", "testing", "unstable"]
                .contains(&base)
        };
        let find = |security: bool| {
            pairs()
                .find(|(suite, _)| is_debian(suite) && suite.ends_with("-security") == security)
                .map(|(_, uri)| uri.to_owned())
        };
        Some(Self { archive: find(false)?, security: find(true) })
    }

    fn sources(&self) -> String {
        let signed_by =
            if Path::new(KEYRING).exists() { format!("[signed-by={KEYRING}] ") } else { String::new() };
        let archive = SUITES.iter().map(|suite| (&self.archive, suite));
        let security =
            self.security.iter().flat_map(|uri| SECURITY_SUITES.iter().map(move |suite| (uri, suite)));
        archive.chain(security).map(|(uri, suite)| format!("deb {signed_by}{uri} {suite} main\n")).collect()
    }
}

/// One package, unpacked under `root` of a cache entry of this name; fetched where it isn't there yet.
pub fn package(cache: &Cache, name: &str, package: &str, size: &str) -> Result<Entry> {
    cache.entry(name, |dir, _| {
        let apt = Apt::open(cache)?;
        progress::step(format!("fetching {name} ({size})"), || {
            let debs = apt.download(&[package.into()], dir)?;
            unpack(&debs, &dir.join("root"))?;
            let deb = debs.into_iter().next().ok_or(Error::NoPackage { package: package.into() })?;
            fs::remove_file(&deb.path).at(&deb.path)?;
            Ok(Versions { release: deb.version.clone(), packages: [(deb.name, deb.version)].into() })
        })
    })
}

/// Unpacks `debs` into `root`, without installing them.
pub fn unpack(debs: &[Deb], root: &Path) -> Result<()> {
    for deb in debs {
        process::run(Command::new("dpkg").arg("-x").arg(&deb.path).arg(root))?;
    }
    Ok(())
}

fn assign(name: &str, path: &Path) -> String {
    format!("{name}={}", path.display())
}

fn debs_in(dir: &Path) -> Result<Vec<Deb>> {
    let mut debs: Vec<Deb> = fs::read_dir(dir)
        .at(dir)?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension() == Some(OsStr::new("deb")))
        .filter_map(Deb::of_file)
        .collect();
    debs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(debs)
}

impl Deb {
    /// apt names its files `NAME_VERSION_ARCH.deb`, with the colon of an epoch as `%3a`.
    fn of_file(path: PathBuf) -> Option<Self> {
        let stem = path.file_stem()?.to_str()?;
        let mut parts = stem.split('_');
        let name = parts.next()?.to_owned();
        let version = parts.next()?.replace("%3a", ":");
        Some(Self { name, version, path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_and_the_security_archive_are_told_apart() {
        let targets = "bookworm-security http://mirror/sec/\nnodistro http://other/\n\
                       bookworm-updates http://mirror/debian/\nbookworm http://mirror/debian/\n";
        let mirror = Mirror::parse(targets).unwrap();
        assert_eq!(mirror.archive, "http://mirror/debian/");
        assert_eq!(mirror.security.as_deref(), Some("http://mirror/sec/"));
        assert!(mirror.sources().contains("http://mirror/debian/ trixie-backports main\n"));
        assert!(mirror.sources().contains("http://mirror/sec/ bookworm-security main\n"));
    }

    #[test]
    fn a_machine_without_debian_has_no_mirror() {
        assert_eq!(Mirror::parse("nodistro http://other/\n"), None);
    }

    #[test]
    fn a_package_file_tells_its_name_and_version() {
        let deb = Deb::of_file("/x/libaudit1_1%3a4.0.2-2+deb13u1_amd64.deb".into()).unwrap();
        assert_eq!((deb.name.as_str(), deb.version.as_str()), ("libaudit1", "1:4.0.2-2+deb13u1"));
    }
}
