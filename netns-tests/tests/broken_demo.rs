//! The demo notices when its world is broken on purpose: it fails, and it fails at that step.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{path::Path, process::Command};

use serde_json::Value;

/// Steps broken in the gate. `cargo xtask test --long` breaks every one.
const GATE: [u8; 2] = [2, 10];

fn broken(step: u8) -> (bool, Value, String) {
    let demo = Path::new(env!("CARGO_BIN_EXE_demo"));
    let sluice = demo.with_file_name("sluice");
    assert!(sluice.exists(), "{} is missing: cargo build -p sluice", sluice.display());
    let ended = Command::new(demo)
        .args(["--once", "--json", "--break", &step.to_string(), "--sluice"])
        .arg(sluice)
        .output()
        .expect("the demo starts");
    let told = String::from_utf8_lossy(&ended.stderr).into_owned();
    let report = serde_json::from_slice(&ended.stdout).unwrap_or_else(|error| panic!("no report: {error}\n{told}"));
    (ended.status.success(), report, told)
}

#[test]
fn a_demo_broken_on_purpose_fails_at_that_step() {
    let steps: Vec<u8> = if std::env::var_os("SLUICE_LONG").is_some() { (1..=11).collect() } else { GATE.to_vec() };
    for step in steps {
        let (success, report, told) = broken(step);
        assert!(!success, "the demo broken at step {step} exited with 0:\n{told}");
        assert_eq!(report["ok"], false, "{told}");
        let steps = report["steps"].as_array().unwrap();
        let failed: Vec<_> =
            steps.iter().filter(|step| step["ok"] == false).map(|step| step["number"].clone()).collect();
        assert_eq!(failed, [Value::from(step)], "broken at {step}, it told:\n{told}");
        assert!(told.contains(&format!("step {step} was not observed")), "{told}");
    }
}
