//! VT-d's own side of a PASID: its entry in the table set up and torn down, and the table itself.

use aya_ebpf::EbpfContext;
use monitor_ebpf::wire::Hook;

use super::{
    call::{self, call},
    emit::Reads,
};

call!(
    return VtdSetupFirst,
    Reads::VTD_TABLE,
    vtd_setup_first_level_fexit,
    vtd_setup_first_level_kprobe,
    vtd_setup_first_level_kretprobe
);
call!(
    return VtdSetupSecond,
    Reads::VTD_TABLE,
    vtd_setup_second_level_fexit,
    vtd_setup_second_level_kprobe,
    vtd_setup_second_level_kretprobe
);
call!(
    return VtdSetupPassThrough,
    Reads::VTD_TABLE,
    vtd_setup_pass_through_fexit,
    vtd_setup_pass_through_kprobe,
    vtd_setup_pass_through_kretprobe
);
call!(
    return VtdSetupNested,
    Reads::VTD_TABLE,
    vtd_setup_nested_fexit,
    vtd_setup_nested_kprobe,
    vtd_setup_nested_kretprobe
);
call!(
    VtdTearDown,
    Reads::VTD_TABLE,
    vtd_tear_down_fentry,
    vtd_tear_down_fexit,
    vtd_tear_down_kprobe,
    vtd_tear_down_kretprobe
);
call!(
    return VtdTableAlloc,
    Reads::VTD_TABLE,
    vtd_table_alloc_fexit,
    vtd_table_alloc_kprobe,
    vtd_table_alloc_kretprobe
);
call!(VtdTableFree, Reads::VTD_TABLE, vtd_table_free_fentry, vtd_table_free_kprobe);
