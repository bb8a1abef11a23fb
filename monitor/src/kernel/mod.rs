//! All that touches the running kernel. It knows no check.

pub mod attach;
pub mod bpf;
pub mod btf;
pub mod calls;
pub mod catalogue;
pub mod clock;
pub mod defects;
pub mod diagnostics;
pub mod feed;
pub mod heap;
pub mod host;
pub mod journal;
pub mod kallsyms;
pub mod kcore;
pub mod layout;
pub mod losses;
pub mod missed;
pub mod names;
pub mod pins;
pub mod probes;
pub mod ring;
pub mod snapshot;
pub mod stacks;
pub mod sysfs;
pub mod trial;
pub mod twins;
