//! The records: what one run of a program says.
//!
//! Five shapes share one beginning: [`Operation`]; [`Inventory`], which is an operation followed by the group's
//! `pasid_array` as it was read at that moment; [`super::Flushing`], followed by what was flushed;
//! [`super::Ranging`], followed by how far; and [`super::Snapshot`], as long as what was read, which the hooks that read
//! for the reading's sake make and no others. Pointers are in them as identities of
//! kernel objects; userspace compares them and never prints them.

#[cfg(not(target_arch = "bpf"))]
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Length of a device's name with its terminating NUL; longer names are cut.
pub const NAME_LEN: usize = 32;

/// How many entries of a group's `pasid_array` fit into one [`Inventory`].
pub const ARRAY_CAPACITY: usize = 32;

/// Which members of an [`Operation`] were read; the others are zero and mean nothing.
pub mod known {
    /// `group` as a whole.
    pub const GROUP: u32 = 1 << 0;
    /// `group.owner` and `group.owner_cnt` (from 5.19).
    pub const OWNER: u32 = 1 << 1;
    /// `device`.
    pub const DEVICE: u32 = 1 << 2;
    /// `device.table`.
    pub const TABLE: u32 = 1 << 3;
    /// `domain`.
    pub const DOMAIN: u32 = 1 << 4;
    /// `old`.
    pub const OLD: u32 = 1 << 5;
    /// `pasid`.
    pub const PASID: u32 = 1 << 6;
    /// `owner`.
    pub const CLAIMANT: u32 = 1 << 7;
    /// `handle`.
    pub const HANDLE: u32 = 1 << 8;
    /// `mm`.
    pub const MM: u32 = 1 << 9;
    /// `device.max_pasids` (from 6.2).
    pub const MAX_PASIDS: u32 = 1 << 10;
    /// `group.recovery_cnt` (from 7.0).
    pub const RECOVERY: u32 = 1 << 11;
    /// `array` of an [`super::Inventory`].
    pub const ARRAY: u32 = 1 << 12;
    /// `slot`.
    pub const SLOT: u32 = 1 << 13;
    /// `state` of a [`super::Snapshot`].
    pub const STATE: u32 = 1 << 14;
    /// The entries of the hardware table of a [`super::Snapshot`].
    pub const ENTRIES: u32 = 1 << 15;
    /// `members` of a [`super::Snapshot`].
    pub const MEMBERS: u32 = 1 << 16;
    /// `flush` of a [`super::Flushing`].
    pub const FLUSH: u32 = 1 << 17;
    /// `tags`.
    pub const TAGS: u32 = 1 << 18;
    /// `device.took_us`.
    pub const TOOK: u32 = 1 << 19;
    /// `range` of a [`super::Ranging`].
    pub const RANGE: u32 = 1 << 20;
    /// The page requests of the device of a [`super::Snapshot`] that wait for their response: `pasid` is that of one whose
    /// PASID is not attached, or 0.
    pub const REQUESTS: u32 = 1 << 21;
    /// A read from kernel memory failed: what depends on it is missing, and that is not the kernel's saying.
    pub const FAULT: u32 = 1 << 31;
}

/// When in a call the record was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Phase {
    /// A tracepoint, or a call of which only the entry is seen.
    Point = 0,
    /// On entry of the function, before it takes any lock.
    Begin = 1,
    /// On return, after it dropped its locks.
    End = 2,
}

impl Phase {
    pub const fn from_number(number: u8) -> Option<Phase> {
        match number {
            0 => Some(Phase::Point),
            1 => Some(Phase::Begin),
            2 => Some(Phase::End),
            _ => None,
        }
    }
}

/// The task that made the call; in interrupt context the one that was interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "bpf"), derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[repr(C)]
pub struct Task {
    pub tid: u32,
    pub tgid: u32,
    /// NUL-terminated.
    pub comm: [u8; 16],
}

/// What each record begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "bpf"), derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[repr(C)]
pub struct Header {
    /// CLOCK_MONOTONIC, ns, when the record was reserved; of a snapshot, when its making began.
    pub time_ns: u64,
    /// Counts every record that this CPU tried to make: a gap is a loss.
    pub sequence: u64,
    pub task: Task,
    pub cpu: u32,
    /// Id in the stack map; negative: none was taken, or the errno of taking it.
    pub stack: i32,
    /// A [`super::Hook`] by number.
    pub hook: u16,
    /// A [`Phase`] by number.
    pub phase: u8,
    /// Which of the sets of programs made it that share a ring; userspace alone looks at it, when it takes it out.
    pub set: u8,
    /// Bits of [`known`].
    pub known: u32,
}

/// A `struct iommu_domain`; `key` 0 is no domain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "bpf"), derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[repr(C)]
pub struct Domain {
    pub key: u64,
    /// `iommu_domain::type` as the kernel has it (include/linux/iommu.h).
    pub kind: u32,
    /// 1 if `kind` was read, else 0.
    pub kind_known: u32,
}

