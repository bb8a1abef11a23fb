//! What a guest is made of: busybox, the kernel's modules, the scripts, and our init.

use std::path::{Path, PathBuf};

use crate::Result;
use crate::busybox::Busybox;
use crate::error::At;
use crate::initramfs::Initramfs;
use crate::modules::{self, Module};

const INIT: &str = include_str!("init.sh");
const RUN: &str = include_str!("run.sh");

/// Where a guest has its Debian: [`INIT`] makes this the root.
const DEBIAN: &str = "/debian";

/// The mount points of [`INIT`] that no kernel makes.
const DIRECTORIES: [&str; 7] = ["/dev", "/proc", "/sys", "/tmp", "/run", "/root", "/lib/modules"];

/// The contents of a guest. Guest paths are absolute.
#[derive(Debug, Default)]
pub struct Guest<'a> {
    pub release: &'a str,
    /// The modules that `modprobe` finds.
    pub modules: &'a [Module],
    /// Those that are loaded before the script runs.
    pub load: &'a [String],
    pub script: &'a str,
    /// The root of a Debian whose systemd is to run it all.
    pub debian: Option<PathBuf>,
    /// Files and directories of the host, and where they go.
    pub files: Vec<(PathBuf, String)>,
}

impl Guest<'_> {
    pub fn pack(&self, busybox: &Busybox) -> Result<Vec<u8>> {
        let mut initramfs = Initramfs::new();
        for directory in DIRECTORIES {
            initramfs.directory(directory);
        }
        // The kernel opens it for init before /dev is mounted.
        initramfs.character_device("/dev/console", 0o600, (5, 1));
        initramfs.file("/init", 0o755, INIT.as_bytes());
        initramfs.file("/etc/testbed/script", 0o755, self.script.as_bytes());
        initramfs.file("/etc/testbed/run", 0o755, RUN.as_bytes());
        initramfs.file("/etc/testbed/modules", 0o644, self.load.join("\n").as_bytes());

        // The kernel calls /sbin/modprobe.
        initramfs.symlink("/sbin", "bin");
        initramfs.host("/bin/busybox", &busybox.binary)?;
        for applet in busybox.applets.iter().filter(|applet| *applet != "busybox") {
            initramfs.symlink(&format!("/bin/{applet}"), "busybox");
        }
        if let Some(debian) = &self.debian {
            initramfs.tree(DEBIAN, debian)?;
        }
        self.pack_modules(&mut initramfs)?;
        for (from, to) in &self.files {
            initramfs.host(to, from)?;
        }
        Ok(initramfs.finish())
    }

    fn pack_modules(&self, initramfs: &mut Initramfs) -> Result<()> {
        let dir = format!("/lib/modules/{}", self.release);
        for Module { name, file, .. } in self.modules {
            initramfs.file(&format!("{dir}/{name}.ko"), 0o644, &std::fs::read(file).at(file)?);
        }
        initramfs.file(&format!("{dir}/modules.dep"), 0o644, modules::dep_file(self.modules).as_bytes());
        Ok(())
    }
}

/// `HOSTFILE[:GUESTPATH]`; without a guest path a file goes into the script's working directory.
pub fn addition(text: &str) -> (PathBuf, String) {
    match text.split_once(':') {
        Some((from, to)) => (from.into(), format!("/{}", to.trim_start_matches('/'))),
        None => {
            let name = Path::new(text).file_name().unwrap_or_default().to_string_lossy();
            (text.into(), format!("/root/{name}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_added_file_goes_where_it_is_said_or_into_the_home() {
        assert_eq!(addition("a/b.txt"), ("a/b.txt".into(), "/root/b.txt".into()));
        assert_eq!(addition("a:/etc/c"), ("a".into(), "/etc/c".into()));
        assert_eq!(addition("a:etc/c"), ("a".into(), "/etc/c".into()));
    }
}
