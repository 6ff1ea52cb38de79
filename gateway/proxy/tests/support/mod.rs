//! A gateway on loopback with everything that stands around one, and a browser that speaks raw bytes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    dead_code,
    unreachable_pub,
    reason = "tests"
)]

pub mod app;
pub mod browser;
pub mod node;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use serde_json::{Value, json};
use sluice_connector_wire::ClassPair;
use sluice_gateway_access::{AssertionKey, GatewayDocument, Plan};
use sluice_gateway_proxy::{
    BoxedIo, DirectOpen, DirectStreams, FactorsRefused, FrontTls, Gateway, HostCertificate, Limits, OpenFailed, Parts,
    Settings, TunnelConnection, TunnelDoor, VerifyFactors, new_assertion_key,
};
use sluice_node_identity::{
    SpiffeId, StateEvent, StateView,
    api::{VerifiedUser, VerifyFactor},
};
use tokio::{io::AsyncWriteExt, net::TcpStream, sync::watch, task::JoinHandle};

use node::TestNode;

pub const LOGIN: &str = "login.acme.test";
pub const WIKI: &str = "wiki.acme.test";
pub const MAIL: &str = "mail.acme.test";
pub const TOOL: &str = "tool.acme.test";
/// Longest that anything here may take; far more than it should.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Passwords known to nobody but this.
#[derive(Default)]
pub struct Factors {
    /// Control has been silent for too long.
    pub stale: AtomicBool,
}

#[async_trait]
impl VerifyFactors for Factors {
    async fn verify(&self, factor: &VerifyFactor) -> Result<VerifiedUser, FactorsRefused> {
        let groups = match (factor.login.as_str(), factor.password.as_str()) {
            ("bob", "bobs secret") => vec!["staff".into()],
            ("eve", "eves secret") => vec!["guests".into()],
            ("away", _) => return Err(FactorsRefused::Unavailable),
            _ => return Err(FactorsRefused::Wrong),
        };
        Ok(VerifiedUser {
            user: factor.login.parse().unwrap(),
            email: format!("{}@acme.test", factor.login),
            display_name: factor.login.to_uppercase(),
            groups,
        })
    }

    fn may_grant(&self) -> bool {
        !self.stale.load(Ordering::SeqCst)
    }
}

/// "Tunnels": resource `tool` is a loopback address; everything else has no tunnel.
pub struct Direct {
    pub tool: SocketAddr,
}

#[async_trait]
impl DirectStreams for Direct {
    async fn open(&self, want: DirectOpen) -> Result<BoxedIo, OpenFailed> {
        assert_eq!(want.sub, "user/bob");
        match want.resource.as_str() {
            "tool" => Ok(Box::new(TcpStream::connect(self.tool).await.unwrap())),
            "full" => Err(OpenFailed::Later("a secret reason".into())),
            "slow" => Err(OpenFailed::Slow("a secret reason".into())),
            _ => Err(OpenFailed::NoTunnel),
        }
    }
}

/// Says who came.
#[derive(Default)]
pub struct Door {
    pub left: AtomicBool,
}

#[async_trait]
impl TunnelDoor for Door {
    async fn tunnel(&self, mut tunnel: TunnelConnection) {
        (tunnel.mark)(ClassPair::Interactive);
        let mut line = tunnel.connection.opener().open().await.unwrap();
        let transport = tunnel.connection.transport();
        line.write_all(format!("tunnel {} over {transport}", tunnel.connector).as_bytes()).await.unwrap();
        line.shutdown().await.unwrap();
        // Until the peer has read it and goes.
        let _gone = tunnel.connection.next().await;
    }

    async fn relay(&self, mut stream: FrontTls, caller: SpiffeId, _leaf: Vec<u8>) {
        stream.write_all(format!("relay {caller}").as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
    }

    fn leave(&self) {
        self.left.store(true, Ordering::SeqCst);
    }
}

/// A running gateway.
pub struct Rig {
    pub address: SocketAddr,
    pub address_v6: SocketAddr,
    pub factors: Arc<Factors>,
    pub plan: watch::Sender<Option<Arc<Plan>>>,
    pub state: watch::Sender<Arc<StateView>>,
    pub document: Value,
    pub key: Arc<AssertionKey>,
    pub node: Arc<TestNode>,
    pub door: Arc<Door>,
    pub roots: Arc<rustls::RootCertStore>,
    pub folder: tempfile::TempDir,
    stop: watch::Sender<bool>,
    running: JoinHandle<anyhow::Result<()>>,
}

impl Rig {
    pub async fn start() -> Self {
        Self::with(Limits::default()).await
    }

    pub async fn with(limits: Limits) -> Self {
        Self::of(tempfile::tempdir().unwrap(), limits).await
    }

    /// Killed, and started again with what is on disk.
    pub async fn restart(self) -> Self {
        self.running.abort();
        let _killed = self.running.await;
        Self::of(self.folder, Limits::default()).await
    }

    async fn of(folder: tempfile::TempDir, limits: Limits) -> Self {
        let listen = vec!["127.0.0.1:0".parse().unwrap(), "[::1]:0".parse().unwrap()];
        Self::at(folder, limits, listen).await
    }