/// A `struct iommu_group`, as read at the time of the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "bpf"), derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[repr(C)]
pub struct Group {
    pub key: u64,
    pub owner: u64,
    pub domain: Domain,
    pub default_domain: Domain,
    pub blocking_domain: Domain,
    pub id: u32,
    pub owner_cnt: u32,
    pub recovery_cnt: u32,
    pub reserved: u32,
}

/// A `struct device`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "bpf"), derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[repr(C)]
pub struct Device {
    pub key: u64,
    /// Identity of the root of its hardware PASID table; 0: it has none.
    pub table: u64,
    /// `kobj.name`, NUL-terminated: for a PCI device `segment:bus:device.function`.
    pub name: [u8; NAME_LEN],
    pub max_pasids: u32,
    /// How long a submission to the command queue took, µs: one in a window of this device's, or in none of any.
    pub took_us: u32,
}

/// One run of a program on a call: who, what about, and the group's state at that moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "bpf"), derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[repr(C)]
pub struct Operation {
    pub header: Header,
    pub group: Group,
    pub device: Device,
    /// The domain that the call names.
    pub domain: Domain,
    /// The domain that the call says is to be replaced.
    pub old: Domain,
    /// The owner cookie of a claim.
    pub owner: u64,
    /// The `struct iommu_sva` of a bond.
    pub handle: u64,
    pub mm: u64,
    /// What the function returned (`Phase::End`), as it stood in the register: of an `int` only the low half counts.
    pub ret: i64,
    /// The entry of `pasid_array` at `pasid`, of a call on a PASID; [`Encoding::Empty`]: there is none.
    pub slot: ArrayEntry,
    pub pasid: u32,
    /// Of the device's cache tags on the PASID in VT-d's `struct dmar_domain`: bits of [`tags`].
    pub tags: u32,
}

/// What was read of a device's cache tags in a domain.
pub mod tags {
    /// The domain's list was walked from its head to its head.
    pub const READ: u32 = 1 << 0;
    /// `device_domain_info.ats_enabled` was read.
    pub const ATS_READ: u32 = 1 << 1;
    /// It is set.
    pub const ATS: u32 = 1 << 2;
    /// From this bit on: how often the device's own device-TLB tag was assigned, at most [`MAX_USERS`]; 0: there is none.
    pub const USERS_SHIFT: u32 = 16;
    pub const MAX_USERS: u32 = 0xffff;
    /// Every bit that means something.
    pub const ALL: u32 = READ | ATS_READ | ATS | MAX_USERS << USERS_SHIFT;
}

/// How an entry of `pasid_array` names its domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Encoding {
    /// The entry points to the domain.
    Domain = 0,
    /// The entry points to an attach handle, and that to the domain.
    Handle = 1,
    /// `XA_ZERO_ENTRY`: an attach in progress, or one without a handle (6.11 to 6.14). It names no domain.
    Reserved = 2,
    /// An entry whose tag this version does not know. It names no domain.
    Other = 3,
    /// Nothing is there.
    Empty = 4,
}

impl Encoding {
    pub const fn from_number(number: u16) -> Encoding {
        match number {
            0 => Encoding::Domain,
            1 => Encoding::Handle,
            2 => Encoding::Reserved,
            4 => Encoding::Empty,
            _ => Encoding::Other,
        }
    }
}

/// One entry of `pasid_array`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "bpf"), derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[repr(C)]
pub struct ArrayEntry {
    pub domain: Domain,
    pub pasid: u32,
    /// An [`Encoding`] by number.
    pub encoding: u16,
    /// Bits of [`entry`].
    pub flags: u16,
}

/// What else is known of an entry of `pasid_array`.
pub mod entry {
    /// Its domain is of an `mm_struct` that has no user any more: the process has exited.
    pub const MM_EXITED: u16 = 1 << 0;
}

/// A group's `pasid_array`, index 0 (the RID's own handle) included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "bpf"), derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[repr(C)]
pub struct PasidArray {
    /// How many of `entries` are filled.
    pub len: u32,
    /// 1 if the walk saw the whole array, 0 if it ran out of steps or room.
    pub complete: u32,
    pub entries: [ArrayEntry; ARRAY_CAPACITY],
}

/// An operation with the group's `pasid_array` as it was at that moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "bpf"), derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[repr(C)]
pub struct Inventory {
    pub operation: Operation,
    pub array: PasidArray,
}

/// Without padding, a record's size is the sum of its members'.
const _: () = {
    assert!(size_of::<Task>() == 24);
    assert!(size_of::<Header>() == 8 + 8 + 24 + 4 + 4 + 2 + 1 + 1 + 4);
    assert!(size_of::<Domain>() == 16);
    assert!(size_of::<Group>() == 8 + 8 + 3 * 16 + 4 * 4);
    assert!(size_of::<Device>() == 8 + 8 + NAME_LEN + 8);
    assert!(size_of::<Operation>() == 56 + 80 + 56 + 2 * 16 + 4 * 8 + 24 + 8);
    assert!(size_of::<ArrayEntry>() == 24);
    assert!(size_of::<Inventory>() == size_of::<Operation>() + 8 + ARRAY_CAPACITY * 24);
};
