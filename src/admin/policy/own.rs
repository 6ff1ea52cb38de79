//! The customer's key, and beside it what it signed last for each connector.
//!
//! Only that record says what changes. Control may show any list that this key ever signed; a rule that was taken out
//! since would then look as if nothing changed.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use anyhow::Context;
use sluice_connector_wire::{AllowList, AllowListKeeper, PolicyKey, SignedAllowList};
use sluice_node_identity::{NodeId, TenantId, UnixTime};

use super::key;

/// A key and its record: the folder `KEYFILE.signed`, a file for each connector.
pub(super) struct OwnKey {
    pub(super) key: PolicyKey,
    folder: PathBuf,
    succession: PathBuf,
}

/// What the key signed last for one connector.
pub(super) struct Last {
    pub(super) list: AllowList,
    /// The bytes that were signed.
    pub(super) payload: Vec<u8>,
}

impl OwnKey {
    /// Reads the key in the file `path`.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let beside = |end: &str| {
            let mut name = path.as_os_str().to_owned();
            name.push(end);
            PathBuf::from(name)
        };
        Ok(Self { key: key::read(path)?, folder: beside(".signed"), succession: beside(".succession") })
    }

    /// Writes down what leads from the former key to this one: a control that is restored from a time before does not
    /// know it, and cannot sign it again.
    pub(super) fn keep_succession(&self, step: &str) -> anyhow::Result<()> {
        let path = self.succession.display();
        replace(&self.succession, step).with_context(|| format!("cannot write {path}; adopt again"))
    }

    /// Where the list signed last for `connector` is kept.
    pub(super) fn record(&self, tenant: &TenantId, connector: &NodeId) -> PathBuf {
        self.folder.join(format!("{tenant}.{connector}.jws"))
    }

    /// The list signed last for `connector`; `None` when nothing is recorded.
    ///
    /// # Errors
    /// The record cannot be read, or is not one of this key.
    pub(super) fn last(&self, tenant: &TenantId, connector: &NodeId) -> anyhow::Result<Option<Last>> {
        let path = self.record(tenant, connector);
        let jws = match fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            read => read.with_context(|| format!("cannot read {}", path.display()))?,
        };
        let signed =
            SignedAllowList { jws: jws.trim_end().to_owned(), policy_key: self.key.jwk(), succession: Vec::new() };
        let last = self.signed(&signed, tenant, connector).zip(signed.payload());
        let (list, payload) = last.with_context(|| {
            let path = path.display();
            format!("{path} is no list that this key signed for {tenant}/{connector}; put the right file back, or remove it to be shown everything as new")
        })?;
        Ok(Some(Last { list, payload }))
    }

    /// The content of `signed`, if this key signed it for `connector`; one that has ended counts too.
    pub(super) fn signed(&self, signed: &SignedAllowList, tenant: &TenantId, connector: &NodeId) -> Option<AllowList> {
        let at = signed.unverified()?.not_after;
        self.judged(signed.jws.clone(), tenant, connector, at).ok()
    }

    /// What a connector that believes this key makes of `jws`.
    pub(super) fn judged(
        &self,
        jws: String,
        tenant: &TenantId,
        connector: &NodeId,
        now: UnixTime,
    ) -> anyhow::Result<AllowList> {
        let signed = SignedAllowList { jws, policy_key: self.key.jwk(), succession: Vec::new() };
        let mut keeper = AllowListKeeper::new(tenant.clone(), connector.clone(), self.key.thumbprint(), None);
        keeper.offer(&signed, now).context("connectors would refuse this list")?;
        Ok(keeper.current().context("no list came into use")?.list().clone())
    }

    /// Records, durably, what is signed for `connector`: before anybody else gets it.
    pub(super) fn keep(&self, tenant: &TenantId, connector: &NodeId, jws: &str) -> anyhow::Result<()> {
        let path = self.record(tenant, connector);
        let made = match DirBuilder::new().mode(0o700).create(&self.folder) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
            _ => replace(&path, jws),
        };
        made.with_context(|| format!("cannot record in {} what was signed", path.display()))
    }
}

/// Puts `text` into the file `path`, whole or not at all.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    // Beside it and named after all of it: a customer's own files are near.
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    let draft = PathBuf::from(draft);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(format!("{text}\n").as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}
