//! `sluice control`: starts every part, wires them to each other, serves until told to stop.

use std::{
    net::{SocketAddr, TcpListener},
    os::unix::net::UnixListener,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::Context;
use sluice_control_domain::Store;
use sluice_control_keystore::Keystore;
use sluice_control_server::{
    ControlKeys, FeedService, IntegrationService, ListenerSettings, Names, Rooms, ServerParts, Streams, Tunnels,
    admin_api::AdminState,
    console,
    pages::{self, PagesState},
    serve,
};
use sluice_control_store_sqlite::SqliteStore;
use sluice_control_wallet_daemon::WalletClients;
use sluice_control_workers::{Parts, SqliteCache, TenantKeys, Workers};
use sluice_node_identity::UnixTime;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{sync::watch, task::JoinHandle};

use super::{
    break_glass, handed_over,
    home::Home,
    reach::Sealed,
    services::{Chains, DataKeys, Services, Wallet},
    wallet,
};
use crate::{
    config::control::ControlConfig,
    confine::{self, Profile, User},
    node,
};

/// Connections the kernel holds before we accept them.
const BACKLOG: i32 = 1024;
/// Files that are kept for everything but connections.
const FILES_KEPT: usize = 512;
/// A peer that takes nothing for so long is gone (RFC 5482); so is one whose line went dead.
const UNACKNOWLEDGED: Duration = Duration::from_secs(60);
/// How often the wallet's process is looked at.
const WATCH_WALLET: Duration = Duration::from_millis(500);
/// Name of the key of form tokens in the keystore.
const FORMS: &str = "pages/forms";

/// The node API's address as it stands in join codes.
pub(super) fn node_url(config: &ControlConfig) -> String {
    format!("https://{}:{}", config.names.node, config.advertised_address.port())
}

/// Runs it until SIGTERM.
pub(super) fn run(config: &ControlConfig) -> anyhow::Result<()> {
    let home = Home::new(&config.data_dir);
    // Before anything is bound: a control that cannot open its keys must not look as if it ran.
    home.open_keystore()?;
    home.make()?;
    let sockets = config.listen.iter().map(|address| bind(*address)).collect::<anyhow::Result<Vec<_>>>()?;
    let door = bind_door(&home)?;
    let wallet = wallet::start(config, &home)?;
    let connections = affordable(config.limits.connections, node::open_files()?);
    // Read before privileges go: others may run as the account that control becomes.
    let starter = nix::unistd::geteuid().as_raw();
    confine(config, &home)?;
    let parts = Started { sockets, door, starter, wallet, connections };
    let served = node::runtime()?.block_on(start(config, &home, parts));
    tracing::info!("control has ended");
    served
}

/// So many connections that files are never used up: the store, caches and calls to gateways need some, and the
/// store must not fail because strangers call.
fn affordable(wanted: u32, files: usize) -> usize {
    let most = files.saturating_sub(FILES_KEPT).max(1);
    if count(wanted) > most {
        tracing::warn!(wanted, most, "limits.connections is more than the limit on open files allows; raise that one");
    }
    count(wanted).min(most)
}

/// A listening socket that leaves IPv4 to its own: `[::]` and `0.0.0.0` may both be named.
fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let context = || format!("cannot listen on {address}");
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP)).with_context(context)?;
    if address.is_ipv6() {
        socket.set_only_v6(true).with_context(context)?;
    }
    socket.set_reuse_address(true).with_context(context)?;
    // Accepted connections take it over (tcp(7)).
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED)).with_context(context)?;
    socket.set_nonblocking(true).with_context(context)?;
    socket.bind(&address.into()).with_context(context)?;
    socket.listen(BACKLOG).with_context(context)?;
    tracing::info!(%address, "listening");
    Ok(socket.into())
}

/// `control.sock`, mode 0600 by the process's umask. One left by a control that was killed is replaced; a live one is
/// not: two controls on one data directory would be one too many.
fn bind_door(home: &Home) -> anyhow::Result<UnixListener> {
    let path = home.socket();
    anyhow::ensure!(
        std::os::unix::net::UnixStream::connect(&path).is_err(),
        "another control runs on {}",
        home.data_dir.display()
    );
    match std::fs::remove_file(&path) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("cannot replace {}", path.display())),
    }
    let door = UnixListener::bind(&path).with_context(|| format!("cannot make {}", path.display()))?;
    door.set_nonblocking(true)?;
    Ok(door)
}

/// Keeps the store, the caches and the keystore; the wallet's folder is not among them.
fn confine(config: &ControlConfig, home: &Home) -> anyhow::Result<()> {
    let user = User::named(&config.user)?;
    let folders = [home.keystore(), home.store(), home.caches()];
    for folder in &folders {
        user.own(folder)?;
    }
    confine::apply(&Profile { role: "control", write: folders.to_vec(), user: Some(user), ..Profile::default() })
}

/// What was made while control still had its privileges.
struct Started {
    sockets: Vec<TcpListener>,
    door: UnixListener,
    /// Account that started control.
    starter: u32,
    wallet: WalletClients,
    /// Connections at a time.
    connections: usize,
}

