//! What this host lets us do: privileges, lockdown, BTF; and who it is.

use std::{fs, io, os::unix::fs::MetadataExt, path::Path};

use monitor_ebpf::wire::Process;
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_no_new_privs};
use sha2::{Digest, Sha256};

const CAP_SYS_ADMIN: u64 = 1 << 21;
const CAP_PERFMON: u64 = 1 << 38;
const CAP_BPF: u64 = 1 << 39;

/// Why nothing can be attached on this host, and what to do.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    #[error(
        "this needs the capabilities CAP_BPF and CAP_PERFMON; run it as root, or grant them to its systemd unit (AmbientCapabilities=)"
    )]
    Capabilities,
    #[error(
        "kernel lockdown is `confidentiality`: iommu-watch can't read this kernel; boot with lockdown=integrity or none"
    )]
    Lockdown,
    #[error(
        "kernel.ftrace_enabled is 0: this kernel calls nothing that is attached to its functions; set it to 1 (sysctl)"
    )]
    Functions,
}

/// Kernel lockdown (security/lockdown).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lockdown {
    None,
    Integrity,
    Confidentiality,
    /// securityfs isn't mounted, or the kernel has no lockdown.
    Unknown,
}

impl Lockdown {
    pub fn name(self) -> &'static str {
        match self {
            Lockdown::None => "none",
            Lockdown::Integrity => "integrity",
            Lockdown::Confidentiality => "confidentiality",
            Lockdown::Unknown => "unknown",
        }
    }
}

pub fn lockdown() -> Lockdown {
    parse_lockdown(&fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default())
}

/// The active mode stands in brackets: `none [integrity] confidentiality`.
fn parse_lockdown(text: &str) -> Lockdown {
    match text.split_whitespace().find(|word| word.starts_with('[')) {
        Some("[none]") => Lockdown::None,
        Some("[integrity]") => Lockdown::Integrity,
        Some("[confidentiality]") => Lockdown::Confidentiality,
        _ => Lockdown::Unknown,
    }
}

/// Whether this process has the capabilities to load tracing programs.
pub fn capable() -> bool {
    effective_capabilities(&fs::read_to_string("/proc/self/status").unwrap_or_default()).is_some_and(|caps| {
        caps & CAP_SYS_ADMIN != 0 || caps & (CAP_BPF | CAP_PERFMON) == CAP_BPF | CAP_PERFMON
    })
}

fn effective_capabilities(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// What stands in the way of attaching, before it is tried.
pub fn may_attach() -> Result<(), Denied> {
    if !capable() {
        return Err(Denied::Capabilities);
    }
    if lockdown() == Lockdown::Confidentiality {
        return Err(Denied::Lockdown);
    }
    if functions_call_nothing() {
        return Err(Denied::Functions);
    }
    Ok(())
}

/// The administrator has switched ftrace off, by which functions call what is attached to them. Where that can't be read,
/// nobody has.
pub fn functions_call_nothing() -> bool {
    is_zero("/proc/sys/kernel/ftrace_enabled")
}

/// The administrator has switched the compiler of programs off: the kernel takes none then that can't be interpreted, as
/// those with callbacks (`check_helper_call`, kernel/bpf/verifier.c).
pub fn compiles_no_programs() -> bool {
    is_zero("/proc/sys/net/core/bpf_jit_enable")
}

fn is_zero(sysctl: &str) -> bool {
    fs::read_to_string(sysctl).is_ok_and(|text| text.trim() == "0")
}

/// The PID namespace of whoever looks.
pub const PID_NAMESPACE: &str = "/proc/self/ns/pid";

/// This process, so that a program can tell it from others.
pub fn own_process() -> io::Result<Process> {
    let namespace = fs::metadata(PID_NAMESPACE)?;
    Ok(Process {
        namespace_device: namespace.dev(),
        namespace_inode: namespace.ino(),
        tgid: u64::from(std::process::id()),
    })
}

/// Gives up what is needed only to attach. Kept is CAP_SYSLOG, without which the kernel hides the symbols
/// of the stacks. To be called before other threads are started: capabilities are a thread's own.
pub fn drop_privileges() -> io::Result<()> {
    let kept = capabilities(None)?.permitted & CapabilitySet::SYSLOG;
    set_no_new_privs(true)?;
    set_capabilities(
        None,
        CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() },
    )?;
    Ok(())
}

/// Who this host is, for every line of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub host: String,
    /// The kernel's release, as `uname -r`; for reports only, never to decide anything.
    pub kernel: String,
    pub boot_id: String,
}

pub fn identity() -> Identity {
    let read = |path: &str| {
        fs::read_to_string(Path::new("/proc/sys/kernel").join(path)).unwrap_or_default().trim().to_owned()
    };
    Identity { host: read("hostname"), kernel: read("osrelease"), boot_id: read("random/boot_id") }
}

/// SHA-256 of what the kernel says of its types, in hexadecimal, as `sha256sum /sys/kernel/btf/vmlinux`
/// prints it: two kernels with the same one have the same types.
pub fn types_sha256() -> io::Result<String> {
    let digest = Sha256::digest(fs::read(super::btf::VMLINUX)?);
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lockdown_is_the_word_in_brackets() {
        assert_eq!(parse_lockdown("none [integrity] confidentiality\n"), Lockdown::Integrity);
        assert_eq!(parse_lockdown("none integrity [confidentiality]"), Lockdown::Confidentiality);
        assert_eq!(parse_lockdown("[none] integrity confidentiality"), Lockdown::None);
        assert_eq!(parse_lockdown(""), Lockdown::Unknown);
    }

    #[test]
    fn capabilities_are_read_as_hexadecimal() {
        assert_eq!(effective_capabilities("Name:\tx\nCapEff:\t000001ffffffffff\n"), Some(0x1ff_ffff_ffff));
        assert_eq!(effective_capabilities("Name:\tx\n"), None);
    }
}
