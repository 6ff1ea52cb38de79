//! The administrator: `sluice admin` in the cloud namespace, secrets handed over in files.

use std::{
    fs,
    io::Write,
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{
    process::{Ended, run},
    topology::Ns,
};

/// Name of the one tenant.
pub(crate) const TENANT: &str = "acme";
/// Port of control.
pub(crate) const CONTROL_PORT: u16 = 8443;

/// Somebody with the owner's token.
#[derive(Debug)]
pub(crate) struct Admin {
    sluice: PathBuf,
    ns: Ns,
    folder: PathBuf,
    control: SocketAddr,
}

impl Admin {
    /// In `ns`, from which control answers at `control`.
    pub(crate) fn new(sluice: &Path, ns: &Ns, folder: &Path, control: SocketAddr) -> Self {
        Self { sluice: sluice.to_owned(), ns: ns.clone(), folder: folder.join("admin"), control }
    }

    /// File with the node root, by which control's console name is trusted.
    pub(crate) fn root(&self) -> PathBuf {
        self.folder.join("root.pem")
    }

    /// Turns the owner link into the owner's token.
    pub(crate) fn claim(&self, link_file: &Path, root: &str) -> Result<()> {
        fs::create_dir_all(&self.folder)?;
        fs::write(self.root(), root)?;
        let (link, token) = (link_file.display().to_string(), self.token("token"));
        let words = ["owner", "claim", "--link-file", &link, "--save", &token];
        accepted(&words, self.run(&words, &[])?).map(drop)
    }

    /// Makes a token that may also look into the tenant's cache.
    pub(crate) fn full_administrator(&self) -> Result<()> {
        let token = self.token("full-token");
        let words = ["token", "add", "--label", "demo", "--full", "--save", &token, "--tenant", TENANT];
        accepted(&words, self.attempt(&words)?).map(drop)
    }

    /// Rows of a cached table, as a full administrator.
    pub(crate) fn cache(&self, integration: &str, table: &str) -> Result<Value> {
        let words = ["integration", "cache", integration, table, "--limit", "1000", "--tenant", TENANT];
        let ended = self.run(&words, &["--token-file", &self.token("full-token")])?;
        parse(&words, &accepted(&words, ended)?)
    }

    fn token(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// Runs a subcommand that must succeed; gives its JSON.
    pub(crate) fn json(&self, words: &[&str]) -> Result<Value> {
        parse(words, &accepted(words, self.attempt(words)?)?)
    }

    /// Runs a subcommand within the tenant.
    pub(crate) fn tenant(&self, words: &[&str]) -> Result<Value> {
        self.json(&[words, &["--tenant", TENANT]].concat())
    }

    /// Runs a subcommand, whatever becomes of it.
    pub(crate) fn attempt(&self, words: &[&str]) -> Result<Ended> {
        self.run(words, &["--token-file", &self.token("token")])
    }

    /// Writes a secret or a document for a subcommand to read; gives its path.
    pub(crate) fn secret(&self, name: &str, content: &str) -> Result<String> {
        let path = self.folder.join(name);
        let mut open = fs::OpenOptions::new();
        let mut file = open.create(true).truncate(true).write(true).mode(0o600).open(&path)?;
        file.write_all(content.as_bytes())?;
        Ok(path.display().to_string())
    }

    fn run(&self, words: &[&str], more: &[&str]) -> Result<Ended> {
        let mut command = self.ns.command(&self.sluice);
        command.args(["admin", "--server", &format!("https://console.sluice.test:{CONTROL_PORT}")]);
        command.args(["--address", &self.control.to_string(), "--root"]).arg(self.root());
        command.args(more).arg("--json").args(words);
        run(&command, Duration::from_secs(120))
    }
}

fn accepted(words: &[&str], ended: Ended) -> Result<Ended> {
    if ended.code != 0 {
        bail!("sluice admin {} gave {}: {}", words.join(" "), ended.code, ended.stderr.trim());
    }
    Ok(ended)
}

fn parse(words: &[&str], ended: &Ended) -> Result<Value> {
    if ended.stdout.trim().is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_str(&ended.stdout)
        .with_context(|| format!("sluice admin {} --json wrote no JSON: {}", words.join(" "), ended.stdout))
}

/// A member of an answer that must be a text.
pub(crate) fn text(answer: &Value, member: &str) -> Result<String> {
    let found = answer.get(member).and_then(Value::as_str);
    Ok(found.with_context(|| format!("the answer has no {member}: {answer}"))?.to_owned())
}

/// A list: bare, or the `items` of a page.
pub(crate) fn items(answer: &Value) -> &[Value] {
    let list = answer.get("items").unwrap_or(answer);
    list.as_array().map_or(&[], Vec::as_slice)
}
