//! A PCI device is taken off its domains for a reset, and put back after it, by the functions that reset it (from 7.0).

use monitor_ebpf::wire::Hook;

use super::{
    call::{self, Access, call, program},
    emit::Reads,
};

call!(both ResetPrepare, "reset_prepare", Reads::STACK);
call!(both ResetDone, "reset_done", Reads::STACK);
call!(both ResetFunction, "reset_function", Reads::STACK);
call!(both ResetFlr, "reset_flr", Reads::STACK);
