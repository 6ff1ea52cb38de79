//! See `sluice_fuzz_targets::state_stream`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluice_fuzz_targets::state_stream(data));
