//! The machine that QEMU emulates: its processor, its IOMMU, its devices.

use std::ffi::OsString;
use std::fmt;
use std::path::Path;
use std::process::Command;
use std::str::FromStr;

/// The port of `isa-debug-exit`: a byte written to it ends QEMU.
pub const EXIT_PORT: u16 = 0x501;

/// The IOMMU of the machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Iommu {
    /// VT-d in scalable mode: PASIDs, first-stage tables, ATS, PRI.
    #[default]
    IntelSm,
    /// VT-d in legacy mode: RIDs only.
    IntelLegacy,
    /// AMD-Vi: RIDs only.
    Amd,
    None,
}

impl Iommu {
    pub const ALL: [Self; 4] = [Self::IntelSm, Self::IntelLegacy, Self::Amd, Self::None];

    pub fn name(self) -> &'static str {
        match self {
            Self::IntelSm => "intel-sm",
            Self::IntelLegacy => "intel-legacy",
            Self::Amd => "amd",
            Self::None => "none",
        }
    }

    fn device(self) -> Option<&'static str> {
        match self {
            Self::IntelSm => {
                Some("intel-iommu,scalable-mode=on,fsts=on,pasid-bits=20,svm=on,device-iotlb=on,intremap=on")
            }
            Self::IntelLegacy => Some("intel-iommu,device-iotlb=on,intremap=on"),
            Self::Amd => Some("amd-iommu,device-iotlb=on,intremap=on"),
            Self::None => None,
        }
    }

    /// What the kernel must be told to use it.
    pub fn kernel_arguments(self) -> &'static str {
        match self {
            Self::IntelSm => "intel_iommu=on,sm_on",
            Self::IntelLegacy => "intel_iommu=on,sm_off",
            Self::Amd | Self::None => "",
        }
    }
}

impl fmt::Display for Iommu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Iommu {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|iommu| iommu.name() == text)
            .ok_or_else(|| format!("no such IOMMU; there are {}", Self::ALL.map(Self::name).join(", ")))
    }
}

/// What is set for one boot.
#[derive(Debug)]
pub struct Machine<'a> {
    pub kernel: &'a Path,
    pub initramfs: &'a Path,
    pub arguments: &'a str,
    pub iommu: Iommu,
    /// Virtual time counts instructions, on one processor: repeatable costs.
    pub icount: bool,
    /// Where the kernel's console goes.
    pub console: &'a Path,
    /// Further arguments for QEMU.
    pub extra: &'a [String],
}

impl Machine<'_> {
    /// Fills a QEMU command line. The guest's second serial port becomes QEMU's standard output.
    pub fn fill(&self, qemu: &mut Command) {
        let fixed = "-machine q35,kernel-irqchip=split -cpu max -m 1024 \
                     -nodefaults -no-user-config -display none -monitor none -no-reboot";
        qemu.args(fixed.split_whitespace());
        let speed = if self.icount {
            "-accel tcg,thread=single,tb-size=512 -icount shift=0,sleep=off -smp 1"
        } else {
            "-accel tcg,thread=multi,tb-size=512 -smp 2"
        };
        qemu.args(speed.split_whitespace());
        qemu.arg("-kernel").arg(self.kernel).arg("-initrd").arg(self.initramfs);
        qemu.arg("-append").arg(self.arguments);

        qemu.arg("-chardev").arg(console_option(self.console));
        qemu.args(["-device", "isa-serial,chardev=console"]);
        qemu.args(["-chardev", "stdio,id=output,signal=off", "-device", "isa-serial,chardev=output"]);
        qemu.arg("-device").arg(format!("isa-debug-exit,iobase={EXIT_PORT:#x},iosize=1"));

        // An IOMMU must come before the devices that it translates for.
        let devices = self.iommu.device().into_iter().chain([
            "pcie-root-port,id=rp1,bus=pcie.0,chassis=1,slot=1",
            "pcie-root-port,id=rp2,bus=pcie.0,chassis=2,slot=2",
            "nvme,serial=one,bus=rp1",
            "nvme,serial=two,bus=rp2",
            "e1000e,bus=pcie.0",
        ]);
        for device in devices {
            qemu.args(["-device", device]);
        }
        qemu.args(self.extra);
    }
}

/// QEMU takes a comma within a value doubled.
fn console_option(path: &Path) -> OsString {
    format!("file,id=console,path={}", path.display().to_string().replace(',', ",,")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(iommu: Iommu) -> Vec<String> {
        let machine = Machine {
            kernel: Path::new("/k"),
            initramfs: Path::new("/i"),
            arguments: "quiet",
            iommu,
            icount: false,
            console: Path::new("/a,b"),
            extra: &[],
        };
        let mut command = Command::new("qemu");
        machine.fill(&mut command);
        command.get_args().map(|arg| arg.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn the_iommu_comes_before_the_devices_behind_it() {
        let arguments = arguments(Iommu::IntelSm);
        let position = |start: &str| arguments.iter().position(|arg| arg.starts_with(start)).unwrap();
        assert!(position("intel-iommu") < position("pcie-root-port"));
    }

    #[test]
    fn a_machine_without_iommu_has_none() {
        assert!(!arguments(Iommu::None).iter().any(|arg| arg.contains("iommu")));
    }

    #[test]
    fn a_comma_in_a_path_is_doubled() {
        assert!(arguments(Iommu::None).contains(&"file,id=console,path=/a,,b".to_owned()));
    }
}
