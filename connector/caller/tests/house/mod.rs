//! A gateway, a connector, control and targets on loopback, with real certificates and sockets.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests; each file uses a part")]

pub(crate) mod dns;
pub(crate) mod doors;
pub(crate) mod double;
pub(crate) mod evil;
pub(crate) mod two;

use std::{
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    rand::SystemRandom,
    rsa::{KeySize, PrivateDecryptingKey},
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair},
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::aws_lc_rs as provider,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    server::WebPkiClientVerifier,
    sign::CertifiedKey,
    version::TLS13,
};
use sluice_connector_agent::{Agent, DnsSettings, LaneStatus, Limits, Pieces};
use sluice_connector_caller::{Gateway, SealedCaller};
use sluice_connector_server::{Arrived, DirectAsk, DirectStream, OpenError, TunnelServer};
use sluice_connector_wire::{
    ALPN_RELAY, ALPN_TUNNEL, AllowList, AllowRule, ClassPair, ConnectorDocument, GatewayEndpoint, Peer, PolicyKey,
    TokenSigner, sign_allow_list,
};
use sluice_node_identity::{NodeId, SpiffeId, UnixTime};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// Far more than anything here needs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const GATEWAY: &str = "dmz-1";
pub(crate) const CONNECTOR: &str = "dc-1";

pub(crate) fn now() -> UnixTime {
    UnixTime::from(SystemTime::now())
}

pub(crate) fn gateway_name() -> SpiffeId {
    "spiffe://sluice.test/tenant/acme/gateway/dmz-1".parse().unwrap()
}

pub(crate) fn connector_name() -> SpiffeId {
    "spiffe://sluice.test/tenant/acme/connector/dc-1".parse().unwrap()
}

/// The node root, and certificates from it.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn root(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    pub(crate) fn issue(&self, spiffe: &str) -> Arc<CertifiedKey> {
        self.issue_until(spiffe, Duration::from_secs(3600))
    }

    pub(crate) fn issue_until(&self, spiffe: &str, life: Duration) -> Arc<CertifiedKey> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = vec![SanType::URI(spiffe.try_into().unwrap())];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.not_after = (SystemTime::now() + life).into();
        let leaf = params.signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let key = provider::sign::any_supported_type(&key).unwrap();
        Arc::new(CertifiedKey::new(vec![leaf.der().clone()], key))
    }

    pub(crate) fn client(&self, shown: &Arc<CertifiedKey>) -> Arc<ClientConfig> {
        let config = ClientConfig::builder_with_provider(Arc::new(provider::default_provider()))
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_root_certificates(self.roots())
            .with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from((**shown).clone())));
        Arc::new(config)
    }

    pub(crate) fn server(&self, shown: &Arc<CertifiedKey>, alpn: &[&[u8]]) -> Arc<ServerConfig> {
        let crypto = Arc::new(provider::default_provider());
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots()), crypto.clone());
        let mut config = ServerConfig::builder_with_provider(crypto)
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_client_cert_verifier(clients.build().unwrap())
            .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from((**shown).clone())));
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Arc::new(config)
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.root()).unwrap();
        roots
    }
}

/// All keys and certificates of the story.
pub(crate) struct House {
    pub(crate) authority: Authority,
    pub(crate) policy: PolicyKey,
    pub(crate) gateway: Arc<CertifiedKey>,
    pub(crate) gateway_key: Vec<u8>,
    pub(crate) connector: Arc<CertifiedKey>,
    pub(crate) control: Arc<CertifiedKey>,
    pub(crate) state: TempDir,
    pub(crate) dns: DnsSettings,
    pub(crate) forbidden: Vec<ipnetwork::IpNetwork>,
    /// Control has been silent for too long.
    pub(crate) stale: Arc<AtomicBool>,
}