    /// Listens where it is told to.
    pub async fn at(folder: tempfile::TempDir, limits: Limits, listen: Vec<SocketAddr>) -> Self {
        let _once = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let (certificate, roots) = host_certificate(&folder);
        let settings = Settings {
            listen,
            certificates: vec![certificate],
            control_networks: vec!["127.0.0.1/32".parse().unwrap()],
            logouts: Some(folder.path().join("logouts")),
            limits,
            ..Settings::default()
        };
        let bound = Gateway::bind(settings).unwrap();
        let addresses = bound.addresses().unwrap();
        let (address, address_v6, factors) = (addresses[0], addresses[1], Arc::new(Factors::default()));
        let node = Arc::new(TestNode::new());
        let app = app::start().await;
        let control = node.start_control().await;
        let document = document(app, control, app::start_raw().await);
        let door = Arc::new(Door::default());
        let key = Arc::new(AssertionKey::from_pkcs8(&new_assertion_key().unwrap()).unwrap());
        let (plan, plan_receiver) = watch::channel(Some(Arc::new(checked(&document))));
        let (state, state_receiver) = watch::channel(Arc::default());
        let parts = Parts {
            plan: plan_receiver,
            state: state_receiver,
            node: node.clone(),
            factors: factors.clone(),
            direct: Arc::new(Direct { tool: app }),
            tunnels: door.clone(),
            assertion_key: key.clone(),
            reset_key: [7; 32].into(),
        };
        let (stop, stopped) = watch::channel(false);
        let running = tokio::spawn(bound.serve(parts, stopped));
        Self {
            address,
            address_v6,
            factors,
            plan,
            state,
            document,
            key,
            node,
            door,
            roots: Arc::new(roots),
            folder,
            stop,
            running,
        }
    }

    pub fn set_state(&self, key: &str, value: Value) {
        let mut view = StateView::default();
        view.apply(StateEvent::Snapshot { seq: 1, entries: [(key.to_owned(), value)].into() }).unwrap();
        self.state.send(Arc::new(view)).unwrap();
    }

    /// Tells it to stop; [`Rig::stop`] waits.
    pub fn begin_to_stop(&self) {
        self.stop.send(true).unwrap();
    }

    pub async fn stop(self) {
        self.stop.send_replace(true);
        tokio::time::timeout(PATIENCE, self.running).await.unwrap().unwrap().unwrap();
    }
}

pub fn checked(document: &Value) -> Plan {
    serde_json::from_value::<GatewayDocument>(document.clone()).unwrap().try_into().unwrap()
}

fn document(app: SocketAddr, control: SocketAddr, spliced: SocketAddr) -> Value {
    let direct =
        json!({"kind": "direct", "address": app.to_string(), "tls_server_name": null, "networks": ["127.0.0.1/32"]});
    let one = |id: &str, upstream: Value| {
        json!({"id": id, "name": id.to_uppercase(), "host": format!("{id}.acme.test"), "groups": ["staff"],
               "user_header": "X-Remote-User", "upstream": upstream})
    };
    let resource = |name: &str| {
        json!({"kind": "resource", "resource": name, "connectors": ["dc-1"], "target": "tcp:tool:8080",
               "host_header": "tool.internal:8080"})
    };
    json!({
        "tenant": "acme", "login_host": LOGIN, "session_seconds": 3600,
        "session_key": "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE",
        "splices": [{"server_name": "node.sluice.test", "to": spliced.to_string(), "proxy_protocol": true}],
        "apps": [
            one("wiki", direct.clone()), one("mail", direct), one("tool", resource("tool")), one("lost", resource("lost")),
            one("full", resource("full")), one("slow", resource("slow")),
            one("feed", json!({"kind": "control", "address": control.to_string(), "server_name": "pages.sluice.test"})),
            one("meta", json!({"kind": "direct", "address": "169.254.169.254:80", "tls_server_name": null, "networks": []})),
            one("self", json!({"kind": "direct", "address": "127.0.0.1:1", "tls_server_name": null, "networks": []})),
        ],
        "relay": {"callers": ["spiffe://sluice.test/control"]}
    })
}

fn host_certificate(folder: &tempfile::TempDir) -> (HostCertificate, rustls::RootCertStore) {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    let mut root = CertificateParams::default();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // Stock clients take a leaf whose issuer has the leaf's own name for self-signed.
    root.distinguished_name.push(rcgen::DnType::CommonName, "test root");
    let root_key = KeyPair::generate().unwrap();
    let root_certificate = root.self_signed(&root_key).unwrap();
    let issuer = Issuer::new(root, root_key);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["*.acme.test".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let (chain, key_file) = (folder.path().join("chain.pem"), folder.path().join("key.pem"));
    std::fs::write(&chain, leaf.pem()).unwrap();
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    std::fs::write(folder.path().join("root.pem"), root_certificate.pem()).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(root_certificate.der().clone()).unwrap();
    (HostCertificate { hosts: vec!["*.acme.test".into()], chain, key: key_file }, roots)
}
