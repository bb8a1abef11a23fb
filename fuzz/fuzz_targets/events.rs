//! Any sequence of inputs, possible or not, as a recording: what the model, the checks and the reports make
//! of it.
#![no_main]

#[path = "../../monitor/tests/recordings/harness.rs"]
#[allow(dead_code, reason = "each target uses its part")]
mod harness;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    harness::events(bytes);
});
