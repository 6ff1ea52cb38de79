//! A control service on loopback with one tenant, and curl to talk to it.
#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    io::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use axum::{
    Extension, Router,
    routing::{get, post},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rcgen::{CertificateParams, KeyPair, RsaKeySize, SigningKey};
use serde_json::{Value, json};
use sluice_control_domain::{
    ChangeSet, Commit, EnrollCode, HubRecord, HubState, Kind, Load, NodeRecord, Record, RecordKey, Site, Store, Stored,
    Tenant, Typed, UserRecord, UserRole,
};
use sluice_control_keystore::Keystore;
use sluice_control_server::{
    ControlKeys, ListenerSettings, Names, Rooms, ServerParts, Tunnels, admin_api::Authority, bind, pages::GatewayPeer,
    serve,
};
use sluice_control_store_sqlite::SqliteStore;
use sluice_node_identity::{CodeBinding, JoinSecret, Role, TenantId, UnixTime, proof_message};
use tokio::sync::watch;

/// Connections that one address may have at a time.
pub(crate) const PER_ADDRESS: usize = 128;

pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) store: Arc<SqliteStore>,
    pub(crate) keys: Arc<ControlKeys>,
    pub(crate) tunnels: Arc<Tunnels>,
    pub(crate) address: SocketAddr,
    pub(crate) tenant: Tenant,
    stop: watch::Sender<bool>,
    serving: Option<tokio::task::JoinHandle<anyhow::Result<()>>>,
}

pub(crate) fn now() -> UnixTime {
    UnixTime::from(std::time::SystemTime::now())
}

pub(crate) fn names() -> Names {
    Names { node: "node.sluice.test".into(), console: "console.sluice.test".into(), pages: "pages.sluice.test".into() }
}

