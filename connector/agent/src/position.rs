//! The one file of an agent: the newest document with its allow-list, and that list's number.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use sluice_connector_wire::{ConnectorDocument, ListPosition, MAX_LIST_BYTES};
use sluice_node_identity::Fingerprint;

/// Largest file that is read: a list, its succession of keys and the gateways.
const MAX_BYTES: u64 = MAX_LIST_BYTES as u64 + 512 * 1024;

pub(crate) struct PositionFile {
    dir: PathBuf,
    lists: Fingerprint,
}

/// What is in the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    /// Whose lists are counted. A connector that joined another tenant, or a control made anew, begins afresh: no list
    /// of the former one could pass there anyway.
    lists: Fingerprint,
    position: ListPosition,
    /// What the position is of: whoever remembers the number of a list must not have lost the list.
    #[serde(default)]
    document: Option<ConnectorDocument>,
}

impl PositionFile {
    /// For the lists of the connector `name`, anchored at the policy key with this thumbprint.
    pub(crate) fn new(state_dir: &Path, name: &str, policy_thumbprint: &str) -> Self {
        let lists = Fingerprint::of(format!("{name} {policy_thumbprint}").as_bytes());
        Self { dir: state_dir.to_owned(), lists }
    }

    fn path(&self) -> PathBuf {
        self.dir.join("allow-list.json")
    }

    /// `None` before the first list.
    pub(crate) fn read(&self) -> anyhow::Result<Option<(ListPosition, Option<ConnectorDocument>)>> {
        let path = self.path();
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("opening {}", path.display())),
        };
        let mut text = String::new();
        file.take(MAX_BYTES + 1).read_to_string(&mut text).with_context(|| format!("reading {}", path.display()))?;
        ensure!(text.len() as u64 <= MAX_BYTES, "{} is larger than {MAX_BYTES} bytes", path.display());
        let kept: Kept = serde_json::from_str(&text).with_context(|| {
            format!("{} is damaged; restore it, or remove it if the newest list may be trusted again", path.display())
        })?;
        if kept.lists != self.lists {
            tracing::info!("the stored allow-list position is of a former identity and counts no more");
        }
        Ok((kept.lists == self.lists).then_some((kept.position, kept.document)))
    }

    /// Whole or not at all, and on disk when it returns.
    pub(crate) fn write(&self, position: &ListPosition, document: &ConnectorDocument) -> anyhow::Result<()> {
        let new = self.dir.join("allow-list.json.new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)
            .with_context(|| format!("creating {}", new.display()))?;
        let kept = Kept { lists: self.lists.clone(), position: position.clone(), document: Some(document.clone()) };
        file.write_all(&serde_json::to_vec(&kept)?).context("writing the position")?;
        file.sync_all().context("syncing the position")?;
        fs::rename(&new, self.path()).context("renaming the position")?;
        File::open(&self.dir).and_then(|dir| dir.sync_all()).context("syncing the state directory")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use sluice_connector_wire::SignedAllowList;

    use super::*;

    const NAME: &str = "spiffe://sluice.test/tenant/acme/connector/dc-1";

    #[test]
    fn c4_position_outlives_restarts_but_not_the_tenant_it_was_for() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str, key: &str| PositionFile::new(dir.path(), name, key).read().unwrap();
        assert_eq!(at(NAME, "key"), None);
        let position =
            ListPosition { epoch: 3, version: 9, digest: Fingerprint::of(b"list"), policy_key: "key".to_owned() };
        let allow_list = SignedAllowList { jws: "list".to_owned(), policy_key: 1.into(), succession: Vec::new() };
        let document = ConnectorDocument { gateways: Vec::new(), allow_list };
        PositionFile::new(dir.path(), NAME, "key").write(&position, &document).unwrap();
        assert_eq!(at(NAME, "key"), Some((position.clone(), Some(document))));
        // As releases wrote it that did not keep the document.
        let lists = Fingerprint::of(format!("{NAME} key").as_bytes());
        let old = serde_json::json!({ "lists": lists, "position": position });
        fs::write(dir.path().join("allow-list.json"), old.to_string()).unwrap();
        assert_eq!(at(NAME, "key"), Some((position, None)));
        assert_eq!(at(NAME, "another control's key"), None);
        assert_eq!(at("spiffe://sluice.test/tenant/other/connector/dc-1", "key"), None);
        fs::write(dir.path().join("allow-list.json"), "{").unwrap();
        assert!(PositionFile::new(dir.path(), NAME, "key").read().is_err(), "damage is not forgetting");
    }
}
