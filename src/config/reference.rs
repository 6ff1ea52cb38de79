//! Writes docs/configuration.md from the schemas of all roles, so that it cannot drift from the code.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{collections::BTreeSet, fmt::Write, path::Path};

use serde_json::Value as Schema;

use super::{connector::ConnectorConfig, control::ControlConfig, edge::EdgeConfig, gateway::GatewayConfig, shape};

const HEAD: &str = "# Configuration\n\n\
Every role reads one TOML file: `sluice <role> --config FILE`. `--check` validates it, prints what is in effect and \
stops. An unknown key, a wrong type or an unreadable secret file is refused (exit status 64). Secrets are never written \
into these files: they name files of mode 0600.\n\n\
This page is generated from the configuration types; `SLUICE_BLESS=1 cargo test -p sluice configuration_page` rewrites \
it.\n";

fn roles() -> Vec<(&'static str, Schema)> {
    vec![
        ("connector", schemars::schema_for!(ConnectorConfig).to_value()),
        ("control", schemars::schema_for!(ControlConfig).to_value()),
        ("edge", schemars::schema_for!(EdgeConfig).to_value()),
        ("gateway", schemars::schema_for!(GatewayConfig).to_value()),
    ]
}

fn page() -> String {
    let mut page = HEAD.to_owned();
    for (role, schema) in roles() {
        let about = schema["description"].as_str().unwrap_or_default();
        write!(page, "\n## {role}\n\n{about}\n\n| key | value | default | meaning |\n|---|---|---|---|\n").unwrap();
        rows(&mut page, &schema, &schema, "", 0);
    }
    page
}

fn rows(page: &mut String, root: &Schema, schema: &Schema, prefix: &str, depth: usize) {
    assert!(depth < 8, "a configuration type contains itself at {prefix}");
    let required: BTreeSet<&str> = shape::branches(root, schema)
        .iter()
        .filter_map(|branch| branch["required"].as_array())
        .flatten()
        .filter_map(Schema::as_str)
        .collect();
    for (key, member) in shape::known_keys(root, schema) {
        let name = format!("{prefix}{key}");
        let default = match member.get("default") {
            _ if required.contains(key.as_str()) => "required".to_owned(),
            Some(Schema::Null | Schema::Object(_)) | None => "–".to_owned(),
            Some(value) => format!("`{value}`"),
        };
        let meaning = description(root, &member).replace('\n', " ").replace('|', "\\|");
        assert!(!meaning.is_empty(), "{name} is not documented");
        writeln!(page, "| `{name}` | {} | {} | {meaning} |", kind(root, &member), default.replace('|', "\\|")).unwrap();
        for (inner, suffix) in inner(root, &member) {
            rows(page, root, &inner, &format!("{name}{suffix}."), depth + 1);
        }
    }
}

fn description(root: &Schema, schema: &Schema) -> String {
    let own = schema["description"].as_str().map(str::to_owned);
    own.or_else(|| {
        shape::branches(root, schema).iter().find_map(|branch| branch["description"].as_str().map(str::to_owned))
    })
    .unwrap_or_default()
}

/// Schemas of the tables inside a member: itself, its array items, its map values.
fn inner(root: &Schema, member: &Schema) -> Vec<(Schema, &'static str)> {
    let mut found = Vec::new();
    if !shape::known_keys(root, member).is_empty() {
        found.push((member.clone(), ""));
    }
    for branch in shape::branches(root, member) {
        for (word, suffix) in [("items", "[]"), ("additionalProperties", ".<name>")] {
            if let Some(inner) = branch.get(word).filter(|inner| !shape::known_keys(root, inner).is_empty()) {
                found.push((inner.clone(), suffix));
            }
        }
    }
    found
}

fn kind(root: &Schema, schema: &Schema) -> String {
    let mut kinds = BTreeSet::new();
    for branch in shape::branches(root, schema) {
        if let Some(format) = branch["format"].as_str() {
            kinds.insert(format.to_owned());
        } else if let Some(values) = branch["enum"].as_array() {
            kinds.extend(values.iter().map(|value| format!("`{value}`")));
        } else if let Some(value) = branch.get("const") {
            kinds.insert(format!("`{value}`"));
        } else {
            let named = branch["type"]
                .as_str()
                .into_iter()
                .chain(branch["type"].as_array().into_iter().flatten().filter_map(Schema::as_str));
            kinds.extend(
                named
                    .filter(|kind| *kind != "null")
                    .map(|kind| if kind == "object" { "table".to_owned() } else { kind.to_owned() }),
            );
        }
    }
    kinds.into_iter().collect::<Vec<_>>().join(" or ")
}

#[test]
fn configuration_page_is_what_the_types_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let page = page();
    if std::env::var_os("SLUICE_BLESS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == page,
        "docs/configuration.md is stale: run SLUICE_BLESS=1 cargo test -p sluice configuration_page"
    );
}
