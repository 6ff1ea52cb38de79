//! See `sluice_fuzz_targets::est_request`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluice_fuzz_targets::est_request(data));
