//! `sluice control restore`: puts a backup where only the keys are, and makes sure that nothing older is believed.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::Read,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use anyhow::Context;
use serde_json::json;
use sluice_control_domain::{
    AuditEntry, ChangeSet, Commit, Load, PLATFORM, Record, RecordKey, Store, Stored, Tenant, Typed,
};
use sluice_control_server::ControlKeys;
use sluice_control_store_sqlite::SqliteStore;
use sluice_node_identity::{TenantId, UnixTime};

use super::{
    backup::{FORMAT, MANIFEST, Manifest, STORE, WALLET, digest, tenants},
    home::Home,
    init::publish_root,
};
use crate::config::control::ControlConfig;

/// Longest list of contents.
const MAX_MANIFEST: u64 = 4 * 1024 * 1024;
/// Where files lie until all of them were checked.
const STAGING: &str = ".restore";

/// Runs it.
pub(super) fn run(config: &ControlConfig, from: &Path) -> anyhow::Result<()> {
    let home = Home::new(&config.data_dir);
    refuse_used(&home)?;
    let keystore = home.open_keystore().context("put the keystore folder that was kept apart back first")?;
    let keystore = Arc::new(keystore);
    let staging = home.data_dir.join(STAGING);
    std::fs::create_dir(&staging).with_context(|| format!("cannot make {}", staging.display()))?;
    let done = unpack(config, from, &staging).and_then(|manifest| {
        let database = staging.join("0");
        let key = ControlKeys::store_key(&keystore)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(forget_the_past(&database, &key, manifest.made))?;
        put_in_place(&home, &staging, &manifest)?;
        publish_root(config, &home, &keystore)
    });
    std::fs::remove_dir_all(&staging).with_context(|| format!("cannot remove {}", staging.display()))?;
    done
}

/// Only keys may be there, and what nobody can believe without them.
fn refuse_used(home: &Home) -> anyhow::Result<()> {
    let entries = std::fs::read_dir(&home.data_dir)
        .with_context(|| format!("cannot read {}; it must hold the kept keystore", home.data_dir.display()))?;
    for entry in entries {
        let name = entry?.file_name();
        let kept = ["keystore", "wallet", "node-root.pem"].iter().any(|kept| name == *kept);
        anyhow::ensure!(
            kept,
            "{} already holds {}; a restore overwrites nothing: name a directory that holds only the kept keys",
            home.data_dir.display(),
            name.display()
        );
    }
    anyhow::ensure!(!home.wallet().join(WALLET).exists(), "the wallet already holds records; nothing was changed");
    Ok(())
}

/// Writes every file of the archive to `staging` under its number in the manifest, the store as number 0, and checks
/// each against the manifest.
fn unpack(config: &ControlConfig, from: &Path, staging: &Path) -> anyhow::Result<Manifest> {
    let file = File::open(from).with_context(|| format!("cannot open {}", from.display()))?;
    let mut archive = tar::Archive::new(file);
    let mut entries = archive.entries().context("not a backup")?;
    let first = entries.next().context("the backup is empty")?.context("not a backup")?;
    anyhow::ensure!(first.path()?.as_os_str() == MANIFEST, "not a backup of control");
    let mut manifest: Manifest =
        serde_json::from_reader(first.take(MAX_MANIFEST)).context("the backup's list of contents is damaged")?;
    anyhow::ensure!(
        manifest.format == FORMAT,
        "the backup has format {}; this release reads {FORMAT}",
        manifest.format
    );
    anyhow::ensure!(
        manifest.trust_domain == config.trust_domain,
        "the backup is of trust domain {}, the configuration says {}",
        manifest.trust_domain,
        config.trust_domain
    );
    manifest.files.sort_by_key(|entry| entry.name != STORE);
    anyhow::ensure!(manifest.files.first().is_some_and(|first| first.name == STORE), "the backup holds no store");
    let numbers: BTreeMap<String, usize> =
        manifest.files.iter().enumerate().map(|(number, entry)| (entry.name.clone(), number)).collect();
    anyhow::ensure!(numbers.len() == manifest.files.len(), "the backup's list of contents names a file twice");
    let mut seen = 0_usize;
    for entry in entries {
        let mut entry = entry.context("the backup is cut off")?;
        let name = entry.path()?.to_str().context("a name in the backup is not text")?.to_owned();
        let number = *numbers.get(&name).with_context(|| format!("the backup holds {name}, its list does not"))?;
        let listed = manifest.files.get(number).context("the backup's list is damaged")?;
        place(&home_for(&listed.name)?, &name)?;
        let path = staging.join(number.to_string());
        let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        std::io::copy(&mut (&mut entry).take(listed.length), &mut out).context("the backup is cut off")?;
        out.sync_all()?;
        let found = digest(&mut File::open(&path)?)?;
        let whole = found == (listed.length, listed.sha256.clone()) && entry.size() == listed.length;
        anyhow::ensure!(whole, "{name} in the backup is damaged; use another backup");
        seen = seen.saturating_add(1);
    }
    anyhow::ensure!(seen == manifest.files.len(), "the backup is incomplete; use another one");
    Ok(manifest)
}

