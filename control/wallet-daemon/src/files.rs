//! The wallet's key files: the KEK and each tenant's sealed key, outside the database so that no backup holds them.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail, ensure};
use aws_lc_rs::rand;
use sluice_control_wallet::{Key, open_tenant_key, seal_tenant_key};
use sluice_node_identity::TenantId;
use zeroize::Zeroizing;

/// Name of the database within the wallet's folder.
pub(crate) const DATABASE: &str = "wallet.db";

/// Key files of one wallet.
pub(crate) struct KeyFiles {
    dir: PathBuf,
    kek: Key,
}

impl KeyFiles {
    /// Opens the folder, making it and its KEK when there is no wallet yet.
    pub(crate) fn open(dir: &Path) -> anyhow::Result<Self> {
        make_dir(dir)?;
        make_dir(&dir.join("tenants"))?;
        let path = dir.join("kek");
        let kek = match fs::metadata(&path) {
            Ok(_) => read_kek(&path)?,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                if dir.join(DATABASE).exists() {
                    bail!("{} is missing beside an existing wallet; put the right key file back", path.display());
                }
                let kek = random_key()?;
                write_private(&path, kek.bytes())?;
                kek
            }
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        Ok(Self { dir: dir.to_owned(), kek })
    }

    /// A tenant's key; `None` when it has none yet.
    pub(crate) fn tenant(&self, tenant: &TenantId) -> anyhow::Result<Option<Key>> {
        let path = self.path(tenant);
        match fs::read(&path) {
            Ok(sealed) => Ok(Some(open_tenant_key(&self.kek, tenant, &sealed).context("tenant key")?)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| path.display().to_string()),
        }
    }

    /// Makes a tenant's key; durable before it returns.
    pub(crate) fn make_tenant(&self, tenant: &TenantId) -> anyhow::Result<Key> {
        let key = random_key()?;
        let mut nonce = [0; 12];
        rand::fill(&mut nonce).context("no random bytes")?;
        write_private(&self.path(tenant), &seal_tenant_key(&self.kek, tenant, &key, nonce)?)?;
        Ok(key)
    }

    fn path(&self, tenant: &TenantId) -> PathBuf {
        self.dir.join("tenants").join(format!("{tenant}.key"))
    }
}

/// Makes a file that only its owner can read; SQLite gives its journals the same rights. `fresh`: it must not exist.
pub(crate) fn own_file(path: &Path, fresh: bool) -> anyhow::Result<()> {
    let mut options = OpenOptions::new();
    options.append(true).create(!fresh).create_new(fresh).mode(0o600);
    options.open(path).map(drop).with_context(|| path.display().to_string())
}

/// 32 random bytes.
pub(crate) fn random_key() -> anyhow::Result<Key> {
    let mut bytes = Zeroizing::new([0; 32]);
    rand::fill(bytes.as_mut()).context("no random bytes")?;
    Ok(Key::new(*bytes))
}

fn make_dir(dir: &Path) -> anyhow::Result<()> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(error).with_context(|| dir.display().to_string());
        }
        _ => {}
    }
    let mode = fs::metadata(dir).with_context(|| dir.display().to_string())?.permissions().mode();
    ensure!(mode & 0o077 == 0, "{} is open to others; chmod it to 0700", dir.display());
    Ok(())
}

fn read_kek(path: &Path) -> anyhow::Result<Key> {
    let mode = fs::metadata(path)?.permissions().mode();
    ensure!(mode & 0o077 == 0, "{} is open to others; chmod it to 0600", path.display());
    let bytes = Zeroizing::new(fs::read(path).with_context(|| path.display().to_string())?);
    Key::from_slice(&bytes).with_context(|| format!("{} is not 32 bytes long", path.display()))
}

/// Writes beside, syncs, renames, syncs the folder: there is the old file or the new one, never a half.
fn write_private(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let beside = path.with_extension("new");
    let parent = path.parent().unwrap_or(path);
    let context = || path.display().to_string();
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside).with_context(context)?;
    file.write_all(bytes).with_context(context)?;
    file.sync_all().with_context(context)?;
    fs::rename(&beside, path).with_context(context)?;
    File::open(parent).and_then(|dir| dir.sync_all()).with_context(context)
}
