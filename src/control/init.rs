//! `sluice control init`: keys, certificate authority, store, and the one link by which the first owner gets in.

use std::{
    fs::OpenOptions,
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
    sync::Arc,
    time::SystemTime,
};

use anyhow::Context;
use serde_json::json;
use sluice_control_domain::{AuditEntry, ChangeSet, Commit, Store};
use sluice_control_keystore::Keystore;
use sluice_control_server::{
    ControlKeys,
    admin_api::{LINK_SECONDS, new_link},
};
use sluice_control_store_sqlite::SqliteStore;
use sluice_node_identity::UnixTime;

use super::{home::Home, run::node_url};
use crate::config::control::ControlConfig;

/// Runs it. A data directory that holds anything is left alone.
pub(super) fn run(config: &ControlConfig, link_file: Option<&Path>) -> anyhow::Result<()> {
    let home = Home::new(&config.data_dir);
    refuse_used(&home)?;
    // Opened first: a link that cannot be handed over must not be made.
    let link_out = link_file.map(new_secret_file).transpose()?;
    home.make()?;
    let now = UnixTime::from(SystemTime::now());
    let keystore = Arc::new(Keystore::create(&home.keystore())?);
    ControlKeys::create(&keystore, now)?;
    publish_root(config, &home, &keystore)?;
    let store = SqliteStore::open(&home.database(), &*ControlKeys::store_key(&keystore)?)?;
    let (link, secret) = new_link(None, now).map_err(|error| anyhow::anyhow!(error.message))?;
    let audit = AuditEntry {
        at: now,
        actor: "root".to_owned(),
        act: "control.init".to_owned(),
        subject: "control".to_owned(),
        detail: json!({ "trust_domain": config.trust_domain }),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let committed = runtime.block_on(store.commit(ChangeSet::default().create(&link).audit(audit)))?;
    anyhow::ensure!(committed == Commit::Done, "the new store already holds an owner link; empty the data directory");
    // The store's writer holds the file open until it is dropped.
    drop(store);
    hand_over(&secret, link_out)
}

/// Writes the node root's certificate where administrators find it. It is public.
pub(super) fn publish_root(config: &ControlConfig, home: &Home, keystore: &Arc<Keystore>) -> anyhow::Result<()> {
    let keys = ControlKeys::open(Arc::clone(keystore), config.trust_domain.clone(), node_url(config))?;
    let path = home.node_root();
    std::fs::write(&path, keys.node_root().pem()).with_context(|| format!("cannot write {}", path.display()))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).context("cannot publish the node root")
}

fn refuse_used(home: &Home) -> anyhow::Result<()> {
    let used = match std::fs::read_dir(&home.data_dir) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", home.data_dir.display())),
    };
    anyhow::ensure!(
        !used,
        "{} is not empty; name a new directory as data_dir, nothing was changed",
        home.data_dir.display()
    );
    Ok(())
}

fn new_secret_file(path: &Path) -> anyhow::Result<std::fs::File> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.with_context(|| format!("cannot write {}; it must not exist yet", path.display()))
}

fn hand_over(secret: &str, file: Option<std::fs::File>) -> anyhow::Result<()> {
    let minutes = LINK_SECONDS / 60;
    tracing::info!("start control within {minutes} minutes, then: sluice admin owner claim --link-file …");
    let line = format!("{secret}\n");
    match file {
        Some(mut file) => {
            file.write_all(line.as_bytes()).and_then(|()| file.sync_all()).context("cannot write the link")
        }
        None => std::io::stdout().lock().write_all(line.as_bytes()).context("standard output is closed"),
    }
}
