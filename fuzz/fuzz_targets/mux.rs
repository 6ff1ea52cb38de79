//! See `sluice_fuzz_targets::mux`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluice_fuzz_targets::mux(data));
