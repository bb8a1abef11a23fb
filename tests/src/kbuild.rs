//! Builds the test modules, from C, for a kernel whose headers are unpacked and not installed.
//!
//! Debian's kbuild tools may be newer than this machine's libc, so they are run by the loader and the
//! libraries that came with QEMU.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cache::Cache;
use crate::error::At;
use crate::kernel::DebianKernel;
use crate::qemu::Qemu;
use crate::{Error, Result, process, progress};

/// The wrapper of a kbuild tool finds loader and libraries in these variables.
const LOADER: &str = "TESTBED_LOADER";
const LIBRARIES: &str = "TESTBED_LIBRARIES";

/// Makes headers and kbuild tools, unpacked in `root`, usable from `last`, where they will be in the end.
pub fn relocate(root: &Path, last: &Path) -> Result<()> {
    let sources = root.join("usr/src");
    for tree in children(&sources)? {
        let makefile = tree.join("Makefile");
        // The small Makefile of a flavour includes the common one by its absolute path.
        if tree.is_symlink() || !tree.join(".config").exists() {
            continue;
        }
        let text = fs::read_to_string(&makefile).at(&makefile)?;
        let moved = text.replace("/usr/src/", &format!("{}/usr/src/", last.display()));
        fs::write(&makefile, moved).at(&makefile)?;
    }
    for dir in children(&root.join("usr/lib"))? {
        if dir.file_name().is_some_and(|name| name.to_string_lossy().starts_with("linux-kbuild-")) {
            wrap_tools(&dir)?;
        }
    }
    Ok(())
}

/// The module `name` of `sources` (`NAME/` or `NAME.c`, with the headers beside it), built for `kernel`.
/// A build is kept by what went into it.
pub fn build_module(
    cache: &Cache,
    qemu: &Qemu,
    kernel: &DebianKernel,
    sources: &Path,
    name: &str,
) -> Result<PathBuf> {
    let files = source_files(sources, name)?;
    let hash = fingerprint(kernel, &files)?;
    let kept = cache.root().join("testmod").join(format!("{name}-{}-{hash:016x}.ko", kernel.release));
    let _lock = cache.lock(&format!("testmod-{name}-{}", kernel.release))?;
    if kept.exists() {
        return Ok(kept);
    }
    progress::step(format_args!("building module {name} for {}", kernel.release), || {
        let dir = tempfile::tempdir().at("the temporary directory")?;
        lay_out(dir.path(), name, &files)?;
        make(qemu, kernel, dir.path())?;
        let built = dir.path().join(format!("{name}.ko"));
        process::run(Command::new("strip").arg("--strip-debug").arg(&built))?;
        let parent = cache.root().join("testmod");
        fs::create_dir_all(&parent).at(&parent)?;
        let beside = parent.join(format!(".new-{name}-{}", kernel.release));
        fs::copy(&built, &beside).at(&beside)?;
        fs::rename(&beside, &kept).at(&kept)?;
        Ok(kept)
    })
}

/// The names of the test modules in `sources`.
pub fn module_names(sources: &Path) -> Result<Vec<String>> {
    let mut names: Vec<String> = children(sources)?
        .into_iter()
        .filter_map(|path| {
            let name = path.file_stem()?.to_str()?.to_owned();
            let is_module = if path.is_dir() {
                path.join(format!("{name}.c")).exists() || path.join("Kbuild").exists()
            } else {
                path.extension().is_some_and(|extension| extension == "c")
            };
            is_module.then_some(name)
        })
        .collect();
    names.sort();
    Ok(names)
}

fn make(qemu: &Qemu, kernel: &DebianKernel, dir: &Path) -> Result<()> {
    let mut make = Command::new("make");
    // An outer make's flags and a cross compiler are not for this build.
    make.env_remove("MAKEFLAGS").env_remove("ARCH").env_remove("CROSS_COMPILE");
    make.env(LOADER, qemu.loader()).env(LIBRARIES, qemu.libraries());
    make.arg("-C").arg(&kernel.headers).arg(format!("M={}", dir.display())).arg("-s");
    make.arg(format!("CC={}", compiler()));
    // What the kernel's own compiler could do and an older one can't; and type information that would need
    // pahole and changes nothing in how a test module runs.
    make.args(["CONFIG_CC_HAS_MIN_FUNCTION_ALIGNMENT=", "CONFIG_DEBUG_INFO_BTF_MODULES="]);
    process::run(make.arg("modules")).map(drop)
}

