//! Compares a TOML document with a schema: which key is unknown, and which values name secret files.

use std::collections::BTreeMap;

use serde_json::Value as Schema;
use toml::{Table, Value};

use super::SecretFile;

/// What a walk over a document found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Findings {
    /// The first key the schema does not know.
    pub(super) unknown: Option<Unknown>,
    /// (dotted key, path) of each secret file that is named.
    pub(super) secret_files: Vec<(String, String)>,
}

/// A key nobody reads.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unknown {
    /// Its dotted path.
    pub(super) key: String,
    /// Dotted path of the known key most like it at the same place.
    pub(super) nearest: String,
}

/// Walks `table` beside the JSON schema `root`. Types are not compared: deserialising does that, and says where.
pub(super) fn inspect(root: &Schema, table: &Table) -> Findings {
    let mut findings = Findings::default();
    Walk { root, findings: &mut findings }.table(&[root], table, "");
    findings
}

/// Every key a schema knows, dotted, with its (resolved) schema, in order.
#[cfg(test)]
pub(super) fn known_keys(root: &Schema, schema: &Schema) -> BTreeMap<String, Schema> {
    let mut findings = Findings::default();
    let walk = Walk { root, findings: &mut findings };
    walk.members(&[schema]).into_iter().map(|(key, schema)| (key.to_owned(), schema.clone())).collect()
}

/// The schema itself and whatever it refers to or combines: a value may obey any of them.
pub(super) fn branches<'a>(root: &'a Schema, schema: &'a Schema) -> Vec<&'a Schema> {
    let mut found = Vec::new();
    let mut open = vec![schema];
    while let Some(schema) = open.pop() {
        if found.len() >= MAX_BRANCHES {
            break;
        }
        found.push(schema);
        let target = schema.get("$ref").and_then(Schema::as_str).and_then(|to| root.pointer(to.strip_prefix('#')?));
        open.extend(target);
        for word in ["allOf", "anyOf", "oneOf"] {
            open.extend(schema.get(word).and_then(Schema::as_array).into_iter().flatten());
        }
    }
    found
}

struct Walk<'a, 'f> {
    root: &'a Schema,
    findings: &'f mut Findings,
}

impl<'a> Walk<'a, '_> {
    fn value(&mut self, schema: &'a Schema, value: &Value, path: &str) {
        let branches = branches(self.root, schema);
        match value {
            Value::Table(table) => self.table(&branches, table, path),
            Value::Array(items) => {
                let Some(schema) = branches.iter().find_map(|branch| branch.get("items")) else { return };
                for (index, item) in items.iter().enumerate() {
                    self.value(schema, item, &format!("{path}[{index}]"));
                }
            }
            Value::String(file) => {
                let is_secret =
                    |branch: &&Schema| branch.get("format").and_then(Schema::as_str) == Some(SecretFile::FORMAT);
                if branches.iter().any(is_secret) {
                    self.findings.secret_files.push((path.to_owned(), file.clone()));
                }
            }
            _ => {}
        }
    }

    fn table(&mut self, schemas: &[&'a Schema], table: &Table, path: &str) {
        let members = self.members(schemas);
        let any_key =
            schemas.iter().find_map(|schema| schema.get("additionalProperties").filter(|any| any.is_object()));
        for (key, value) in table {
            let here = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            match members.get(key.as_str()).copied().or(any_key) {
                Some(schema) => self.value(schema, value, &here),
                None if members.is_empty() => {}
                None => self.unknown(here, key, path, &members),
            }
        }
    }

    fn members(&self, schemas: &[&'a Schema]) -> BTreeMap<&'a str, &'a Schema> {
        let all = schemas.iter().flat_map(|schema| branches(self.root, schema));
        all.filter_map(|schema| schema.get("properties").and_then(Schema::as_object))
            .flatten()
            .map(|(key, schema)| (key.as_str(), schema))
            .collect()
    }

    fn unknown(&mut self, here: String, key: &str, path: &str, members: &BTreeMap<&str, &Schema>) {
        let nearest =
            members.keys().max_by(|a, b| strsim::jaro_winkler(a, key).total_cmp(&strsim::jaro_winkler(b, key)));
        let nearest = nearest.copied().unwrap_or_default();
        let nearest = if path.is_empty() { nearest.to_owned() } else { format!("{path}.{nearest}") };
        self.findings.unknown.get_or_insert(Unknown { key: here, nearest });
    }
}

/// Schemas are ours and small; this only stops a reference that leads back to itself.
const MAX_BRANCHES: usize = 64;
