//! Random and truncated bytes on every listening port of the four running roles.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::path::Path;

use sluice_netns_tests::demo::{Options, hostile};

#[test]
fn random_and_truncated_bytes_on_every_port_change_nothing() {
    // The demo's echo server is a subcommand of the demo: this test hands its place to it.
    let demo = Path::new(env!("CARGO_BIN_EXE_demo"));
    let options =
        Options { sluice: demo.with_file_name("sluice"), demo: demo.to_owned(), broken: None, keep_logs: None };
    let told = hostile::run(&options, 0x5eed_0001).unwrap_or_else(|error| panic!("{error:#}"));
    assert!(told.iter().any(|line| line.contains("8443")), "{told:?}");
    assert!(told.iter().any(|line| line.contains("67")), "{told:?}");
}
