//! See `sluice_fuzz_targets::hub_import`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluice_fuzz_targets::hub_import(data));
