//! `control.sock`: the door for whoever already owns the machine. It gives a new owner link and audits it.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::Context;
use serde_json::json;
use sluice_control_domain::{AuditEntry, ChangeSet, Commit, Load, OwnerLink, PLATFORM, Record, RecordKey, Store};
use sluice_control_server::admin_api::new_link;
use sluice_node_identity::UnixTime;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixListener,
    time::timeout,
};

use super::home::Home;
use crate::config::control::ControlConfig;

/// The one request.
const OWNER_LINK: &[u8; 11] = b"owner-link\n";
/// A visitor who takes longer is sent away; there is one at a time.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest answer.
const MAX_ANSWER: u64 = 1024;

/// Serves the door until the task is dropped, for root and for `starter`, the account that control was started by.
pub(super) async fn serve(listener: UnixListener, store: Arc<dyn Store>, starter: u32) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => match timeout(PATIENCE, visit(stream, &*store, starter)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!("a visitor of control.sock was refused: {error:#}"),
                Err(_) => tracing::warn!("a visitor of control.sock said nothing"),
            },
            Err(error) => {
                tracing::warn!(%error, "control.sock cannot accept");
                tokio::time::sleep(PATIENCE).await;
            }
        }
    }
}

async fn visit(mut stream: tokio::net::UnixStream, store: &dyn Store, starter: u32) -> anyhow::Result<()> {
    let uid = stream.peer_cred().context("no credentials")?.uid();
    anyhow::ensure!(uid == 0 || uid == starter, "uid {uid} is neither root nor the account that started control");
    let mut request = [0; OWNER_LINK.len()];
    stream.read_exact(&mut request).await.context("no request")?;
    anyhow::ensure!(request == *OWNER_LINK, "not a request this door knows");
    let secret = renew(store, uid).await?;
    stream.write_all(format!("{secret}\n").as_bytes()).await.context("the visitor left")?;
    stream.shutdown().await.context("the visitor left")
}

async fn renew(store: &dyn Store, uid: u32) -> anyhow::Result<String> {
    let now = UnixTime::from(SystemTime::now());
    let key = RecordKey { kind: OwnerLink::KIND, tenant: PLATFORM.to_owned(), id: "owner".to_owned() };
    let found = store.load(Load::Keys(vec![key])).await?;
    let before = found.into_iter().next().map(sluice_control_domain::Stored::typed::<OwnerLink>).transpose()?;
    let (link, secret) = new_link(before.as_ref(), now).map_err(|error| anyhow::anyhow!(error.message))?;
    let audit = AuditEntry {
        at: now,
        actor: "root".to_owned(),
        act: "owner.link".to_owned(),
        subject: "owner".to_owned(),
        detail: json!({ "uid": uid, "valid_until": link.valid_until }),
    };
    let set = match &before {
        Some(before) => ChangeSet::default().update(before, &link),
        None => ChangeSet::default().create(&link),
    };
    let committed = store.commit(set.audit(audit)).await?;
    anyhow::ensure!(committed == Commit::Done, "the owner link was changed at the same moment; ask again");
    tracing::warn!(uid, "a new owner link was made over control.sock");
    Ok(secret)
}

/// `sluice control owner-link`: asks the running control.
pub(super) fn ask(config: &ControlConfig) -> anyhow::Result<()> {
    let path = Home::new(&config.data_dir).socket();
    let mut stream = UnixStream::connect(&path)
        .with_context(|| format!("cannot open {}; is control running, and are you root?", path.display()))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(OWNER_LINK).context("control does not listen")?;
    let mut answer = String::new();
    stream.take(MAX_ANSWER).read_to_string(&mut answer).context("control does not answer")?;
    anyhow::ensure!(answer.ends_with('\n'), "control refused; its log says why");
    std::io::stdout().lock().write_all(answer.as_bytes()).context("standard output is closed")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

    use sluice_control_store_sqlite::SqliteStore;

    use super::*;

    /// What a visitor of a control that was started by `starter` hears.
    async fn answer(starter: u32) -> String {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(SqliteStore::open(&dir.path().join("store.db"), &[1; 32]).unwrap());
        let path = dir.path().join("door");
        let door = tokio::spawn(serve(UnixListener::bind(&path).unwrap(), store, starter));
        let mut visitor = tokio::net::UnixStream::connect(&path).await.unwrap();
        visitor.write_all(OWNER_LINK).await.unwrap();
        let mut told = String::new();
        // A refused visitor may find the connection broken.
        drop(visitor.read_to_string(&mut told).await);
        door.abort();
        told
    }

    #[tokio::test]
    async fn whoever_started_control_may_enter_and_another_account_only_as_root() {
        let own = nix::unistd::geteuid();
        assert!(answer(own.as_raw()).await.starts_with("slo1_"));
        let told = answer(own.as_raw().wrapping_add(54_321)).await;
        assert_eq!(told.starts_with("slo1_"), own.is_root(), "{told}");
    }
}
