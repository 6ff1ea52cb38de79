//! `sluice control backup`: store, caches and wallet records, each a consistent copy, all still sealed; no key.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use anyhow::Context;
use aws_lc_rs::digest::{Context as Digest, SHA256};
use serde::{Deserialize, Serialize};
use sluice_control_domain::{Load, PLATFORM, Record, Store, Tenant};
use sluice_control_store_sqlite::SqliteStore;
use sluice_control_workers::backup_cache;
use sluice_node_identity::{TenantId, TrustDomain, UnixTime};

use super::{home::Home, services::DataKeys};
use crate::config::control::ControlConfig;

/// Name of the list of contents, the archive's first entry.
pub(super) const MANIFEST: &str = "manifest.json";
/// Name of the store in the archive.
pub(super) const STORE: &str = "control.db";
/// Name of the wallet's records in the archive.
pub(super) const WALLET: &str = "wallet.db";
/// Most tenants of one control, as in the admin API.
const MAX_TENANTS: u32 = 1000;
/// Shape of the archive.
pub(super) const FORMAT: u32 = 1;

/// What an archive holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    /// [`FORMAT`].
    pub(super) format: u32,
    /// Whose control.
    pub(super) trust_domain: TrustDomain,
    /// When.
    pub(super) made: UnixTime,
    /// What.
    pub(super) files: Vec<Entry>,
}

/// One file of an archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    /// [`STORE`], [`WALLET`] or `cache/<tenant>.db`.
    pub(super) name: String,
    /// Bytes.
    pub(super) length: u64,
    /// SHA-256, hex.
    pub(super) sha256: String,
}

/// Runs it.
pub(super) fn run(config: &ControlConfig, to: &Path) -> anyhow::Result<()> {
    let home = Home::new(&config.data_dir);
    let keystore = Arc::new(home.open_keystore()?);
    let archive = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to);
    let archive = archive.with_context(|| format!("cannot write {}; it must not exist yet", to.display()))?;
    // Copies lie beside the archive while it is made: there is room for one, so there is room for two.
    let folder = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let staging = Staging::beside(folder)?;
    let made = collect(&home, &keystore, &staging).and_then(|files| write(config, archive, &files));
    if made.is_err() {
        // Half an archive would be taken for a whole one some day.
        std::fs::remove_file(to).with_context(|| format!("cannot remove the unfinished {}", to.display()))?;
    }
    made
}

/// A folder that goes away.
struct Staging(PathBuf);

impl Staging {
    fn beside(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(format!(".sluice-backup-{}", std::process::id()));
        std::fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!("{} is left over: {error}", self.0.display());
        }
    }
}

fn collect(
    home: &Home,
    keystore: &Arc<sluice_control_keystore::Keystore>,
    staging: &Staging,
) -> anyhow::Result<Vec<(String, PathBuf)>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let store = home.open_store(keystore)?;
    let mut files = Vec::new();
    // Caches first: a card in the store whose row is not yet in the cache is only hidden, the other way round a row
    // would wait for a card that was already delivered.
    let keys = DataKeys(Arc::clone(keystore));
    for tenant in runtime.block_on(tenants(&store))? {
        let name = format!("cache/{tenant}.db");
        let copy = staging.0.join(format!("cache-{tenant}"));
        if backup_cache(&home.caches(), &tenant, &keys, &copy).with_context(|| format!("cache of {tenant}"))? {
            files.push((name, copy));
        }
    }
    if home.wallet().join(WALLET).exists() {
        let copy = staging.0.join(WALLET);
        sluice_control_wallet_daemon::backup(&home.wallet(), &copy).context("the wallet's records")?;
        files.push((WALLET.to_owned(), copy));
    }
    let copy = staging.0.join(STORE);
    runtime.block_on(store.backup_to(&copy)).context("the store")?;
    files.push((STORE.to_owned(), copy));
    Ok(files)
}

/// All tenants of a store.
pub(super) async fn tenants(store: &SqliteStore) -> anyhow::Result<Vec<TenantId>> {
    let scan = Load::Scan { kind: Tenant::KIND, tenant: PLATFORM.to_owned(), after: None, limit: MAX_TENANTS };
    let found = store.load(scan).await?;
    found.into_iter().map(|stored| Ok(stored.typed::<Tenant>()?.body.id)).collect()
}

fn write(config: &ControlConfig, archive: File, files: &[(String, PathBuf)]) -> anyhow::Result<()> {
    let mut entries = Vec::with_capacity(files.len());
    for (name, path) in files {
        let (length, sha256) = digest(&mut File::open(path)?)?;
        entries.push(Entry { name: name.clone(), length, sha256 });
    }
    let made = UnixTime::from(SystemTime::now());
    let manifest = Manifest { format: FORMAT, trust_domain: config.trust_domain.clone(), made, files: entries };
    let text = serde_json::to_vec_pretty(&manifest)?;
    let mut tar = tar::Builder::new(archive);
    append(&mut tar, MANIFEST, text.len() as u64, text.as_slice())?;
    for ((name, path), entry) in files.iter().zip(&manifest.files) {
        append(&mut tar, name, entry.length, File::open(path)?)?;
    }
    let mut archive = tar.into_inner().context("cannot finish the archive")?;
    archive.flush().and_then(|()| archive.sync_all()).context("cannot write the archive to disk")?;
    tracing::info!(files = files.len(), "backup written; the keys are not in it");
    Ok(())
}

fn append(tar: &mut tar::Builder<File>, name: &str, length: u64, content: impl Read) -> anyhow::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(length);
    header.set_mode(0o600);
    header.set_cksum();
    tar.append_data(&mut header, name, content).with_context(|| format!("cannot write {name} into the archive"))
}

/// Length and SHA-256 of what `content` still gives.
pub(super) fn digest(content: &mut impl Read) -> anyhow::Result<(u64, String)> {
    let (mut digest, mut length, mut buffer) = (Digest::new(&SHA256), 0_u64, vec![0; 64 * 1024]);
    loop {
        let read = content.read(&mut buffer)?;
        let Some(part) = buffer.get(..read).filter(|part| !part.is_empty()) else { break };
        digest.update(part);
        length = length.saturating_add(part.len() as u64);
    }
    Ok((length, digest.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()))
}
