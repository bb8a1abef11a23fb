//! Writes an initramfs: a cpio archive of the "newc" format.
//!
//! The format: Documentation/driver-api/early-userspace/buffer-format.rst.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::Result;
use crate::error::At;

const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// An archive that grows in memory. Paths are those in the guest; missing parents are made.
#[derive(Debug, Default)]
pub struct Initramfs {
    archive: Vec<u8>,
    inodes: u32,
    directories: BTreeSet<String>,
}

impl Initramfs {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn directory(&mut self, path: &str) {
        let path = relative(path);
        if path.is_empty() || self.directories.contains(path) {
            return;
        }
        self.parents(path);
        self.directories.insert(path.to_owned());
        self.entry(path, DIRECTORY | 0o755, (0, 0), &[]);
    }

    pub fn file(&mut self, path: &str, mode: u32, data: &[u8]) {
        let path = relative(path);
        self.parents(path);
        self.entry(path, FILE | mode & 0o7777, (0, 0), data);
    }

    pub fn symlink(&mut self, path: &str, target: &str) {
        let path = relative(path);
        self.parents(path);
        self.entry(path, SYMLINK | 0o777, (0, 0), target.as_bytes());
    }

    pub fn character_device(&mut self, path: &str, mode: u32, number: (u32, u32)) {
        let path = relative(path);
        self.parents(path);
        self.entry(path, CHARACTER_DEVICE | mode & 0o7777, number, &[]);
    }

    /// A file or a whole directory of the host, with its modes. Symbolic links are followed.
    pub fn host(&mut self, path: &str, from: &Path) -> Result<()> {
        let metadata = fs::metadata(from).at(from)?;
        if metadata.is_dir() {
            self.directory(path);
            let mut children: Vec<_> = fs::read_dir(from).at(from)?.flatten().map(|e| e.path()).collect();
            children.sort();
            for child in children {
                if let Some(name) = child.file_name().and_then(|name| name.to_str()) {
                    self.host(&format!("{path}/{name}"), &child)?;
                }
            }
        } else {
            self.file(path, metadata.permissions().mode(), &fs::read(from).at(from)?);
        }
        Ok(())
    }

    /// The same of a whole root, with its symbolic links as they are.
    pub fn tree(&mut self, path: &str, from: &Path) -> Result<()> {
        let metadata = fs::symlink_metadata(from).at(from)?;
        if metadata.is_symlink() {
            let target = fs::read_link(from).at(from)?;
            self.symlink(path, &target.to_string_lossy());
        } else if metadata.is_dir() {
            self.directory(path);
            let mut children: Vec<_> = fs::read_dir(from).at(from)?.flatten().collect();
            children.sort_by_key(fs::DirEntry::file_name);
            for child in children {
                self.tree(&format!("{path}/{}", child.file_name().to_string_lossy()), &child.path())?;
            }
        } else {
            self.file(path, metadata.permissions().mode(), &fs::read(from).at(from)?);
        }
        Ok(())
    }

    /// The finished archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.archive
    }

    fn parents(&mut self, path: &str) {
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.directory(parent);
        }
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), data: &[u8]) {
        self.inodes += 1;
        let fields = [
            self.inodes,
            mode,
            0, // uid
            0, // gid
            1, // links
            0, // mtime
            data.len() as u32,
            0,
            0, // device of the file's own file system
            device.0,
            device.1,
            path.len() as u32 + 1,
            0, // checksum, unused by this format
        ];
        self.archive.extend_from_slice(b"070701");
        for field in fields {
            self.archive.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.archive.extend_from_slice(path.as_bytes());
        self.archive.push(0);
        self.align();
        self.archive.extend_from_slice(data);
        self.align();
    }

    fn align(&mut self) {
        self.archive.resize(self.archive.len().next_multiple_of(4), 0);
    }
}

fn relative(path: &str) -> &str {
    path.trim_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads an archive back: (path, mode, data).
    fn entries(archive: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut found = Vec::new();
        let mut at = 0;
        loop {
            assert_eq!(&archive[at..at + 6], b"070701");
            let field = |n: usize| {
                let text = &archive[at + 6 + 8 * n..at + 14 + 8 * n];
                u32::from_str_radix(std::str::from_utf8(text).unwrap(), 16).unwrap()
            };
            let (mode, size, name_size) = (field(1), field(6) as usize, field(11) as usize);
            let name_at = at + 110;
            let data_at = (name_at + name_size).next_multiple_of(4);
            let name = String::from_utf8(archive[name_at..name_at + name_size - 1].to_vec()).unwrap();
            if name == "TRAILER!!!" {
                return found;
            }
            found.push((name, mode, archive[data_at..data_at + size].to_vec()));
            at = (data_at + size).next_multiple_of(4);
        }
    }

    #[test]
    fn what_was_put_in_comes_out() {
        let mut initramfs = Initramfs::new();
        initramfs.file("/bin/sh", 0o755, b"#!");
        initramfs.symlink("/bin/ls", "sh");
        initramfs.file("/init", 0o700, b"12345");
        let entries = entries(&initramfs.finish());
        let expected: [(&str, u32, &[u8]); 4] = [
            ("bin", DIRECTORY | 0o755, b""),
            ("bin/sh", FILE | 0o755, b"#!"),
            ("bin/ls", SYMLINK | 0o777, b"sh"),
            ("init", FILE | 0o700, b"12345"),
        ];
        assert_eq!(entries.len(), expected.len());
        for (entry, (path, mode, data)) in entries.iter().zip(expected) {
            assert_eq!((entry.0.as_str(), entry.1, entry.2.as_slice()), (path, mode, data));
        }
    }

    #[test]
    fn the_archive_is_aligned() {
        let mut initramfs = Initramfs::new();
        initramfs.file("a", 0o644, b"x");
        assert_eq!(initramfs.finish().len() % 4, 0);
    }

    #[test]
    fn a_host_directory_is_taken_whole() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join("sub/script"), "echo").unwrap();
        let mut initramfs = Initramfs::new();
        initramfs.host("/guest", dir.path()).unwrap();
        let paths: Vec<_> = entries(&initramfs.finish()).into_iter().map(|entry| entry.0).collect();
        assert_eq!(paths, ["guest", "guest/sub", "guest/sub/script"]);
    }

    #[test]
    fn a_root_keeps_its_links() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("usr/bin")).unwrap();
        std::os::unix::fs::symlink("usr/bin", dir.path().join("bin")).unwrap();
        let mut initramfs = Initramfs::new();
        initramfs.tree("/debian", dir.path()).unwrap();
        let found: Vec<_> =
            entries(&initramfs.finish()).into_iter().map(|(path, mode, _)| (path, mode)).collect();
        let expected = [
            ("debian", DIRECTORY | 0o755),
            ("debian/bin", SYMLINK | 0o777),
            ("debian/usr", DIRECTORY | 0o755),
            ("debian/usr/bin", DIRECTORY | 0o755),
        ];
        assert_eq!(found, expected.map(|(path, mode)| (path.to_owned(), mode)));
    }
}
