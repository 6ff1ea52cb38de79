//! docs/requirements.md names the tests that prove its rows: all that exist, and none that do not.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Test functions whose name begins with a row's ID: ID → `name` (crate folder).
fn tests(rows: &BTreeSet<String>) -> BTreeMap<String, BTreeSet<String>> {
    let listed = Command::new("git").args(["ls-files", "*.rs"]).current_dir(root()).output().unwrap();
    assert!(listed.status.success(), "git ls-files failed");
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in String::from_utf8(listed.stdout).unwrap().lines() {
        let Ok(text) = fs::read_to_string(root().join(file)) else { continue };
        let folder =
            file.split_once("/src/").or_else(|| file.split_once("/tests/")).map_or("src", |(folder, _)| folder);
        for line in text.lines() {
            let Some((_, rest)) = line.trim_start().split_once("fn ") else { continue };
            let name = rest.split('(').next().unwrap_or_default();
            // A test may prove several rows: `u1_u3_look_write_read_back`.
            for id in name.split('_').map(str::to_ascii_uppercase).take_while(|id| rows.contains(id)) {
                found.entry(id).or_default().insert(format!("`{name}` ({folder})"));
            }
        }
    }
    found
}

/// The page with its last column made anew; what the demo shows is kept.
fn renewed(page: &str) -> String {
    let id = |line: &str| line.strip_prefix("| ").and_then(|line| line.split(' ').next()).map(str::to_owned);
    let rows: BTreeSet<String> = page.lines().filter_map(id).filter(|id| id != "ID").collect();
    assert!(rows.len() > 60, "docs/requirements.md has only {} rows", rows.len());
    let tests = tests(&rows);
    let line = |line: &str| {
        let cells: Vec<&str> = line.split('|').collect();
        match (id(line), cells.as_slice()) {
            (Some(id), [_, _, text, proof, _]) if id != "ID" => {
                let mut proofs: Vec<&str> = tests.get(&id).into_iter().flatten().map(String::as_str).collect();
                proofs.extend(proof.split(';').map(str::trim).filter(|proof| proof.starts_with("demo, ")));
                format!("| {id} |{text}| {} |\n", proofs.join("; "))
            }
            _ => format!("{line}\n"),
        }
    };
    page.lines().map(line).collect()
}

#[test]
fn every_row_names_the_tests_that_prove_it() {
    let path = root().join("docs/requirements.md");
    let page = fs::read_to_string(&path).expect("docs/requirements.md is there");
    let renewed = renewed(&page);
    if std::env::var_os("SLUICE_BLESS").is_some() {
        fs::write(&path, &renewed).unwrap();
        return;
    }
    let stale: Vec<_> = page.lines().zip(renewed.lines()).filter(|(now, new)| now != new).map(|(_, new)| new).collect();
    assert!(
        stale.is_empty(),
        "docs/requirements.md is stale (SLUICE_BLESS=1 rewrites it); these rows change:\n{}",
        stale.join("\n")
    );
}

/// Names in backticks that are long enough to be tests'.
fn named_tests(page: &str) -> Vec<&str> {
    let is_name = |word: &&str| {
        word.matches('_').count() >= 3
            && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    page.split('`').skip(1).step_by(2).filter(is_name).collect()
}

#[test]
fn every_test_that_our_pages_name_exists() {
    let listed = Command::new("git").args(["ls-files", "*.rs"]).current_dir(root()).output().unwrap();
    let sources: String = String::from_utf8(listed.stdout)
        .unwrap()
        .lines()
        .filter_map(|file| fs::read_to_string(root().join(file)).ok())
        .collect();
    let pages = Command::new("git").args(["ls-files", "*.md"]).current_dir(root()).output().unwrap();
    let pages = String::from_utf8(pages.stdout).unwrap();
    assert!(
        ["SECURITY.md", "README.md", "docs/connector.md"].iter().all(|page| pages.lines().any(|file| file == *page))
    );
    for file in pages.lines() {
        let page = fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        for test in named_tests(&page) {
            // Metrics, fields and configuration keys are in the sources too, as what they are.
            let there = [format!("fn {test}("), format!("\"{test}\""), format!("pub {test}:"), format!(" {test}:")];
            assert!(there.iter().any(|form| sources.contains(form)), "{file} names {test}, which does not exist");
        }
    }
}

#[test]
fn every_row_of_known_cves_names_a_test() {
    let page = fs::read_to_string(root().join("docs/known-cves.md")).expect("docs/known-cves.md is there");
    let rows = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| found in"));
    let bare: Vec<_> = rows.filter(|row| !row.trim_end_matches(" |").ends_with('`')).collect();
    assert!(bare.is_empty(), "rows without a test: {bare:?}");
}
