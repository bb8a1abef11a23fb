//! The files of a recording: one that is written, and those before it, `FILE.1` the latest.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;

/// A recording tells who did what on a host: that is its owner's business.
const MODE: u32 = 0o600;

/// Where to record to.
#[derive(Clone, Debug)]
pub struct Target {
    pub path: PathBuf,
    /// The greatest length of each file, in bytes.
    pub max_size: u64,
    /// How many full files are kept beside the one that is written.
    pub keep: u32,
    /// Overwrite what is there.
    pub force: bool,
}

/// Why there is no file to record to.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    #[error("{} is there already; name another file, or give --force to overwrite it", path.display())]
    Exists { path: PathBuf },
    #[error("{} is no regular file; a recording goes to one", path.display())]
    NoFile { path: PathBuf },
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

pub struct Store {
    target: Target,
    file: File,
    length: u64,
    /// Of the files before this one.
    before: u64,
}

impl Store {
    /// Creates the file. One that is there is taken only if it is empty, or by force.
    pub fn create(target: Target) -> Result<Store, Unusable> {
        for number in 1..=target.keep {
            let path = older(&target.path, number);
            if fs::symlink_metadata(&path).is_err() {
                continue;
            }
            if !target.force {
                return Err(Unusable::Exists { path });
            }
            fs::remove_file(&path).map_err(|source| Unusable::Io { path, source })?;
        }
        let path = &target.path;
        let file = match create_new(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => take_over(path, target.force)?,
            other => other.map_err(|source| Unusable::Io { path: path.clone(), source })?,
        };
        Ok(Store { target, file, length: 0, before: 0 })
    }

    /// Whether so many bytes still fit.
    pub fn fits(&self, bytes: usize) -> bool {
        self.length.saturating_add(bytes as u64) <= self.target.max_size
    }

    /// Bytes written, in all files.
    pub fn written(&self) -> u64 {
        self.before + self.length
    }

    /// Writes at the end and sees it through to the disk. If that fails the file ends where it did.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let written = self.file.write_all_at(bytes, self.length).and_then(|()| self.file.sync_data());
        match written {
            Ok(()) => {
                self.length += bytes.len() as u64;
                Ok(())
            }
            Err(error) => {
                // If even this can't be done, the next block is written over the torn one.
                let _ = self.file.set_len(self.length);
                Err(error)
            }
        }
    }

    /// Puts the full file aside and begins a new one. The oldest goes.
    pub fn rotate(&mut self) -> io::Result<()> {
        let path = &self.target.path;
        // It isn't there if this is tried again because there was no room for the new one.
        let is_there = fs::symlink_metadata(path).is_ok();
        if is_there && self.target.keep == 0 {
            fs::remove_file(path)?;
        }
        for number in (0..self.target.keep).rev().filter(|_| is_there) {
            match fs::rename(older(path, number), older(path, number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.file = create_new(path)?;
        self.before += std::mem::take(&mut self.length);
        Ok(())
    }
}

/// The name of the file before the last, the one before that, and so on; 0 is the file itself.
fn older(path: &Path, number: u32) -> PathBuf {
    if number == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(MODE).open(path)
}

/// Opens a file that is there. A link isn't followed: who can put one there would choose what root overwrites.
fn take_over(path: &Path, force: bool) -> Result<File, Unusable> {
    let no_file = || Unusable::NoFile { path: path.to_owned() };
    let io = |source| Unusable::Io { path: path.to_owned(), source };
    if !fs::symlink_metadata(path).map_err(io)?.is_file() {
        return Err(no_file());
    }
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
    let file = OpenOptions::new().write(true).custom_flags(flags).open(path).map_err(io)?;
    let metadata = file.metadata().map_err(io)?;
    if !metadata.is_file() {
        return Err(no_file());
    }
    if metadata.len() > 0 && !force {
        return Err(Unusable::Exists { path: path.to_owned() });
    }
    file.set_len(0).map_err(io)?;
    file.set_permissions(Permissions::from_mode(MODE)).map_err(io)?;
    Ok(file)
}

#[cfg(test)]
impl Store {
    /// From now on nothing can be written. Gives back what it takes to mend that.
    pub fn breaks(&mut self, path: &Path) -> File {
        std::mem::replace(&mut self.file, File::open(path).expect("for reading only"))
    }

    pub fn mends(&mut self, file: File) {
        self.file = file;
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A folder of its own for each test.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let path = std::env::temp_dir().join(format!("iommu-watch-store-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).expect("a folder");
            Folder(path)
        }

        fn target(&self, keep: u32, force: bool) -> Target {
            Target { path: self.0.join("a.iwrec"), max_size: 100, keep, force }
        }

        fn read(&self, name: &str) -> Option<String> {
            fs::read_to_string(self.0.join(name)).ok()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_recording_is_its_owners_alone() {
        let folder = Folder::new("mode");
        fs::write(folder.0.join("a.iwrec"), "").expect("an empty file");
        for keep in [0, 1] {
            let mut store = Store::create(folder.target(keep, true)).expect("a store");
            let mode = |store: &Store| store.file.metadata().expect("metadata").permissions().mode() & 0o777;
            assert_eq!(mode(&store), 0o600);
            store.rotate().expect("rotated");
            assert_eq!(mode(&store), 0o600);
        }
    }

    #[test]
    fn what_is_there_is_not_overwritten_unless_by_force() {
        let folder = Folder::new("force");
        fs::write(folder.0.join("a.iwrec"), "precious").expect("a file");
        assert!(matches!(Store::create(folder.target(1, false)), Err(Unusable::Exists { .. })));
        assert_eq!(folder.read("a.iwrec").as_deref(), Some("precious"));
        Store::create(folder.target(1, true)).expect("a store");
        assert_eq!(folder.read("a.iwrec").as_deref(), Some(""));
        fs::write(folder.0.join("a.iwrec.1"), "precious").expect("a file");
        assert!(matches!(Store::create(folder.target(1, false)), Err(Unusable::Exists { .. })));
        Store::create(folder.target(0, false)).expect("a store that keeps none doesn't mind");
    }

    #[test]
    fn neither_a_link_nor_a_folder_is_written_to() {
        let folder = Folder::new("link");
        fs::write(folder.0.join("shadow"), "precious").expect("a file");
        symlink(folder.0.join("shadow"), folder.0.join("a.iwrec")).expect("a link");
        assert!(matches!(Store::create(folder.target(0, true)), Err(Unusable::NoFile { .. })));
        assert_eq!(folder.read("shadow").as_deref(), Some("precious"));
    }

    #[test]
    fn the_oldest_goes_and_the_others_move_up() {
        let folder = Folder::new("rotate");
        let mut store = Store::create(folder.target(2, false)).expect("a store");
        for text in ["one", "two", "three", "four"] {
            if text != "one" {
                store.rotate().expect("rotated");
            }
            store.append(text.as_bytes()).expect("written");
        }
        let names = ["a.iwrec", "a.iwrec.1", "a.iwrec.2", "a.iwrec.3"];
        let kept = names.map(|name| folder.read(name));
        assert_eq!(kept, [Some("four".into()), Some("three".into()), Some("two".into()), None]);
    }

    #[test]
    fn what_can_t_be_written_leaves_the_file_as_it_was() {
        let folder = Folder::new("full");
        let mut store = Store::create(folder.target(0, false)).expect("a store");
        store.append(b"one").expect("written");
        store.breaks(&folder.0.join("a.iwrec"));
        store.append(b"two").expect_err("refused");
        assert_eq!(folder.read("a.iwrec").as_deref(), Some("one"));
        assert!(store.fits(97) && !store.fits(98));
    }
}
