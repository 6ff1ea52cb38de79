//! The node root, its certificates, and a stand-in for control's pages.

use std::{net::SocketAddr, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::WebPkiClientVerifier,
};
use sluice_gateway_proxy::NodeTls;
use sluice_node_identity::TrustDomain;
use tokio::net::TcpListener;

use super::app;

pub type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

pub struct TestNode {
    issuer: Issuer<'static, KeyPair>,
    roots: Arc<RootCertStore>,
    own: Identity,
}

impl TestNode {
    pub fn new() -> Self {
        let mut root = CertificateParams::default();
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        root.distinguished_name.push(rcgen::DnType::CommonName, "test node root");
        let key = KeyPair::generate().unwrap();
        let certificate = root.self_signed(&key).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
        let issuer = Issuer::new(root, key);
        let own = issue(&issuer, "spiffe://sluice.test/tenant/acme/gateway/dmz-1", "dmz-1.test");
        Self { issuer, roots: Arc::new(roots), own }
    }

    pub fn issue(&self, spiffe: &str) -> Identity {
        issue(&self.issuer, spiffe, "node.test")
    }

    /// A peer that presents `identity` and asks for `alpn`.
    pub fn peer(&self, identity: Identity, alpn: &[u8]) -> ClientConfig {
        let mut config = ClientConfig::builder()
            .with_root_certificates(self.roots.clone())
            .with_client_auth_cert(identity.0, identity.1)
            .unwrap();
        config.alpn_protocols = vec![alpn.to_vec()];
        config
    }

    pub async fn start_control(&self) -> SocketAddr {
        let verifier = WebPkiClientVerifier::builder(self.roots.clone()).build().unwrap();
        let (chain, key) = issue(&self.issuer, "spiffe://sluice.test/control", "pages.sluice.test");
        let config = ServerConfig::builder().with_client_cert_verifier(verifier).with_single_cert(chain, key).unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    if let Ok(tls) = acceptor.accept(stream).await {
                        app::serve(tls).await;
                    }
                });
            }
        });
        address
    }
}

fn issue(issuer: &Issuer<'static, KeyPair>, spiffe: &str, host: &str) -> Identity {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
    params.subject_alt_names.push(SanType::URI(spiffe.try_into().unwrap()));
    let certificate = params.signed_by(&key, issuer).unwrap();
    (vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
}

impl NodeTls for TestNode {
    fn server(&self, alpn: &'static [u8]) -> Arc<ServerConfig> {
        let verifier = WebPkiClientVerifier::builder(self.roots.clone()).build().unwrap();
        let mut config = ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.own.0.clone(), self.own.1.clone_key())
            .unwrap();
        config.alpn_protocols = vec![alpn.to_vec()];
        Arc::new(config)
    }

    fn client(&self) -> Arc<ClientConfig> {
        let (chain, key) = (self.own.0.clone(), self.own.1.clone_key());
        let config = ClientConfig::builder().with_root_certificates(self.roots.clone());
        Arc::new(config.with_client_auth_cert(chain, key).unwrap())
    }

    fn trust_domain(&self) -> TrustDomain {
        "sluice.test".parse().unwrap()
    }
}
