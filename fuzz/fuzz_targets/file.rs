//! Any bytes as a recording: as they are, and with lengths and checksums mended, so that what lies behind
//! them is reached.
#![no_main]

#[path = "../../monitor/tests/recordings/harness.rs"]
#[allow(dead_code, reason = "each target uses its part")]
mod harness;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    harness::file(bytes);
});
