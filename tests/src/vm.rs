//! Boots a guest, runs a script in it, gives back what it said.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::boot::{self, End, Limits};
use crate::busybox::Busybox;
use crate::cache::Cache;
use crate::error::At;
use crate::guest::Guest;
use crate::kernel::{DebianKernel, Series};
use crate::machine::{Iommu, Machine};
use crate::qemu::Qemu;
use crate::{Error, Result, debian, kbuild, program};

/// What every guest of a Debian kernel can `modprobe` without asking.
const MODULES: [&str; 4] = ["nvme", "e1000e", "vfio-pci", "vfio-iommu-type1"];

/// By this the guest finds the network card that leads to the host.
pub const CARD: &str = "52:54:00:00:00:01";

/// A guest whose init was not reached is booted again: TCG loses a timer tick now and then.
const ATTEMPTS: u32 = 3;
const BOOT_LIMIT: Duration = Duration::from_secs(90);

/// The kernel that a guest boots.
#[derive(Debug, Clone)]
pub enum Kernel {
    /// Debian's newest of a series.
    Debian(Series),
    /// Any kernel with a PVH entry, as an ELF or a boot image.
    Image(PathBuf),
}

impl From<Series> for Kernel {
    fn from(series: Series) -> Self {
        Self::Debian(series)
    }
}

/// What runs in the guest, by busybox's shell, in `/root`.
#[derive(Debug, Clone)]
pub enum Script {
    Text(String),
    File(PathBuf),
}

/// A guest to be booted.
#[derive(Debug, Clone)]
pub struct Vm {
    kernel: Kernel,
    iommu: Iommu,
    files: Vec<(PathBuf, String)>,
    modules: Vec<String>,
    test_modules: Vec<String>,
    script: Script,
    append: Vec<String>,
    devices: Vec<String>,
    forward: Option<(u16, u16)>,
    icount: bool,
    timeout: Duration,
    console: Option<PathBuf>,
    echo: bool,
    debian: bool,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// The script's exit code.
    pub exit: i32,
    /// What the script wrote, to either of its outputs.
    pub output: String,
    /// The kernel's console, with its whole log at the end.
    pub console: PathBuf,
    /// From the start of QEMU to its end.
    pub duration: Duration,
    /// The release that was booted; none for an image of one's own.
    pub release: Option<String>,
}

/// The kernel's console: written beside the other files of the run, kept where it was asked for, so that
/// two guests of one kernel don't write to one file.
struct Console {
    running: PathBuf,
    kept: PathBuf,
}

impl Vm {
    pub fn new(kernel: impl Into<Kernel>) -> Self {
        Self {
            kernel: kernel.into(),
            iommu: Iommu::default(),
            files: Vec::new(),
            modules: Vec::new(),
            test_modules: Vec::new(),
            script: Script::Text(String::new()),
            append: Vec::new(),
            devices: Vec::new(),
            forward: None,
            icount: false,
            timeout: Duration::from_secs(120),
            console: None,
            echo: false,
            debian: false,
        }
    }

    pub fn iommu(mut self, iommu: Iommu) -> Self {
        self.iommu = iommu;
        self
    }

    /// A file or directory of the host, and where it goes in the guest.
    pub fn add(mut self, host: impl Into<PathBuf>, guest: impl Into<String>) -> Self {
        self.files.push((host.into(), guest.into()));
        self
    }

    /// A module of the kernel, loaded before the script runs.
    pub fn module(mut self, name: impl Into<String>) -> Self {
        self.modules.push(name.into());
        self
    }

    /// A test module, built and put at `/testmod/NAME.ko`; the script loads it.
    pub fn test_module(mut self, name: impl Into<String>) -> Self {
        self.test_modules.push(name.into());
        self
    }

    pub fn script(mut self, script: Script) -> Self {
        self.script = script;
        self
    }

    /// Words for the kernel's command line.
    pub fn append(mut self, arguments: impl Into<String>) -> Self {
        self.append.push(arguments.into());
        self
    }

    /// A further `-device` for QEMU.
    pub fn device(mut self, device: impl Into<String>) -> Self {
        self.devices.push(device.into());
        self
    }

    /// A network card of address [`CARD`], behind which the host's loopback is 10.0.2.2; port `host` there leads to
    /// `guest`.
    pub fn forward(mut self, host: u16, guest: u16) -> Self {
        self.forward = Some((host, guest));
        self
    }

    /// Debian's systemd is PID 1, and starts the script as a service; busybox is in `/busybox`.
    pub fn debian(mut self, debian: bool) -> Self {
        self.debian = debian;
        self
    }

    /// Virtual time counts instructions, on one processor.
    pub fn icount(mut self, icount: bool) -> Self {
        self.icount = icount;
        self
    }

    /// How long the script may take, from the start of the machine.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Where the kernel's console goes; else below the system's temporary directory.
    pub fn console(mut self, path: impl Into<PathBuf>) -> Self {
        self.console = Some(path.into());
        self
    }

    /// Shows the script's output on our standard output while it runs.
    pub fn echo(mut self, echo: bool) -> Self {
        self.echo = echo;
        self
    }

