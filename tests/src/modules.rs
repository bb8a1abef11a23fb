//! A kernel's modules: which there are, what they depend on, and their files, unpacked.
//!
//! `modules.dep` is made when a kernel package is installed, which ours never is; each module names in its
//! `.modinfo` section what it depends on, so only the modules that are asked for need to be unpacked.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use object::{Object, ObjectSection};

use crate::error::At;
use crate::{Error, Result, vmlinux};

#[derive(Debug)]
pub struct Modules {
    release: String,
    /// Where the packages put them.
    dir: PathBuf,
    /// Where they are kept unpacked.
    unpacked: PathBuf,
    /// Name → path below `dir`.
    paths: BTreeMap<String, PathBuf>,
    builtin: BTreeSet<String>,
}

/// A loadable module on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    pub name: String,
    pub file: PathBuf,
    pub depends: Vec<String>,
}

impl Modules {
    pub fn open(release: &str, dir: &Path, unpacked: &Path) -> Result<Self> {
        let list = |file: &str| {
            let path = dir.join(file);
            fs::read_to_string(&path).at(&path)
        };
        let paths = list("modules.order")?.lines().map(|line| (module_name(line), line.into())).collect();
        let builtin = list("modules.builtin")?.lines().map(module_name).collect();
        fs::create_dir_all(unpacked).at(unpacked)?;
        Ok(Self { release: release.into(), dir: dir.into(), unpacked: unpacked.into(), paths, builtin })
    }

    /// `names` and all they depend on, each after its dependencies. What is built in is left out.
    pub fn closure(&self, names: &[impl AsRef<str>]) -> Result<Vec<Module>> {
        closure(
            names,
            |name| if self.builtin.contains(name) { Ok(None) } else { self.module(name).map(Some) },
        )
    }

    fn module(&self, name: &str) -> Result<Module> {
        let no_module = || Error::NoModule { release: self.release.clone(), name: name.into() };
        let path = self.paths.get(name).ok_or_else(no_module)?;
        let file = self.unpacked.join(format!("{name}.ko"));
        if !file.exists() {
            let plain = self.dir.join(path);
            let packed = plain.with_added_extension("xz");
            let bytes = if packed.exists() {
                vmlinux::decompress(&fs::read(&packed).at(&packed)?)
                    .map_err(|reason| Error::NotAModule { path: packed.clone(), reason: reason.into() })?
            } else {
                fs::read(&plain).at(&plain)?
            };
            let mut beside = tempfile::NamedTempFile::new_in(&self.unpacked).at(&self.unpacked)?;
            std::io::Write::write_all(&mut beside, &bytes).at(beside.path())?;
            beside.persist(&file).map_err(|error| error.error).at(&file)?;
        }
        let bytes = fs::read(&file).at(&file)?;
        let depends = depends(&bytes).map_err(|reason| Error::NotAModule { path: file.clone(), reason })?;
        Ok(Module { name: name.into(), file, depends })
    }
}

/// Post-order: what comes first can be loaded first.
fn closure(
    names: &[impl AsRef<str>],
    mut find: impl FnMut(&str) -> Result<Option<Module>>,
) -> Result<Vec<Module>> {
    let mut done = Vec::new();
    let mut seen = BTreeSet::new();
    // (name, None) is to be looked at; (name, module) comes back after its dependencies.
    let mut todo: Vec<_> = names.iter().rev().map(|name| (module_name(name.as_ref()), None)).collect();
    while let Some((name, module)) = todo.pop() {
        if let Some(module) = module {
            done.push(module);
        } else if seen.insert(name.clone())
            && let Some(module) = find(&name)?
        {
            let depends = module.depends.clone();
            todo.push((name, Some(module)));
            todo.extend(depends.into_iter().rev().map(|name| (name, None)));
        }
    }
    Ok(done)
}

/// The text of `modules.dep` for `modules` that all lie in one directory.
pub fn dep_file(modules: &[Module]) -> String {
    let lines = modules.iter().map(|module| {
        // modprobe wants all dependencies, the direct ones first.
        let mut all: Vec<&str> = Vec::new();
        let mut todo: Vec<&str> = module.depends.iter().map(String::as_str).rev().collect();
        while let Some(name) = todo.pop() {
            if let Some(found) = modules.iter().find(|m| m.name == name)
                && !all.contains(&name)
            {
                all.push(name);
                todo.extend(found.depends.iter().map(String::as_str).rev());
            }
        }
        let all: String = all.iter().map(|name| format!(" {name}.ko")).collect();
        format!("{}.ko:{all}\n", module.name)
    });
    lines.collect()
}

/// `kernel/drivers/vfio/pci/vfio-pci.ko` → `vfio_pci`: the kernel's own name has underscores.
fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.strip_suffix(".ko").unwrap_or(file).replace('-', "_")
}

fn depends(module: &[u8]) -> Result<Vec<String>, String> {
    let elf = object::File::parse(module).map_err(|error| error.to_string())?;
    let section = elf.section_by_name(".modinfo").ok_or("no .modinfo section")?;
    let data = section.data().map_err(|error| error.to_string())?;
    Ok(data
        .split(|&byte| byte == 0)
        .filter_map(|entry| std::str::from_utf8(entry).ok()?.strip_prefix("depends="))
        .flat_map(|names| names.split(','))
        .filter(|name| !name.is_empty())
        .map(module_name)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// nvme → nvme_core → { nvme_auth, t10_pi }; t10_pi → crc; nvme_auth → crc; `pci` is built in.
    fn find(name: &str) -> Result<Option<Module>> {
        let depends: &[&str] = match name {
            "pci" => return Ok(None),
            "nvme" => &["nvme_core", "pci"],
            "nvme_core" => &["nvme_auth", "t10_pi"],
            "nvme_auth" | "t10_pi" => &["crc"],
            "crc" => &[],
            _ => return Err(Error::NoModule { release: "6.1".into(), name: name.into() }),
        };
        let depends = depends.iter().map(|&name| name.to_owned()).collect();
        Ok(Some(Module { name: name.into(), file: format!("/{name}.ko").into(), depends }))
    }

    #[test]
    fn a_module_comes_after_what_it_depends_on_and_once() {
        let names: Vec<_> =
            closure(&["nvme", "crc", "nvme"], find).unwrap().into_iter().map(|module| module.name).collect();
        assert_eq!(names, ["crc", "nvme_auth", "t10_pi", "nvme_core", "nvme"]);
    }

    #[test]
    fn an_unknown_module_is_named() {
        let error = closure(&["nvme", "nosuch"], find).unwrap_err();
        assert!(error.to_string().contains("nosuch"));
    }

    #[test]
    fn the_dep_file_lists_indirect_dependencies() {
        let text = dep_file(&closure(&["nvme"], find).unwrap());
        assert!(text.contains("nvme.ko: nvme_core.ko nvme_auth.ko crc.ko t10_pi.ko\n"), "{text}");
        assert!(text.contains("crc.ko:\n"));
    }

    #[test]
    fn a_dash_in_a_file_name_is_an_underscore_in_the_kernel() {
        assert_eq!(module_name("kernel/drivers/vfio/pci/vfio-pci.ko"), "vfio_pci");
    }
}
