//! Who is at the other end of a TLS connection: SPIFFE names in certificates (X509-SVID §2), and a verifier that
//! wants one certain node instead of a host name.

use std::{fmt, sync::Arc};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error as TlsError, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime as TlsTime},
    server::ParsedCertificate,
};
use sluice_node_identity::{SpiffeId, UnixTime};
use thiserror::Error;
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

/// ALPN of a tunnel connection (agent → gateway).
pub const ALPN_TUNNEL: &[u8] = b"sluice-tunnel/1";
/// ALPN of a relay connection (control → gateway).
pub const ALPN_RELAY: &[u8] = b"sluice-relay/1";
/// ALPN of the TLS inside a sealed stream (control → agent).
pub const ALPN_SEALED: &[u8] = b"sluice-sealed/1";

/// A certificate that names nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the certificate does not name exactly one SPIFFE ID")]
pub struct BadPeer;

/// What a node's certificate says. Only as true as the check of its chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Who.
    pub name: SpiffeId,
    /// Until when.
    pub not_after: UnixTime,
}

impl Peer {
    /// Reads a leaf certificate whose chain has been checked.
    ///
    /// # Errors
    /// [`BadPeer`].
    pub fn from_leaf(der: &[u8]) -> Result<Self, BadPeer> {
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| BadPeer)?;
        let names = certificate.subject_alternative_name().map_err(|_| BadPeer)?.ok_or(BadPeer)?;
        let mut uris = names.value.general_names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
        let (Some(uri), None, true) = (uris.next(), uris.next(), rest.is_empty()) else { return Err(BadPeer) };
        let not_after = u64::try_from(certificate.validity().not_after.timestamp()).map_err(|_| BadPeer)?;
        Ok(Self { name: uri.parse().map_err(|_| BadPeer)?, not_after: UnixTime(not_after) })
    }
}

/// A verifier that accepts one node's certificate, issued by the node root, whatever host name it was dialled by.
pub struct NodeVerifier {
    expected: SpiffeId,
    roots: RootCertStore,
    algorithms: WebPkiSupportedAlgorithms,
}

impl NodeVerifier {
    /// Wants `expected`, under `node_root`.
    ///
    /// # Errors
    /// When the root cannot be read.
    pub fn new(node_root: CertificateDer<'static>, expected: SpiffeId) -> Result<Arc<Self>, TlsError> {
        let mut roots = RootCertStore::empty();
        roots.add(node_root)?;
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
        Ok(Arc::new(Self { expected, roots, algorithms }))
    }
}

impl fmt::Debug for NodeVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeVerifier({})", self.expected)
    }
}

impl ServerCertVerifier for NodeVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _dialled_name: &ServerName<'_>,
        _ocsp: &[u8],
        now: TlsTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, self.algorithms.all)?;
        match Peer::from_leaf(end_entity) {
            Ok(peer) if peer.name == self.expected => Ok(ServerCertVerified::assertion()),
            _ => Err(TlsError::InvalidCertificate(CertificateError::NotValidForName)),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Err(TlsError::PeerIncompatible(rustls::PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        None
    }
}
