//! See `sluice_fuzz_targets::datagrams`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluice_fuzz_targets::datagrams(data));
