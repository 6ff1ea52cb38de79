//! Where control keeps what: the layout of its data directory.

use std::{
    fs::DirBuilder,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::Context;
use sluice_control_keystore::Keystore;
use sluice_control_server::ControlKeys;
use sluice_control_store_sqlite::SqliteStore;

/// Paths below the data directory. Each folder has one owner, so that Landlock can tell them apart.
#[derive(Clone, Debug)]
pub(super) struct Home {
    pub(super) data_dir: PathBuf,
}

impl Home {
    pub(super) fn new(data_dir: &Path) -> Self {
        Self { data_dir: data_dir.to_owned() }
    }

    pub(super) fn keystore(&self) -> PathBuf {
        self.data_dir.join("keystore")
    }

    pub(super) fn store(&self) -> PathBuf {
        self.data_dir.join("store")
    }

    pub(super) fn database(&self) -> PathBuf {
        self.store().join("control.db")
    }

    pub(super) fn caches(&self) -> PathBuf {
        self.data_dir.join("cache")
    }

    pub(super) fn wallet(&self) -> PathBuf {
        self.data_dir.join("wallet")
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.data_dir.join("control.sock")
    }

    /// The node root's certificate: public, what administrators and nodes believe.
    pub(super) fn node_root(&self) -> PathBuf {
        self.data_dir.join("node-root.pem")
    }

    /// Makes the folders. The data directory itself may be passed through, not listed: the wallet's own account must
    /// reach the wallet's folder.
    pub(super) fn make(&self) -> anyhow::Result<()> {
        let make = |path: &Path, mode: u32| {
            DirBuilder::new()
                .recursive(true)
                .mode(mode)
                .create(path)
                .with_context(|| format!("cannot make {}", path.display()))
        };
        make(&self.data_dir, 0o711)?;
        let open = std::fs::Permissions::from_mode(0o711);
        std::fs::set_permissions(&self.data_dir, open).context("cannot set the mode of the data directory")?;
        make(&self.store(), 0o700)?;
        make(&self.caches(), 0o700)
    }

    /// Opens the keystore.
    pub(super) fn open_keystore(&self) -> anyhow::Result<Keystore> {
        Keystore::open(&self.keystore()).context("cannot open the keystore")
    }

    /// Opens the store with its key from the keystore.
    pub(super) fn open_store(&self, keystore: &Keystore) -> anyhow::Result<SqliteStore> {
        let path = self.database();
        anyhow::ensure!(
            path.exists(),
            "{} is missing; run \"sluice control init\" or restore a backup",
            path.display()
        );
        SqliteStore::open(&path, &*ControlKeys::store_key(keystore)?)
    }
}
