//! See `sluice_fuzz_targets::worker_frame`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluice_fuzz_targets::worker_frame(data));