impl House {
    pub(crate) fn new() -> Self {
        let authority = Authority::new();
        let policy = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        Self {
            policy: PolicyKey::from_pkcs8(policy.as_ref()).unwrap(),
            gateway: authority.issue(&gateway_name().to_string()),
            gateway_key: Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap().as_ref().to_vec(),
            connector: authority.issue(&connector_name().to_string()),
            control: authority.issue("spiffe://sluice.test/control"),
            state: tempfile::tempdir().unwrap(),
            dns: DnsSettings::default(),
            forbidden: Vec::new(),
            stale: Arc::default(),
            authority,
        }
    }

    pub(crate) fn gateway_signer(&self) -> TokenSigner {
        TokenSigner::gateway(GATEWAY, &self.gateway_key).unwrap()
    }

    /// A rule: resource, target, callers, networks.
    pub(crate) fn rule(resource: &str, target: &str, callers: &[&str], networks: &[&str]) -> AllowRule {
        let networks = networks.iter().map(|network| network.parse().unwrap()).collect();
        let callers = callers.iter().map(|id| (*id).to_owned()).collect();
        AllowRule::new(resource.parse().unwrap(), &target.parse().unwrap(), callers, networks)
    }

    pub(crate) fn document(&self, gateway: SocketAddr, version: u64, rules: Vec<AllowRule>) -> ConnectorDocument {
        self.document_for(CONNECTOR, gateway, version, rules, now().plus(3600))
    }

    /// One whose list ends then.
    pub(crate) fn document_until(
        &self,
        gateway: SocketAddr,
        version: u64,
        rules: Vec<AllowRule>,
        not_after: UnixTime,
    ) -> ConnectorDocument {
        self.document_for(CONNECTOR, gateway, version, rules, not_after)
    }

    pub(crate) fn document_for(
        &self,
        connector: &str,
        gateway: SocketAddr,
        version: u64,
        rules: Vec<AllowRule>,
        not_after: UnixTime,
    ) -> ConnectorDocument {
        let list = AllowList {
            tenant: "acme".parse().unwrap(),
            connector: connector.parse().unwrap(),
            epoch: 1,
            version,
            not_after,
            callers: vec![self.gateway_signer().caller(), control_signer().caller()],
            rules,
        };
        let endpoint =
            GatewayEndpoint { id: GATEWAY.parse().unwrap(), host: gateway.ip().to_string(), port: gateway.port() };
        let allow_list = sign_allow_list(&list, &self.policy, Vec::new()).unwrap();
        ConnectorDocument { gateways: vec![endpoint], allow_list }
    }

    pub(crate) fn pieces(&self, limits: Limits) -> Pieces {
        let client = self.authority.client(&self.connector);
        let server = self.authority.server(&self.connector, &[]);
        Pieces {
            name: connector_name(),
            policy_thumbprint: self.policy.thumbprint(),
            node_root: self.authority.root(),
            client: Arc::new(move || Ok(client.clone())),
            server: Arc::new(move || Ok(server.clone())),
            state_dir: self.state.path().to_owned(),
            gateway_networks: vec!["127.0.0.1/32".parse().unwrap()],
            forbidden_networks: self.forbidden.clone(),
            dns: self.dns.clone(),
            stale: Arc::new({
                let stale = self.stale.clone();
                move || stale.load(Ordering::SeqCst)
            }),
            limits,
        }
    }

    /// Another connector of the same tenant, which keeps its state in `state`.
    pub(crate) fn other_agent(&self, connector: &str, state: &TempDir, limits: Limits) -> Agent {
        let name = format!("spiffe://sluice.test/tenant/acme/connector/{connector}");
        let shown = self.authority.issue(&name);
        let (client, server) = (self.authority.client(&shown), self.authority.server(&shown, &[]));
        let pieces = Pieces {
            name: name.parse().unwrap(),
            client: Arc::new(move || Ok(client.clone())),
            server: Arc::new(move || Ok(server.clone())),
            state_dir: state.path().to_owned(),
            ..self.pieces(limits)
        };
        Agent::open(pieces).unwrap()
    }

