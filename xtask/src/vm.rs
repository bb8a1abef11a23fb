//! `cargo xtask vm`: boots a kernel, runs a script in it, gives back its output and its exit code.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Result, bail};
use testbed::{Iommu, Kernel, Script, Series, Vm, guest};

use crate::paths;

#[derive(clap::Args)]
pub struct Arguments {
    /// The series: 6.1, 6.12 or 7
    #[arg(long, default_value = "6.12")]
    kernel: Series,
    /// Boot this kernel instead: an ELF or a boot image with a PVH entry
    #[arg(long, value_name = "VMLINUX")]
    image: Option<PathBuf>,
    /// The emulated IOMMU: intel-sm, intel-legacy, amd or none
    #[arg(long, default_value = "intel-sm")]
    iommu: Iommu,
    /// A file or directory to put into the guest; without a guest path into /root
    #[arg(long, value_name = "HOSTFILE[:GUESTPATH]")]
    add: Vec<String>,
    /// A module of the kernel to load
    #[arg(long, value_name = "NAME")]
    module: Vec<String>,
    /// A test module to build and put at /testmod/NAME.ko; `all` for every one
    #[arg(long, value_name = "NAME")]
    testmod: Vec<String>,
    /// A further device for QEMU, as its -device takes it
    #[arg(long, value_name = "DEVICE")]
    device: Vec<String>,
    /// Boot Debian's systemd, which starts the script as a service; files for it go below /debian
    #[arg(long)]
    debian: bool,
    /// Let virtual time count instructions, on one processor
    #[arg(long)]
    icount: bool,
    /// More for the kernel's command line
    #[arg(long, value_name = "CMDLINE")]
    append: Option<String>,
    /// Seconds until the guest is given up
    #[arg(long, value_name = "SECS", default_value_t = 120)]
    timeout: u64,
    /// The iommu-watch to put into the guest; else the newest release build there is
    #[arg(long, value_name = "FILE")]
    iommu_watch: Option<PathBuf>,
    /// The script to run
    #[arg(long, value_name = "FILE", conflicts_with = "command")]
    script: Option<PathBuf>,
    /// The command to run: one word is taken as a line of shell, several as they are
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
}

pub fn run(arguments: Arguments) -> Result<ExitCode> {
    let outcome = guest(&arguments)?.echo(true).run()?;
    eprintln!(
        "vm: {} ended with {} after {:.1} s; console: {}",
        outcome.release.as_deref().unwrap_or("the image"),
        outcome.exit,
        outcome.duration.as_secs_f64(),
        outcome.console.display()
    );
    Ok(ExitCode::from(u8::try_from(outcome.exit).unwrap_or(1)))
}

fn guest(arguments: &Arguments) -> Result<Vm> {
    let script = match (&arguments.script, arguments.command.as_slice()) {
        (Some(file), _) => Script::File(file.clone()),
        (None, []) => bail!("nothing to run: give --script FILE or -- CMD…"),
        (None, [line]) => Script::Text(line.clone()),
        (None, words) => Script::Text(words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ")),
    };
    let kernel = match &arguments.image {
        Some(image) => Kernel::Image(image.clone()),
        None => arguments.kernel.into(),
    };
    let console = match &kernel {
        Kernel::Debian(series) => format!("console-{series}.log"),
        Kernel::Image(_) => "console-image.log".into(),
    };
    let mut vm = Vm::new(kernel)
        .iommu(arguments.iommu)
        .icount(arguments.icount)
        .debian(arguments.debian)
        .timeout(Duration::from_secs(arguments.timeout))
        .console(paths::artefacts().join(console))
        .script(script);
    vm = match arguments.iommu_watch.clone().or_else(built_iommu_watch) {
        Some(binary) => vm.add(binary, "/bin/iommu-watch"),
        None => {
            eprintln!("vm: no iommu-watch in the guest: there is no release build (and no --iommu-watch)");
            vm
        }
    };
    for (host, inside) in arguments.add.iter().map(|text| guest::addition(text)) {
        vm = vm.add(host, inside);
    }
    for name in &arguments.module {
        vm = vm.module(name);
    }
    for name in &arguments.testmod {
        if name == "all" {
            for name in testbed::kbuild::module_names(&testbed::vm::test_modules())? {
                vm = vm.test_module(name);
            }
        } else {
            vm = vm.test_module(name);
        }
    }
    for device in &arguments.device {
        vm = vm.device(device);
    }
    if let Some(append) = &arguments.append {
        vm = vm.append(append);
    }
    Ok(vm)
}

/// The newest static or other release build of iommu-watch.
pub fn built_iommu_watch() -> Option<PathBuf> {
    let modified = |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).ok();
    [paths::target_dir(), paths::workspace().join("target")]
        .into_iter()
        .flat_map(|target| {
            ["x86_64-unknown-linux-gnu/release", "release"].map(|dir| target.join(dir).join("iommu-watch"))
        })
        .filter(|path| path.is_file())
        .max_by_key(|path| modified(path).unwrap_or(SystemTime::UNIX_EPOCH))
}

/// `word`, so that a shell takes it as it is.
fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_word_survives_a_shell() {
        let word = "it's $HOME; \"x\"";
        let output =
            std::process::Command::new("sh").arg("-c").arg(format!("printf %s {}", quote(word))).output();
        assert_eq!(String::from_utf8(output.unwrap().stdout).unwrap(), word);
    }
}
