//! VT-d's own side of a PASID: its entry in the table set up and torn down, and the table itself.

use monitor_ebpf::wire::Hook;

use super::{
    call::{self, Access, call, program},
    emit::Reads,
};

call!(exit VtdSetupFirst, "vtd_setup_first_level", Reads::VTD_TABLE);
call!(exit VtdSetupSecond, "vtd_setup_second_level", Reads::VTD_TABLE);
call!(exit VtdSetupPassThrough, "vtd_setup_pass_through", Reads::VTD_TABLE);
call!(exit VtdSetupNested, "vtd_setup_nested", Reads::VTD_TABLE);
call!(both VtdTearDown, "vtd_tear_down", Reads::VTD_TABLE);
call!(exit VtdTableAlloc, "vtd_table_alloc", Reads::VTD_TABLE);
call!(entry VtdTableFree, "vtd_table_free", Reads::VTD_TABLE);