async fn start(config: &ControlConfig, home: &Home, started: Started) -> anyhow::Result<()> {
    let Started { sockets, door, starter, wallet, connections } = started;
    let stop = node::shutdown()?;
    let keystore = Arc::new(home.open_keystore()?);
    let forms = forms_key(&keystore)?;
    let store = Arc::new(home.open_store(&keystore)?);
    let keys = Arc::new(ControlKeys::open(Arc::clone(&keystore), config.trust_domain.clone(), node_url(config))?);
    handed_over::forget(store.as_ref(), &keys).await?;
    let tunnels = Arc::new(Tunnels::default());
    let wallet = Arc::new(wallet);
    let workers = workers(home, &store, &keys, &tunnels, &keystore, &wallet)?;
    let schedule = scheduled(Arc::clone(&workers), stop.clone());
    let door = tokio::net::UnixListener::from_std(door)?;
    let door = tokio::spawn(break_glass::serve(door, Arc::clone(&store) as Arc<dyn Store>, starter));
    let names = Names {
        node: config.names.node.clone(),
        console: config.names.console.clone(),
        pages: config.names.pages.clone(),
    };
    let streams = Arc::new(Streams::default());
    let rooms = rooms(&store, &keys, workers, &streams, &forms, names.clone());
    let parts = ServerParts {
        store: Arc::clone(&store) as Arc<dyn Store>,
        keys,
        tunnels,
        streams,
        advertised: config.advertised_address.to_string(),
        clock: Arc::new(now),
    };
    let settings = ListenerSettings {
        names,
        proxy_from: config.proxy_from.clone(),
        connections,
        connections_per_address: count(config.limits.connections_per_address),
    };
    let sockets = sockets.into_iter().map(tokio::net::TcpListener::from_std).collect::<Result<Vec<_>, _>>()?;
    tracing::info!("control serves");
    let served = tokio::select! {
        served = serve(sockets, parts, settings, rooms, stop) => served,
        // Whoever supervises control starts both anew; a control without wallet would only seem to work.
        lost = lost(&wallet) => Err(lost.context("control ends, for it has lost the wallet")),
    };
    door.abort();
    if served.is_err() {
        schedule.abort();
        return served;
    }
    schedule.await.context("the schedule died")?;
    end_wallet(wallet);
    served
}

fn count(limit: u32) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

fn now() -> UnixTime {
    UnixTime::from(SystemTime::now())
}

fn forms_key(keystore: &Keystore) -> anyhow::Result<[u8; 32]> {
    if !keystore.contains(FORMS)? {
        let mut key = zeroize::Zeroizing::new([0; 32]);
        aws_lc_rs::rand::fill(key.as_mut()).context("the operating system gives no randomness")?;
        keystore.put(FORMS, key.as_ref())?;
    }
    keystore.secret(FORMS)?.as_slice().try_into().context("the key of form tokens is damaged")
}

fn workers(
    home: &Home,
    store: &Arc<SqliteStore>,
    keys: &Arc<ControlKeys>,
    tunnels: &Arc<Tunnels>,
    keystore: &Arc<Keystore>,
    wallet: &Arc<WalletClients>,
) -> anyhow::Result<Arc<Workers>> {
    let data_keys: Arc<dyn TenantKeys> = Arc::new(DataKeys(Arc::clone(keystore)));
    let store = Arc::clone(store) as Arc<dyn Store>;
    let mut process = [0; 8];
    aws_lc_rs::rand::fill(&mut process).context("the operating system gives no randomness")?;
    Ok(Workers::new(Parts {
        cache: Arc::new(SqliteCache::new(&home.caches(), Arc::clone(&data_keys))?),
        reach: Arc::new(Sealed::new(Arc::clone(&store), Arc::clone(tunnels), Arc::clone(keys))?),
        credentials: Arc::new(Wallet::new(Arc::clone(wallet))),
        keys: data_keys,
        process: process.iter().map(|byte| format!("{byte:02x}")).collect(),
        store,
    }))
}

fn scheduled(workers: Arc<Workers>, mut stop: watch::Receiver<bool>) -> JoinHandle<()> {
    tokio::spawn(workers.run_schedule(async move {
        // The sender lives as long as the process; were it gone, stopping would be right too.
        let _gone = stop.wait_for(|stop| *stop).await.is_err();
    }))
}

fn rooms(
    store: &Arc<SqliteStore>,
    keys: &Arc<ControlKeys>,
    workers: Arc<Workers>,
    streams: &Arc<Streams>,
    forms: &[u8; 32],
    names: Names,
) -> Rooms {
    let services = Arc::new(Services(workers));
    let store_dyn = || Arc::clone(store) as Arc<dyn Store>;
    let admin = AdminState::new(
        store_dyn(),
        Arc::clone(keys) as Arc<_>,
        Arc::new(Chains(Arc::clone(store))),
        Arc::clone(&services) as Arc<dyn IntegrationService>,
        Arc::clone(streams),
        Arc::new(now),
        names,
    );
    let users = PagesState::new(store_dyn(), services as Arc<dyn FeedService>, Arc::new(now), forms);
    Rooms { console: console::router(admin), pages: pages::router(users) }
}

/// Returns once the wallet is lost.
async fn lost(wallet: &WalletClients) -> anyhow::Error {
    loop {
        if let Some(reason) = wallet.lost() {
            return anyhow::Error::msg(reason);
        }
        tokio::time::sleep(WATCH_WALLET).await;
    }
}

/// Closes the wallet's sockets and waits for its process.
fn end_wallet(wallet: Arc<WalletClients>) {
    // Nothing comes out while a request that is being cut off still holds it; it ends with this process then.
    if let Some(Err(error)) = Arc::into_inner(wallet).map(WalletClients::end) {
        tracing::warn!("the wallet did not end well: {error:#}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_never_use_up_the_open_files() {
        assert_eq!(affordable(10_000, 1_048_576), 10_000);
        assert_eq!(affordable(10_000, 1_024), 1_024 - FILES_KEPT);
        assert_eq!(affordable(10_000, 100), 1);
    }
}