    pub(crate) fn agent(&self, limits: Limits) -> Agent {
        Agent::open(self.pieces(limits)).unwrap()
    }

    pub(crate) fn tunnel_server(&self, limits: sluice_connector_server::Limits) -> TunnelServer {
        TunnelServer::new(gateway_name(), self.gateway_signer(), limits)
    }

    pub(crate) fn gateway_tls(&self) -> TlsAcceptor {
        self.authority.server(&self.gateway, &[ALPN_TUNNEL, ALPN_RELAY]).into()
    }

    pub(crate) fn caller(&self) -> SealedCaller {
        let (control, root) = (self.control.clone(), self.authority.root());
        let signer = Arc::new(control_signer());
        SealedCaller::new("sluice.test".parse().unwrap(), root, control, signer, Default::default()).unwrap()
    }
}

/// Control's signer; one RSA key per test program, because making one takes a second.
pub(crate) fn control_signer() -> TokenSigner {
    static KEY: OnceLock<Vec<u8>> = OnceLock::new();
    let key = KEY.get_or_init(|| {
        let key = PrivateDecryptingKey::generate(KeySize::Rsa3072).unwrap();
        AsDer::<Pkcs8V1Der<'_>>::as_der(&key).unwrap().as_ref().to_vec()
    });
    TokenSigner::control(key).unwrap()
}

/// The connection's leaf certificate of the other end.
pub(crate) fn peer_leaf<T>(tls: &TlsStream<T>) -> Vec<u8> {
    tls.get_ref().1.peer_certificates().unwrap().first().unwrap().to_vec()
}

/// An honest gateway on loopback. Gives its address.
pub(crate) async fn run_gateway(house: &House, server: TunnelServer) -> SocketAddr {
    run_gateway_as(house, &house.gateway, server).await
}

/// The same, showing another certificate.
pub(crate) async fn run_gateway_as(house: &House, shown: &Arc<CertifiedKey>, server: TunnelServer) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = TlsAcceptor::from(house.authority.server(shown, &[ALPN_TUNNEL, ALPN_RELAY]));
    let own = shown.cert.first().unwrap().to_vec();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let (acceptor, server, own) = (acceptor.clone(), server.clone(), own.clone());
            tokio::spawn(async move {
                let Ok(tls) = acceptor.accept(tcp).await else { return };
                let leaf = peer_leaf(&tls);
                let ended = match tls.get_ref().1.alpn_protocol() {
                    Some(ALPN_TUNNEL) => server.serve_tunnel(Arrived::over_tcp(tls, leaf, own)).await,
                    Some(ALPN_RELAY) if Peer::from_leaf(&leaf).unwrap().name.to_string().ends_with("/control") => {
                        server.serve_relay(tls).await
                    }
                    _ => return,
                };
                drop(ended);
            });
        }
    });
    address
}

/// Everything up: agent connected to an honest gateway.
pub(crate) struct Up {
    pub(crate) house: House,
    pub(crate) server: TunnelServer,
    pub(crate) gateway: SocketAddr,
    pub(crate) agent: Agent,
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) running: tokio::task::JoinHandle<()>,
}

impl Up {
    pub(crate) async fn with(rules: Vec<AllowRule>) -> Self {
        Self::with_limits(rules, Limits::default(), sluice_connector_server::Limits::default()).await
    }

    pub(crate) async fn with_limits(
        rules: Vec<AllowRule>,
        limits: Limits,
        server_limits: sluice_connector_server::Limits,
    ) -> Self {
        Self::in_house(House::new(), rules, limits, server_limits).await
    }

