//! Answers for people: aligned tables, or one secret alone on a line.

use std::{
    fs::OpenOptions,
    io::{IsTerminal, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use anyhow::Context;
use serde_json::Value;
use sluice_node_identity::is_plain;

use super::call::{Call, Show};

/// Shows `answer`.
pub(super) fn answer(call: &Call, answer: &Value, json: bool) -> anyhow::Result<()> {
    if let (Some(path), Show::Alone(member)) = (&call.save, &call.show) {
        save(path, &cell(answer.get(*member)))?;
        return out(&format!("written to {}\n", path.display()));
    }
    let text = if json { format!("{}\n", serde_json::to_string_pretty(answer)?) } else { shown(&call.show, answer) };
    out(&text)?;
    if !json {
        // Not part of what was asked for, so that scripts read the same with and without.
        let mut stderr = std::io::stderr().lock();
        notes(answer).iter().try_for_each(|note| writeln!(stderr, "{note}")).context("standard error is closed")?;
    }
    Ok(())
}

/// What must be known beside the answer.
fn notes(answer: &Value) -> Vec<String> {
    let waits = answer.get("waits").filter(|waits| waits.is_string());
    let connectors = answer.get("connectors").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let partly = connectors.iter().filter(|one| one.get("words").is_some_and(Value::is_string));
    let partly = partly.map(|one| format!("{}: {}", cell(one.get("connector")), cell(one.get("words"))));
    waits.map(|waits| cell(Some(waits))).into_iter().chain(partly).collect()
}

fn shown(show: &Show, answer: &Value) -> String {
    match show {
        Show::Table(columns) => table(columns, items(answer)),
        Show::Object(members) => {
            let width = members.iter().map(|member| member.len()).max().unwrap_or(0);
            let line = |member: &&str| format!("{member:width$}  {}\n", cell(answer.get(*member)));
            members.iter().map(line).collect()
        }
        Show::Alone(member) => format!("{}\n", cell(answer.get(*member)).trim_end()),
        Show::Codes => {
            let codes = answer.get("codes").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            codes.iter().map(|code| format!("{}\t{}\n", cell(code.get("id")), cell(code.get("code")))).collect()
        }
        Show::Policy => {
            let head =
                format!("policy key {}, held by {}\n", cell(answer.get("thumbprint")), cell(answer.get("held_by")));
            let lists = answer.get("lists").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            let line = |list: &Value| format!("{}  {}\n", cell(list.get("connector")), cell(list.get("words")));
            lists.iter().fold(head, |text, list| text + &line(list))
        }
        // A word for people only: scripts redirect standard output and look at the exit status.
        Show::Done(text) if std::io::stdout().is_terminal() => format!("{text}\n"),
        Show::Done(_) => String::new(),
    }
}

fn items(answer: &Value) -> &[Value] {
    answer.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// These members of `items` in columns; all members of the first when none is named.
pub(crate) fn table(columns: &[&str], items: &[Value]) -> String {
    // The cache explorer's tables have columns of their own.
    let own: Vec<String> = match (columns.is_empty(), items.first().and_then(Value::as_object)) {
        (true, Some(first)) => first.keys().cloned().collect(),
        _ => columns.iter().map(ToString::to_string).collect(),
    };
    let head: Vec<String> = own.iter().map(|column| column.to_uppercase().replace('_', " ")).collect();
    let mut rows = vec![head];
    rows.extend(items.iter().map(|item| own.iter().map(|column| cell(item.get(column))).collect()));
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..own.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

/// One value on one line. What could steer the terminal, or change how the rest looks, is shown as `?`.
fn cell(value: Option<&Value>) -> String {
    let text = match value {
        None | Some(Value::Null) => "-".to_owned(),
        // A certificate keeps its lines.
        Some(Value::String(text)) if text.starts_with("-----BEGIN ") => return text.clone(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) => items.iter().map(|item| cell(Some(item))).collect::<Vec<_>>().join(", "),
        Some(other) => other.to_string(),
    };
    text.chars().map(|c| if is_plain(c) { c } else { '?' }).collect()
}

fn out(text: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).context("standard output is closed")
}

fn save(path: &Path, secret: &str) -> anyhow::Result<()> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    let mut file = file.with_context(|| format!("cannot write {}; it must not exist yet", path.display()))?;
    file.write_all(format!("{secret}\n").as_bytes()).and_then(|()| file.sync_all()).context("cannot write the secret")
}