fn tenant(keys: &ControlKeys, id: &str) -> Tenant {
    let id: TenantId = id.parse().unwrap();
    let made = keys.make_tenant(&id, now()).unwrap();
    Tenant {
        display_name: id.to_string(),
        login_host: format!("login.{id}.test"),
        est_host: format!("est.{id}.test"),
        checkin_host: format!("checkin.{id}.test"),
        feed_host: format!("feed.{id}.test"),
        hub_root: made.hub_root,
        policy_key: made.policy_key,
        policy: Default::default(),
        policy_epoch: 1,
        classes: vec![],
        qos: sluice_qos_plan::QosPolicy::default(),
        created: now(),
        id,
    }
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    pub(crate) async fn start_with(proxy_from: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let keystore = Arc::new(Keystore::create(&dir.path().join("keystore")).unwrap());
        ControlKeys::create(&keystore, now()).unwrap();
        let database = ControlKeys::store_key(&keystore).unwrap();
        let store = Arc::new(SqliteStore::open(&dir.path().join("store.db"), &database).unwrap());
        let url = "https://node.sluice.test:8443".to_owned();
        let keys = Arc::new(ControlKeys::open(keystore, "sluice.test".parse().unwrap(), url).unwrap());
        let tenant = tenant(&keys, "acme");
        let site = Site {
            tenant: tenant.id.clone(),
            id: "branch-1".parse().unwrap(),
            display_name: "Branch".into(),
            time_zone: "Europe/Berlin".into(),
        };
        let set = ChangeSet::of(&tenant.id).create(&tenant).create(&site);
        assert_eq!(store.commit(set).await.unwrap(), Commit::Done);

        let tunnels = Arc::new(Tunnels::default());
        let (stop, stopped) = watch::channel(false);
        let parts = ServerParts {
            store: store.clone(),
            keys: keys.clone(),
            tunnels: tunnels.clone(),
            streams: Arc::default(),
            clock: Arc::new(now),
            advertised: "192.0.2.10:8443".into(),
        };
        let settings = ListenerSettings {
            names: names(),
            proxy_from: proxy_from.iter().map(|text| text.parse().unwrap()).collect(),
            connections: 512,
            connections_per_address: PER_ADDRESS,
        };
        let page = async |Extension(peer): Extension<GatewayPeer>| format!("pages for {}", peer.id);
        let rooms = Rooms {
            console: Router::new().route("/", get(async || "console")).route("/echo", post(async |body: String| body)),
            pages: Router::new().route("/", get(page)),
        };
        let sockets = bind(&["127.0.0.1:0".parse().unwrap()]).await.unwrap();
        let address = sockets[0].local_addr().unwrap();
        let serving = Some(tokio::spawn(serve(sockets, parts, settings, rooms, stopped)));
        let file = dir.path().join("node-root.pem");
        std::fs::write(&file, keys.node_root().pem()).unwrap();
        std::fs::write(dir.path().join("hub-root.pem"), &tenant.hub_root).unwrap();
        Self { dir, store, keys, tunnels, address, tenant, stop, serving }
    }

    /// Ends the service as SIGTERM would.
    pub(crate) async fn stop(mut self) {
        self.stop.send_replace(true);
        self.serving.take().unwrap().await.unwrap().unwrap();
    }

    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    pub(crate) async fn one<R: Record>(&self, tenant: &str, id: &str) -> Typed<R> {
        let key = RecordKey { kind: R::KIND, tenant: tenant.to_owned(), id: id.to_owned() };
        self.store.load(Load::Keys(vec![key])).await.unwrap().pop().unwrap().typed().unwrap()
    }

    pub(crate) async fn node_record(&self, id: &str) -> Typed<NodeRecord> {
        self.one("acme", id).await
    }

    pub(crate) async fn change<R: Record>(&self, tenant: &str, id: &str, edit: impl Fn(&mut R)) {
        loop {
            let key = RecordKey { kind: R::KIND, tenant: tenant.to_owned(), id: id.to_owned() };
            let stored: Stored = self.store.load(Load::Keys(vec![key])).await.unwrap().pop().unwrap();
            let loaded: Typed<R> = stored.clone().typed().unwrap();
            let mut body: R = stored.typed().unwrap().body;
            edit(&mut body);
            if self.store.commit(ChangeSet::of(&self.tenant.id).update(&loaded, &body)).await.unwrap() == Commit::Done {
                return;
            }
        }
    }

    /// What an administrator does: a node with a fresh code.
    pub(crate) async fn add_node(&self, id: &str, role: Role, valid: i64) -> JoinSecret {
        let secret = JoinSecret::new(random());
        let valid_until = UnixTime(now().0.saturating_add_signed(valid));
        let gateway = role == Role::Gateway;
        let node = NodeRecord {
            tenant: self.tenant.id.clone(),
            id: id.parse().unwrap(),
            role,
            site: "branch-1".parse().unwrap(),
            code: CodeBinding { digest: secret.digest(), valid_until, bound: None, alarmed: false },
            binding: None,
            config: None,
            refused: None,
            addresses: if gateway { vec!["192.0.2.1".parse().unwrap()] } else { vec![] },
            host: gateway.then(|| format!("{id}.acme.test")),
            created: now(),
        };
        assert_eq!(self.store.commit(ChangeSet::of(&node.tenant).create(&node)).await.unwrap(), Commit::Done);
        secret
    }

    pub(crate) async fn add_hub(&self, id: &str) -> JoinSecret {
        let secret = JoinSecret::new(random());
        let code = CodeBinding { digest: secret.digest(), valid_until: now().plus(600), bound: None, alarmed: false };
        let hub = HubRecord {
            tenant: self.tenant.id.clone(),
            id: id.parse().unwrap(),
            site: "branch-1".parse().unwrap(),
            serial: None,
            state: HubState::Expected,
            keys: vec![],
            certificate: None,
            seen: None,
            created: now(),
        };
        let code = EnrollCode { tenant: hub.tenant.clone(), hub: hub.id.clone(), code, issued: None };
        let set = ChangeSet::of(&hub.tenant).create(&hub).create(&code);
        assert_eq!(self.store.commit(set).await.unwrap(), Commit::Done);
        secret
    }

    pub(crate) async fn add_user(&self, id: &str, password: &str) {
        let salt = argon2::password_hash::SaltString::encode_b64(&random::<16>()).unwrap();
        let hash = argon2::PasswordHasher::hash_password(&argon2::Argon2::default(), password.as_bytes(), &salt);
        let user = UserRecord {
            tenant: self.tenant.id.clone(),
            id: id.parse().unwrap(),
            email: format!("{id}@acme.test"),
            display_name: id.to_owned(),
            password_hash: hash.unwrap().to_string(),
            groups: vec!["staff".into()],
            role: UserRole::User,
            disabled: false,
            created: now(),
        };
        self.store.commit(ChangeSet::of(&user.tenant).create(&user)).await.unwrap();
    }

    pub(crate) async fn audit(&self) -> Vec<String> {
        let chain = self.store.audit(Some(&self.tenant.id), 0, 1_000).await.unwrap();
        chain.into_iter().map(|(_, entry, _)| entry.act).collect()
    }

    pub(crate) async fn nodes(&self) -> usize {
        let scan = Load::Scan { kind: Kind::Node, tenant: "acme".into(), after: None, limit: 100 };
        self.store.load(scan).await.unwrap().len()
    }

    /// curl to `host` on our port, believing the node root.
    pub(crate) fn curl(&self, host: &str) -> Curl {
        let port = self.address.port();
        let root = self.dir.path().join("node-root.pem");
        let mut command = Command::new("curl");
        command.args(["-sS", "--max-time", "60", "-w", "\n%{http_code}", "--resolve"]);
        command.arg(format!("{host}:{port}:{}", self.address.ip())).arg("--cacert").arg(root);
        Curl { command, url: format!("https://{host}:{port}"), body: None }
    }

    pub(crate) fn node(&self, id: &Identity) -> Curl {
        self.curl("node.sluice.test").cert(id)
    }

    pub(crate) async fn join(&self, secret: &JoinSecret, role: Role, key: &KeyPair) -> (u16, Value) {
        let nonce = self.nonce().await;
        self.join_with(secret, role, key, &nonce).await
    }

    pub(crate) async fn nonce(&self) -> String {
        let (status, body) = self.curl("node.sluice.test").post("/node/v1/nonce", &json!({})).await;
        assert_eq!(status, 200);
        body["nonce"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn join_with(&self, secret: &JoinSecret, role: Role, key: &KeyPair, nonce: &str) -> (u16, Value) {
        let (csr, proof) = proved(key, nonce);
        let request = json!({ "secret": secret.to_text(), "role": role, "csr": csr, "nonce": nonce, "proof": proof });
        self.curl("node.sluice.test").post("/node/v1/join", &request).await
    }

    /// Adds a node and joins it.
    pub(crate) async fn joined(&self, id: &str, role: Role) -> Identity {
        let secret = self.add_node(id, role, 600).await;
        let key = match role {
            Role::Connector => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_3072).unwrap(),
            _ => KeyPair::generate().unwrap(),
        };
        let (status, body) = self.join(&secret, role, &key).await;
        assert_eq!(status, 200, "{body}");
        self.identity(id, key, body["chain"].as_str().unwrap())
    }

    pub(crate) fn identity(&self, name: &str, key: KeyPair, chain: &str) -> Identity {
        let number: u64 = u64::from_be_bytes(random());
        let cert = self.file(&format!("{name}-{number}.pem"), chain);
        let key_file = self.file(&format!("{name}-{number}.key"), key.serialize_pem());
        Identity { key, cert, key_file }
    }
}

/// A request by `key` and the proof that goes with `nonce`.
pub(crate) fn proved(key: &KeyPair, nonce: &str) -> (String, String) {
    let csr = CertificateParams::default().serialize_request(key).unwrap();
    let nonce = URL_SAFE_NO_PAD.decode(nonce).unwrap();
    let proof = key.sign(&proof_message(&nonce, csr.der())).unwrap();
    (csr.pem().unwrap(), URL_SAFE_NO_PAD.encode(proof))
}

pub(crate) fn csr(key: &KeyPair) -> String {
    CertificateParams::default().serialize_request(key).unwrap().pem().unwrap()
}

pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).unwrap();
    bytes
}

