//! Two ends of one connection, over either transport, on loopback.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests; each file uses a part")]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rcgen::{CertificateParams, KeyPair};
use rustls::{
    RootCertStore,
    crypto::{CryptoProvider, aws_lc_rs as provider},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    server::WebPkiClientVerifier,
    version::TLS13,
};
use sluice_connector_mux::{
    Connection, End,
    quic::{self, AcceptLimits, Accepted, Acceptor, Marks},
};
use sluice_connector_wire::{ClassPair, Transport};
use tokio::net::{TcpListener, TcpStream};

/// Far more than anything here needs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const BOTH: [Transport; 2] = [Transport::Tcp, Transport::Quic];
const HOST: &str = "gw.acme.test";

/// One certificate that both ends show and trust.
pub(crate) struct House {
    pub(crate) leaf: CertificateDer<'static>,
    key: Vec<u8>,
}

impl House {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![HOST.to_owned()]).unwrap();
        Self { leaf: params.self_signed(&key).unwrap().der().clone(), key: key.serialize_der() }
    }

    /// Only AES-256, as sluice's own.
    fn crypto() -> Arc<CryptoProvider> {
        let mut crypto = provider::default_provider();
        crypto.cipher_suites = vec![provider::cipher_suite::TLS13_AES_256_GCM_SHA384];
        Arc::new(crypto)
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.leaf.clone()).unwrap();
        roots
    }

    fn private(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.clone()))
    }

    pub(crate) fn client(&self) -> rustls::ClientConfig {
        rustls::ClientConfig::builder_with_provider(Self::crypto())
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_root_certificates(self.roots())
            .with_client_auth_cert(vec![self.leaf.clone()], self.private())
            .unwrap()
    }

    pub(crate) fn server(&self) -> rustls::ServerConfig {
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots()), Self::crypto());
        rustls::ServerConfig::builder_with_provider(Self::crypto())
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(vec![self.leaf.clone()], self.private())
            .unwrap()
    }

    /// A gateway's endpoint on loopback.
    pub(crate) fn gateway(&self, reset_key: &[u8; 32], marks: Marks) -> quinn::Endpoint {
        let socket = quic::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let config = quic::server_config(self.server()).unwrap();
        quic::gateway_endpoint(socket, config, reset_key, marks).unwrap()
    }

    pub(crate) fn dial(&self, agent: &quinn::Endpoint, gateway: SocketAddr) -> quinn::Connecting {
        agent.connect_with(quic::client_config(self.client()).unwrap(), gateway, HOST).unwrap()
    }

    pub(crate) async fn quic(&self, gateway: &quinn::Endpoint) -> (quinn::Connection, Accepted) {
        let socket = quic::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let agent = quic::agent_endpoint(socket, ClassPair::Standard).unwrap();
        let mut acceptor = Acceptor::new(gateway.clone(), AcceptLimits::default());
        let dialled = self.dial(&agent, gateway.local_addr().unwrap());
        let (dialled, accepted) = tokio::join!(dialled, acceptor.next());
        (dialled.unwrap(), accepted.unwrap())
    }
}

/// Both ends: the agent's, the gateway's.
pub(crate) async fn pair(transport: Transport) -> (Connection, Connection) {
    match transport {
        Transport::Tcp => {
            let (near, far) = sockets().await;
            (Connection::over_tcp(near, End::Agent), Connection::over_tcp(far, End::Gateway))
        }
        Transport::Quic => {
            let house = House::new();
            let (dialled, accepted) = house.quic(&house.gateway(&[7; 32], Marks::default())).await;
            (Connection::over_quic(dialled, End::Agent), Connection::over_quic(accepted.connection, End::Gateway))
        }
    }
}

pub(crate) async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    let (near, (far, _)) = (near.unwrap(), far.unwrap());
    near.set_nodelay(true).unwrap();
    far.set_nodelay(true).unwrap();
    (near, far)
}
