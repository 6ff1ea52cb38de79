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

/// Serves the door until the task is dropped.
pub(super) async fn serve(listener: UnixListener, store: Arc<dyn Store>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => match timeout(PATIENCE, visit(stream, &*store)).await {
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

async fn visit(mut stream: tokio::net::UnixStream, store: &dyn Store) -> anyhow::Result<()> {
    let uid = stream.peer_cred().context("no credentials")?.uid();
    anyhow::ensure!(may_enter(uid), "uid {uid} is neither root nor control's own account");
    let mut request = [0; OWNER_LINK.len()];
    stream.read_exact(&mut request).await.context("no request")?;
    anyhow::ensure!(request == *OWNER_LINK, "not a request this door knows");
    let secret = renew(store, uid).await?;
    stream.write_all(format!("{secret}\n").as_bytes()).await.context("the visitor left")?;
    stream.shutdown().await.context("the visitor left")
}

fn may_enter(uid: u32) -> bool {
    uid == 0 || uid == nix::unistd::geteuid().as_raw()
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
    use super::*;

    #[test]
    fn only_root_and_the_services_own_account_may_enter() {
        let own = nix::unistd::geteuid().as_raw();
        assert!(may_enter(0) && may_enter(own));
        assert!(!may_enter(own.wrapping_add(54_321)));
    }
}