    /// Fetches what is missing, boots, and waits for the script's end.
    pub fn run(&self) -> Result<Outcome> {
        let cache = Cache::open()?;
        let qemu = Qemu::fetch(&cache)?;
        let work = tempfile::tempdir().at("the temporary directory")?;
        let (kernel, initramfs, release) = self.prepare(&cache, &qemu, work.path())?;
        let console = Console { running: work.path().join("console"), kept: self.console_path()? };
        let arguments = self.arguments();
        let mut extra: Vec<String> =
            self.devices.iter().flat_map(|device| ["-device".into(), device.clone()]).collect();
        if let Some((host, guest)) = self.forward {
            extra.extend([
                "-netdev".into(),
                format!("user,id=net,hostfwd=tcp:127.0.0.1:{host}-:{guest}"),
                "-device".into(),
                format!("e1000e,netdev=net,mac={CARD},bus=pcie.0"),
            ]);
        }
        let machine = Machine {
            kernel: &kernel,
            initramfs: &initramfs,
            arguments: &arguments,
            iommu: self.iommu,
            icount: self.icount,
            console: &console.running,
            extra: &extra,
        };
        let limits = Limits { boot: BOOT_LIMIT.min(self.timeout), script: self.timeout };
        for _ in 0..ATTEMPTS {
            let mut command = qemu.command();
            machine.fill(&mut command);
            let run = boot::run(&mut command, &limits, self.echo)?;
            console.keep()?;
            let tail = || console.tail();
            let path = || console.kept.clone();
            return match run.end {
                End::Exit(exit) => {
                    Ok(Outcome { exit, output: run.output, console: path(), duration: run.duration, release })
                }
                End::Died => Err(Error::Died { console: path(), tail: tail(), output: run.output }),
                End::Timeout => {
                    Err(Error::Timeout { limit: self.timeout, console: path(), output: run.output })
                }
                End::NoBoot(complaint) if complaint.is_empty() => continue,
                End::NoBoot(complaint) => {
                    Err(Error::NoBoot { attempts: 1, console: path(), tail: complaint })
                }
            };
        }
        Err(Error::NoBoot { attempts: ATTEMPTS, tail: console.tail(), console: console.kept })
    }

    /// The kernel's ELF, the initramfs, and the release.
    fn prepare(&self, cache: &Cache, qemu: &Qemu, work: &Path) -> Result<(PathBuf, PathBuf, Option<String>)> {
        let script = match &self.script {
            Script::Text(text) => text.clone(),
            Script::File(path) => fs::read_to_string(path).at(path)?,
        };
        let mut guest =
            Guest { load: &self.modules, script: &script, files: self.files.clone(), ..Guest::default() };
        let scripts = guest_scripts();
        for source in program::sources(&scripts)? {
            let name = source.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            guest.files.push((program::build(cache, &source)?, format!("/guest/{name}")));
        }
        if scripts.is_dir() {
            guest.files.push((scripts.clone(), "/guest".into()));
        }
        if self.debian {
            guest.debian = Some(debian::fetch(cache)?);
            guest.files.push((scripts.join("debian"), "/debian".into()));
        }
        let busybox = Busybox::fetch(cache)?;
        let (vmlinux, release, packed) = match &self.kernel {
            Kernel::Debian(series) => {
                let kernel = DebianKernel::fetch(cache, *series)?;
                for name in &self.test_modules {
                    let built = kbuild::build_module(cache, qemu, &kernel, &test_modules(), name)?;
                    guest.files.push((built, format!("/testmod/{name}.ko")));
                }
                let names: Vec<&str> =
                    MODULES.into_iter().chain(self.modules.iter().map(String::as_str)).collect();
                let modules = kernel.modules.closure(&names)?;
                guest.release = &kernel.release;
                guest.modules = &modules;
                let packed = guest.pack(&busybox)?;
                (kernel.vmlinux, Some(kernel.release), packed)
            }
            Kernel::Image(image) => {
                if let Some(name) = self.test_modules.first().or(self.modules.first()) {
                    return Err(Error::ModuleForImage { name: name.clone() });
                }
                guest.release = "image";
                let elf = crate::vmlinux::extract(fs::read(image).at(image)?)
                    .map_err(|reason| Error::NotAKernel { path: image.clone(), reason })?;
                let vmlinux = work.join("vmlinux");
                fs::write(&vmlinux, elf).at(&vmlinux)?;
                (vmlinux, None, guest.pack(&busybox)?)
            }
        };
        let initramfs = work.join("initramfs");
        fs::write(&initramfs, packed).at(&initramfs)?;
        Ok((vmlinux, initramfs, release))
    }

    fn arguments(&self) -> String {
        // The self-tests of the crypto API cost half a second and tell nothing here.
        // Without `no_timer_check` about one boot in 24 panics with interrupt remapping on.
        let fixed = "console=ttyS0 panic=-1 quiet no_timer_check cryptomgr.notests rdinit=/init";
        let debian = if self.debian { debian::ARGUMENTS } else { "" };
        let words = [fixed, self.iommu.kernel_arguments(), debian];
        words.into_iter().chain(self.append.iter().map(String::as_str)).collect::<Vec<_>>().join(" ")
    }

    fn console_path(&self) -> Result<PathBuf> {
        static COUNT: AtomicU32 = AtomicU32::new(0);

        let path = self.console.clone().unwrap_or_else(|| {
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            std::env::temp_dir().join(format!("iommu-watch-console-{}-{number}.log", std::process::id()))
        });
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).at(parent)?;
        }
        Ok(path)
    }
}

/// The C sources of the test modules.
pub fn test_modules() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("modules")
}

/// The scripts and programs that every guest has in `/guest`.
pub fn guest_scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("guest")
}

impl Console {
    fn keep(&self) -> Result<()> {
        // QEMU may have ended before it opened it.
        if !self.running.exists() {
            return Ok(());
        }
        fs::copy(&self.running, &self.kept).map(drop).at(&self.kept)
    }

    /// Its last lines.
    fn tail(&self) -> String {
        let bytes = fs::read(&self.running).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }
}
