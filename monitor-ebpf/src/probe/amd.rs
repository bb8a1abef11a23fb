//! AMD's own side of a PASID: its entry cleared, its table taken away, the PASID taken off a device.

use monitor_ebpf::wire::Hook;

use super::{
    call::{self, Access, call, program},
    emit::Reads,
};

call!(exit AmdDetach, "amd_detach_pasid", Reads::PLAIN);
call!(both AmdClear, "amd_clear_gcr3", Reads::PLAIN);
call!(entry AmdTableFree, "amd_table_free", Reads::PLAIN);