pub(crate) struct Identity {
    pub(crate) key: KeyPair,
    pub(crate) cert: PathBuf,
    pub(crate) key_file: PathBuf,
}

pub(crate) struct Curl {
    command: Command,
    url: String,
    body: Option<String>,
}

impl Curl {
    pub(crate) fn cert(mut self, id: &Identity) -> Self {
        self.command.arg("--cert").arg(&id.cert).arg("--key").arg(&id.key_file);
        self
    }

    pub(crate) fn ca(mut self, file: &Path) -> Self {
        self.command.arg("--cacert").arg(file);
        self
    }

    pub(crate) fn args(mut self, args: &[&str]) -> Self {
        self.command.args(args);
        self
    }

    /// Status (0: no answer at all) and body as JSON, or as text.
    pub(crate) async fn get(mut self, path: &str) -> (u16, Value) {
        self.command.arg(format!("{}{path}", self.url));
        let Self { mut command, body, .. } = self;
        let run = move || {
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
            let mut child = command.spawn().expect("this test needs curl");
            let sent = child.stdin.take().unwrap().write_all(body.unwrap_or_default().as_bytes());
            drop(sent); // curl stops reading when the server has refused
            child.wait_with_output().unwrap()
        };
        let out = tokio::task::spawn_blocking(run).await.unwrap();
        let text = String::from_utf8(out.stdout).unwrap();
        let (body, status) = text.rsplit_once('\n').unwrap();
        let status = if out.status.success() { status.parse().unwrap() } else { 0 };
        (status, serde_json::from_str(body).unwrap_or_else(|_| Value::String(body.to_owned())))
    }

    pub(crate) async fn post(self, path: &str, body: &Value) -> (u16, Value) {
        self.data(&body.to_string()).get(path).await
    }

    pub(crate) fn data(self, body: &str) -> Self {
        Self { body: Some(body.to_owned()), ..self.args(&["--data-binary", "@-"]) }
    }

    /// A running curl that prints as bytes come.
    pub(crate) fn stream(mut self, path: &str) -> tokio::process::Child {
        self.command.arg("-N").arg(format!("{}{path}", self.url)).stdout(Stdio::piped()).stdin(Stdio::null());
        tokio::process::Command::from(self.command).kill_on_drop(true).spawn().unwrap()
    }
}
