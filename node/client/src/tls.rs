//! A node's TLS: who is believed, and which certificate is shown.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig,
    SignatureScheme,
    client::{
        ResolvesClientCert, Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier},
    sign::CertifiedKey,
    version::TLS13,
};
use sluice_node_identity::{Fingerprint, Principal};

use crate::certificate::Facts;

/// The certificate a node shows now; looked at afresh in every handshake.
#[derive(Debug)]
pub(crate) struct Shown(pub(crate) ArcSwap<CertifiedKey>);

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// What a client of control believes: a leaf for control's host, issued by the node root, that is not a node's.
///
/// Nodes' leaves come from the same root, and a gateway's carries a DNS name its administrator chose: without the
/// last condition a broken-in node could pose as control.
#[derive(Debug)]
pub(crate) struct ControlVerifier {
    trust: Trust,
    provider: Arc<CryptoProvider>,
}

/// How the node root is known.
#[derive(Debug)]
pub(crate) enum Trust {
    /// First contact: by the pin in the join code. The presented chain must contain the root.
    Pin(Fingerprint),
    /// Afterwards: by itself.
    Root(CertificateDer<'static>),
}

impl ControlVerifier {
    fn root<'a>(&'a self, presented: &'a [CertificateDer<'a>]) -> Result<CertificateDer<'static>, Error> {
        match &self.trust {
            Trust::Root(root) => Ok(root.clone()),
            Trust::Pin(pin) => presented
                .iter()
                .find(|der| Facts::of(der).is_ok_and(|facts| facts.key == *pin))
                .map(|der| der.clone().into_owned())
                .ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer)),
        }
    }
}

impl ServerCertVerifier for ControlVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let root = self.root(intermediates)?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots(root)?), self.provider.clone())
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        let verified = verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        let facts = Facts::of(end_entity).map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        match facts.spiffe.map(|id| id.principal) {
            None | Some(Principal::Control) => Ok(verified),
            Some(_) => Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)),
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(rustls::PeerIncompatible::Tls12NotOffered))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        None
    }
}

/// For talking to control: HTTP/1.1, showing `shown` when it is given.
pub(crate) fn control_client(trust: Trust, shown: Option<Arc<Shown>>) -> Result<Arc<ClientConfig>, Error> {
    let provider = provider();
    let verifier = Arc::new(ControlVerifier { trust, provider: provider.clone() });
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let config = match shown {
        Some(shown) => builder.with_client_cert_resolver(shown),
        None => builder.with_no_client_auth(),
    };
    Ok(Arc::new(without_resumption(config, &[b"http/1.1"])))
}

/// For talking to other nodes: server verified by name against the node root.
pub(crate) fn node_client(
    root: CertificateDer<'static>,
    shown: Arc<Shown>,
    alpn: &[&[u8]],
) -> Result<Arc<ClientConfig>, Error> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots(root)?)
        .with_client_cert_resolver(shown);
    Ok(Arc::new(without_resumption(config, alpn)))
}

/// For accepting control and other nodes: a client certificate from the node root is required.
pub(crate) fn node_server(
    root: CertificateDer<'static>,
    shown: Arc<Shown>,
    alpn: &[&[u8]],
) -> Result<Arc<ServerConfig>, Error> {
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(root)?), provider())
        .build()
        .map_err(|error| Error::General(error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(shown);
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// Resumed sessions would carry a certificate past its renewal or revocation.
fn without_resumption(mut config: ClientConfig, alpn: &[&[u8]]) -> ClientConfig {
    config.resumption = Resumption::disabled();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config
}

fn roots(root: CertificateDer<'static>) -> Result<RootCertStore, Error> {
    let mut store = RootCertStore::empty();
    store.add(root)?;
    Ok(store)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