/// Where a listed file belongs below the data directory.
fn home_for(name: &str) -> anyhow::Result<PathBuf> {
    match name {
        STORE => Ok(PathBuf::from("store").join(STORE)),
        WALLET => Ok(PathBuf::from("wallet").join(WALLET)),
        other => {
            let tenant = other.strip_prefix("cache/").and_then(|rest| rest.strip_suffix(".db"));
            // A tenant's name holds no path.
            let tenant: TenantId = tenant
                .and_then(|tenant| tenant.parse().ok())
                .with_context(|| format!("the backup lists {other}, which no control keeps"))?;
            Ok(PathBuf::from("cache").join(format!("{tenant}.db")))
        }
    }
}

fn place(path: &Path, name: &str) -> anyhow::Result<()> {
    anyhow::ensure!(path.is_relative(), "{name} would leave the data directory");
    Ok(())
}

/// State feeds jump ahead; each tenant's allow-lists get an epoch that was never used before.
async fn forget_the_past(database: &Path, key: &[u8; 32], made: UnixTime) -> anyhow::Result<()> {
    SqliteStore::after_restore(database, key).context("the store in the backup does not open with this keystore")?;
    let store = SqliteStore::open(database, key)?;
    let now = UnixTime::from(SystemTime::now());
    for tenant in tenants(&store).await? {
        raise_epoch(&store, &tenant, now, made).await?;
    }
    let audit = entry(now, made, "control");
    let committed = store.commit(ChangeSet::default().audit(audit)).await?;
    anyhow::ensure!(committed == Commit::Done, "the restore could not be recorded");
    Ok(())
}

async fn raise_epoch(store: &SqliteStore, tenant: &TenantId, now: UnixTime, made: UnixTime) -> anyhow::Result<()> {
    let key = RecordKey { kind: Tenant::KIND, tenant: PLATFORM.to_owned(), id: tenant.to_string() };
    let found = store.load(Load::Keys(vec![key])).await?;
    let before: Typed<Tenant> = found.into_iter().next().map(Stored::typed).transpose()?.context("a tenant is gone")?;
    // The clock, not just one more: two restores of one backup must not sign different lists under one epoch.
    let policy_epoch = before.body.policy_epoch.saturating_add(1).max(now.0);
    let after = Tenant { policy_epoch, ..before.body.clone() };
    let set = ChangeSet::of(tenant).update(&before, &after).audit(entry(now, made, &format!("tenant/{tenant}")));
    anyhow::ensure!(store.commit(set).await? == Commit::Done, "tenant {tenant} could not be updated");
    Ok(())
}

fn entry(now: UnixTime, made: UnixTime, subject: &str) -> AuditEntry {
    let (actor, act) = ("root".to_owned(), "control.restore".to_owned());
    AuditEntry { at: now, actor, act, subject: subject.to_owned(), detail: json!({ "backup_made": made }) }
}

fn put_in_place(home: &Home, staging: &Path, manifest: &Manifest) -> anyhow::Result<()> {
    home.make()?;
    for (number, entry) in manifest.files.iter().enumerate() {
        let to = home.data_dir.join(home_for(&entry.name)?);
        if entry.name == WALLET {
            let folder = home.wallet();
            anyhow::ensure!(folder.join("kek").exists(), "put the kept wallet folder (kek, tenants) back first");
        }
        std::fs::rename(staging.join(number.to_string()), &to)
            .with_context(|| format!("cannot put {} in place", to.display()))?;
    }
    tracing::warn!(
        files = manifest.files.len(),
        "restored; nodes that renewed their key since the backup are refused until each has a new join code \
         (sluice admin node code), and what was revoked since then must be revoked again"
    );
    Ok(())
}
