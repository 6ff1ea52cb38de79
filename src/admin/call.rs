//! One request to the admin API, and how its answer is shown.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::Context;
use hyper::Method;
use serde::Serialize;
use serde_json::Value;
use sluice_control_server::admin_api::SecretText;

/// A request.
pub(super) struct Call {
    pub(super) method: Method,
    /// Below `/api/v1`.
    pub(super) path: String,
    pub(super) body: Option<Value>,
    pub(super) show: Show,
    /// Follow `next` to the last page, or until there are so many items.
    pub(super) items: Option<usize>,
    pub(super) needs_token: bool,
    /// Also write the shown secret to this file, mode 0600, instead of standard output.
    pub(super) save: Option<PathBuf>,
}

/// How an answer is shown to people.
pub(super) enum Show {
    /// A list as a table of these members.
    Table(&'static [&'static str]),
    /// One object, a line per member.
    Object(&'static [&'static str]),
    /// This member alone on a line: for scripts to redirect.
    Alone(&'static str),
    /// Hubs with their codes, a line each.
    Codes,
    /// Who holds the policy key, then how each list stands.
    Policy,
    /// Just a word that it was done.
    Done(String),
}

impl Call {
    pub(super) fn new(method: Method, path: String, show: Show) -> Self {
        Self { method, path, body: None, show, items: None, needs_token: true, save: None }
    }

    /// A whole list.
    pub(super) fn list(path: String, columns: &'static [&'static str]) -> Self {
        Self { items: Some(usize::MAX), ..Self::new(Method::GET, path, Show::Table(columns)) }
    }

    /// At most so many items of a list.
    pub(super) fn up_to(self, limit: Option<usize>) -> Self {
        Self { items: Some(limit.unwrap_or(usize::MAX)), ..self }
    }

    pub(super) fn post(path: String, body: &impl Serialize, show: Show) -> anyhow::Result<Self> {
        Ok(Self { body: Some(serde_json::to_value(body)?), ..Self::new(Method::POST, path, show) })
    }

    pub(super) fn put(path: String, body: &impl Serialize, show: Show) -> anyhow::Result<Self> {
        Ok(Self { body: Some(serde_json::to_value(body)?), ..Self::new(Method::PUT, path, show) })
    }
}

/// Longest file that is sent.
const MAX_FILE: u64 = 1024 * 1024;

/// The content of `path`, or of standard input for `-`.
pub(super) fn read_text(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let source: Box<dyn Read> = if path.as_os_str() == "-" {
        Box::new(std::io::stdin())
    } else {
        Box::new(File::open(path).with_context(|| format!("cannot open {}", path.display()))?)
    };
    let read = source.take(MAX_FILE.saturating_add(1)).read_to_string(&mut text);
    let length = read.with_context(|| format!("cannot read {}", path.display()))?;
    anyhow::ensure!(
        length as u64 <= MAX_FILE,
        "{} is longer than {MAX_FILE} bytes; is it the right file?",
        path.display()
    );
    Ok(text)
}

/// A secret from a file: its first line.
pub(super) fn read_secret(path: &Path) -> anyhow::Result<SecretText> {
    let text = read_text(path)?;
    let line = text.lines().next().unwrap_or_default().trim_end_matches('\r');
    anyhow::ensure!(!line.is_empty(), "{} is empty; it should hold a secret on its first line", path.display());
    Ok(SecretText::new(line.to_owned()))
}

/// A file of data: TOML by its name's end, JSON otherwise.
pub(super) fn read_data(path: &Path) -> anyhow::Result<Value> {
    let text = read_text(path)?;
    let wrong = || format!("{} is not well-formed", path.display());
    if path.extension().is_some_and(|end| end == "toml") {
        let table: toml::Table = toml::from_str(&text).with_context(wrong)?;
        return Ok(serde_json::to_value(table)?);
    }
    serde_json::from_str(&text).with_context(wrong)
}