/// gcc 12 built the older kernels; where it is missing, the machine's gcc will do.
fn compiler() -> &'static str {
    let there = Command::new("gcc-12").arg("--version").output().is_ok_and(|output| output.status.success());
    if there { "gcc-12" } else { "gcc" }
}

fn source_files(sources: &Path, name: &str) -> Result<Vec<PathBuf>> {
    let own = sources.join(name);
    let mut files = if own.is_dir() { children(&own)? } else { vec![sources.join(format!("{name}.c"))] };
    let shared = children(sources)?.into_iter().filter(|path| path.extension().is_some_and(|e| e == "h"));
    files.extend(shared);
    files.retain(|file| file.is_file());
    files.sort();
    let main = format!("{name}.c");
    if files.iter().any(|file| file.ends_with(&main) || file.ends_with("Kbuild")) {
        Ok(files)
    } else {
        Err(Error::NoTestModule { dir: sources.into(), name: name.into() })
    }
}

fn lay_out(dir: &Path, name: &str, files: &[PathBuf]) -> Result<()> {
    for file in files {
        if let Some(name) = file.file_name() {
            fs::copy(file, dir.join(name)).at(file)?;
        }
    }
    let kbuild = dir.join("Kbuild");
    if !kbuild.exists() {
        fs::write(&kbuild, format!("obj-m := {name}.o\n")).at(&kbuild)?;
    }
    Ok(())
}

fn fingerprint(kernel: &DebianKernel, files: &[PathBuf]) -> Result<u64> {
    let mut hasher = DefaultHasher::new();
    (compiler(), &kernel.release).hash(&mut hasher);
    for file in files {
        file.file_name().hash(&mut hasher);
        fs::read(file).at(file)?.hash(&mut hasher);
    }
    Ok(hasher.finish())
}

/// Puts a script in the place of each program below `dir`.
fn wrap_tools(dir: &Path) -> Result<()> {
    for path in children(dir)? {
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            wrap_tools(&path)?;
        } else if is_program(&path)? && !path.to_string_lossy().contains(".real-") {
            wrap(&path)?;
        }
    }
    Ok(())
}

fn wrap(tool: &Path) -> Result<()> {
    // Debian's modpost and objtool pick the variant for the target; that is always this one.
    let variant = ["real-lsb-64", "real-x86"]
        .into_iter()
        .find(|variant| tool.with_added_extension(variant).exists())
        .unwrap_or("elf");
    if variant == "elf" {
        fs::rename(tool, tool.with_added_extension(variant)).at(tool)?;
    }
    let script =
        format!("#!/bin/sh\nexec \"${LOADER}\" --library-path \"${LIBRARIES}\" \"$0.{variant}\" \"$@\"\n");
    fs::write(tool, script).at(tool)?;
    fs::set_permissions(tool, fs::Permissions::from_mode(0o755)).at(tool)
}

fn is_program(path: &Path) -> Result<bool> {
    let mode = fs::metadata(path).at(path)?.permissions().mode();
    Ok(mode & 0o111 != 0 && fs::read(path).at(path)?.starts_with(b"\x7fELF"))
}

fn children(dir: &Path) -> Result<Vec<PathBuf>> {
    Ok(fs::read_dir(dir).at(dir)?.flatten().map(|entry| entry.path()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(path: &Path) {
        fs::write(path, b"\x7fELF").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn a_tool_is_wrapped_and_its_variant_taken() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["fixdep", "modpost", "modpost.real-lsb-64", "modpost.real-msb-32"] {
            program(&dir.path().join(name));
        }
        wrap_tools(dir.path()).unwrap();
        let text = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        assert!(text("fixdep").contains("\"$0.elf\" \"$@\""));
        assert!(text("modpost").contains("\"$0.real-lsb-64\""));
        assert_eq!(text("fixdep.elf"), "\x7fELF");
        assert_eq!(text("modpost.real-msb-32"), "\x7fELF");
    }

    #[test]
    fn a_module_is_a_directory_or_a_file() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("one.c"), "").unwrap();
        fs::write(dir.path().join("shared.h"), "").unwrap();
        fs::create_dir(dir.path().join("two")).unwrap();
        fs::write(dir.path().join("two/two.c"), "").unwrap();
        assert_eq!(module_names(dir.path()).unwrap(), ["one", "two"]);
        assert_eq!(source_files(dir.path(), "two").unwrap().len(), 2);
        assert!(source_files(dir.path(), "three").is_err());
    }
}