    pub(crate) async fn in_house(
        house: House,
        rules: Vec<AllowRule>,
        limits: Limits,
        server_limits: sluice_connector_server::Limits,
    ) -> Self {
        let server = house.tunnel_server(server_limits);
        let gateway = run_gateway(&house, server.clone()).await;
        let agent = house.agent(limits);
        agent.apply(&house.document(gateway, 1, rules)).unwrap();
        let (stop, stopped) = watch::channel(false);
        let running = tokio::spawn({
            let agent = agent.clone();
            async move { agent.run(stopped).await }
        });
        let up = Self { house, server, gateway, agent, stop, running };
        up.tunnels(1).await;
        up.lanes(|lanes| lanes.iter().any(|lane| lane.in_use.is_some())).await;
        up
    }

    /// Waits until the agent's lanes to the gateway are as `wanted`, most urgent first.
    pub(crate) async fn lanes(&self, wanted: impl Fn(&[LaneStatus]) -> bool) -> Vec<LaneStatus> {
        let found = async {
            loop {
                match self.agent.tunnels().pop() {
                    Some(tunnel) if wanted(&tunnel.lanes) => return tunnel.lanes,
                    _ => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        };
        timeout(PATIENCE, found).await.expect("lanes in time")
    }

    /// Waits until there are `count` tunnels.
    pub(crate) async fn tunnels(&self, count: usize) {
        let mut live = self.server.live();
        timeout(PATIENCE, live.wait_for(|tunnels| tunnels.len() == count)).await.expect("tunnels in time").unwrap();
    }

    pub(crate) fn sid(&self) -> String {
        self.server.live().borrow().first().unwrap().sid.clone()
    }

    pub(crate) async fn direct(&self, resource: &str, target: &str) -> Result<DirectStream, OpenError> {
        let connectors: [NodeId; 1] = [CONNECTOR.parse().unwrap()];
        let ask = DirectAsk {
            connectors: &connectors,
            resource: &resource.parse().unwrap(),
            target: &target.parse().unwrap(),
            subject: "user/ada",
            pair: ClassPair::default(),
        };
        timeout(PATIENCE, self.server.open_direct(&ask, now())).await.expect("an answer in time")
    }

    pub(crate) fn gateway_for_control(&self) -> Gateway {
        gateway_at(self.gateway)
    }
}

pub(crate) fn gateway_at(address: SocketAddr) -> Gateway {
    Gateway { id: GATEWAY.parse().unwrap(), address, host: "gw.acme.test".to_owned() }
}

/// Runs an agent until the sender goes or says true.
pub(crate) fn run_agent(agent: &Agent) -> (watch::Sender<bool>, tokio::task::JoinHandle<()>) {
    let (stop, stopped) = watch::channel(false);
    let agent = agent.clone();
    (stop, tokio::spawn(async move { agent.run(stopped).await }))
}

/// Waits until there are `count` tunnels.
pub(crate) async fn tunnels(server: &TunnelServer, count: usize) {
    let mut live = server.live();
    timeout(PATIENCE, live.wait_for(|tunnels| tunnels.len() == count)).await.expect("tunnels in time").unwrap();
}

/// A target that sends back what it gets and ends when the sender does.
pub(crate) async fn echo() -> SocketAddr {
    serve(|mut tcp| async move {
        let (mut read, mut write) = tcp.split();
        let _bytes = tokio::io::copy(&mut read, &mut write).await;
        let _done = write.shutdown().await;
    })
    .await
}

/// A target that does with each connection what `handle` does.
pub(crate) async fn serve<F, R>(handle: F) -> SocketAddr
where
    F: Fn(TcpStream) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            tokio::spawn(handle(tcp));
        }
    });
    address
}

/// Sends, ends, and reads to the end.
pub(crate) async fn exchange<T>(io: &mut T, bytes: &[u8]) -> std::io::Result<Vec<u8>>
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let (mut read, mut write) = tokio::io::split(io);
    let sending = async {
        write.write_all(bytes).await?;
        write.shutdown().await
    };
    let mut back = Vec::new();
    let reading = read.read_to_end(&mut back);
    let (sent, got) = timeout(PATIENCE, async { tokio::join!(sending, reading) }).await.expect("in time");
    sent?;
    got?;
    Ok(back)
}
