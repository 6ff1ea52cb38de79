//! Real parts around the workers: store, caches and wallet in a folder.

use std::{
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    sync::Arc,
    thread,
};

use async_trait::async_trait;
use sluice_control_domain::{ChangeSet, Commit, Integration, Store, Tenant, UserRecord, UserRole};
use sluice_control_store_sqlite::SqliteStore;
use sluice_control_wallet::{Credential, Grant, Owner};
use sluice_control_wallet_daemon::{Client, WalletError, run};
use sluice_control_workers::{
    BoxedIo, Cache, Credentials, CredentialsError, KeyError, Parts, Reach, ReachError, SqliteCache, TenantKeys, Workers,
};
use sluice_node_identity::{IntegrationId, ResourceId, TenantId, UnixTime, UserId};

pub const ROUNDUP: &str = include_str!("../../../../integrations/roundup.toml");

/// Keys that depend on tenant and purpose.
pub struct Keys;

impl TenantKeys for Keys {
    fn derive(&self, tenant: &TenantId, info: &str) -> Result<[u8; 32], KeyError> {
        let mut key = [7; 32];
        key.iter_mut().zip(format!("{tenant}/{info}").bytes()).for_each(|(to, from)| *to = from);
        Ok(key)
    }
}

/// Every resource is at one address.
pub struct Dial(pub std::net::SocketAddr);

#[async_trait]
impl Reach for Dial {
    async fn open(&self, _: &TenantId, resource: &ResourceId, sub: &str) -> Result<BoxedIo, ReachError> {
        assert_eq!(resource.as_str(), "roundup");
        assert!(sub.starts_with("user/") || sub == "service/sync-roundup", "{sub}");
        let stream = tokio::net::TcpStream::connect(self.0).await.map_err(|error| ReachError(error.to_string()))?;
        Ok(Box::new(stream))
    }
}

/// The wallet's three sockets.
pub struct Wallet {
    sync: Client,
    actions: Client,
    admin: Client,
}

impl Wallet {
    /// Served by a thread of this process.
    pub fn start(dir: &Path) -> Self {
        let (ours, theirs): (Vec<_>, Vec<_>) = Grant::ALL.map(|_| UnixStream::pair().unwrap()).into_iter().unzip();
        let fds = theirs.into_iter().map(OwnedFd::from).zip(Grant::ALL).collect();
        let dir = dir.join("wallet");
        thread::spawn(move || run(&dir, fds).unwrap());
        let mut clients = ours.into_iter().map(|stream| Client::new(stream).unwrap());
        let mut next = || clients.next().unwrap();
        Self { sync: next(), actions: next(), admin: next() }
    }
}

fn shown(error: WalletError) -> CredentialsError {
    CredentialsError(error.to_string())
}

#[async_trait]
impl Credentials for Wallet {
    async fn service(&self, t: &TenantId, i: &IntegrationId) -> Result<Option<Credential>, CredentialsError> {
        self.sync.read_service(t, i).map_err(shown)
    }

    async fn user(&self, t: &TenantId, i: &IntegrationId, u: &UserId) -> Result<Option<Credential>, CredentialsError> {
        self.actions.read_user(t, i, u).map_err(shown)
    }

    async fn put(&self, t: &TenantId, i: &IntegrationId, o: &Owner, c: Credential) -> Result<(), CredentialsError> {
        self.admin.write(t, i, o, c).map_err(shown)
    }

    async fn exists(&self, t: &TenantId, i: &IntegrationId, o: &Owner) -> Result<bool, CredentialsError> {
        self.admin.exists(t, i, o).map_err(shown)
    }
}

pub fn acme() -> TenantId {
    "acme".parse().unwrap()
}

pub fn roundup() -> IntegrationId {
    "roundup".parse().unwrap()
}

pub fn user(name: &str) -> UserRecord {
    UserRecord {
        tenant: acme(),
        id: name.parse().unwrap(),
        email: format!("{name}@acme.test"),
        display_name: name.to_owned(),
        password_hash: String::new(),
        groups: vec![],
        role: UserRole::User,
        disabled: false,
        created: UnixTime(1),
    }
}

pub fn store(dir: &Path) -> Arc<dyn Store> {
    Arc::new(SqliteStore::open(&dir.join("control.db"), &[1; 32]).unwrap())
}

pub fn cache(dir: &Path) -> Arc<dyn Cache> {
    Arc::new(SqliteCache::new(&dir.join("cache"), Arc::new(Keys)).unwrap())
}

/// Workers over what is in `dir`.
pub fn workers(dir: &Path, store: Arc<dyn Store>, cache: Arc<dyn Cache>, reach: impl Reach + 'static) -> Arc<Workers> {
    let credentials = Arc::new(Wallet::start(dir));
    let process = format!("test-{}", std::process::id());
    Workers::new(Parts { store, cache, reach: Arc::new(reach), credentials, keys: Arc::new(Keys), process })
}

/// A tenant with its users and the shipped integration.
pub async fn furnish(store: &dyn Store, declaration: &str) {
    let tenant = Tenant {
        id: acme(),
        display_name: "Acme".into(),
        login_host: "login.acme.test".into(),
        est_host: "est.acme.test".into(),
        checkin_host: "checkin.acme.test".into(),
        feed_host: "feed.acme.test".into(),
        hub_root: String::new(),
        policy_key: serde_json::Value::Null,
        policy: Default::default(),
        policy_epoch: 1,
        classes: vec![],
        qos: sluice_qos_plan::QosPolicy::default(),
        created: UnixTime(1),
    };
    let integration =
        Integration { tenant: acme(), id: roundup(), declaration: declaration.to_owned(), last_sync: None };
    let mut set = ChangeSet::of(&acme()).create(&tenant).create(&integration);
    for name in ["alice", "bob", "carol"] {
        set = set.create(&user(name));
    }
    assert_eq!(store.commit(set).await.unwrap(), Commit::Done);
}
