//! Certificates and requests for them.

use sluice_connector_wire::Peer;
use sluice_control_pki::{CertFacts, Csr, Leaf, MAX_CSR, PkiError, Usage, certs_only, pem_chain as read_chain};
use x509_parser::{certificate::X509Certificate, certification_request::X509CertificationRequest, prelude::FromDer};

use crate::{
    codec::{accepted, text},
    fixtures::{NOW, authority},
    gateway_peer,
};

/// Certificates: connectors, gateways and control read the same name from the same bytes.
pub fn certificate(data: &[u8]) {
    let (facts, peer, gateway) = (CertFacts::of(data), Peer::from_leaf(data), gateway_peer::spiffe_id(data));
    if let Ok(peer) = &peer {
        accepted();
        match &facts {
            Ok(facts) => assert_eq!((facts.name.as_ref(), facts.not_after), (Some(&peer.name), peer.not_after)),
            // Control refuses moments before 1970 in both fields, connectors look at the end only.
            Err(_) => {
                let (_, certificate) = X509Certificate::from_der(data).unwrap();
                assert!(certificate.validity().not_before.timestamp() < 0, "connectors believe what control refuses");
            }
        }
        assert_eq!(gateway.as_ref(), Ok(&peer.name));
    }
    if let (Ok(name), Ok(facts)) = (&gateway, &facts) {
        assert_eq!(facts.name.as_ref(), Some(name));
        assert_eq!(peer.as_ref().map(|peer| &peer.name), Ok(name));
    }
    if let Ok(facts) = &facts {
        assert_eq!(facts.name.is_some(), peer.is_ok(), "control reads a name that connectors do not, or reverse");
    }
    if let Ok(envelope) = certs_only(&[data]) {
        assert!(envelope.windows(data.len()).any(|window| window == data), "the envelope holds another certificate");
    }
}

/// Requests in DER, or in PEM: only with a proof of the key, which an independent reader finds too and which is the one
/// that is certified.
pub fn csr(data: &[u8]) {
    let text = text(data);
    let read = if text.starts_with("-----BEGIN") { Csr::from_pem(&text) } else { Csr::from_der(data) };
    let Ok(csr) = read else { return };
    accepted();
    assert!(csr.der().len() <= MAX_CSR);
    assert_eq!(Csr::from_der(csr.der()).as_ref(), Ok(&csr));
    let (_, other) = X509CertificationRequest::from_der(csr.der()).expect("another reader refuses the request");
    assert_eq!(other.certification_request_info.subject_pki.raw, csr.spki(), "two readers, two keys");
    assert!(csr.verify(data, data).is_err());
    let leaf = Leaf {
        key: csr.spki(),
        name: "spiffe://sluice.test/tenant/acme/gateway/dmz-1".parse().ok(),
        hosts: Vec::new(),
        addresses: Vec::new(),
        usage: Usage::Client,
        seconds: 60,
    };
    match authority().issue(&leaf, NOW, &[2; 16]) {
        Ok(issued) => {
            let facts = CertFacts::of(&issued.der).unwrap();
            assert_eq!((facts.key, facts.name), (csr.key(), leaf.name), "another key or name was certified");
        }
        Err(error) => assert_eq!(error, PkiError::Key),
    }
}

/// Chains in PEM: only certificates, in order.
pub fn pem_chain(data: &[u8]) {
    let text = text(data);
    let Ok(chain) = read_chain(&text) else { return };
    accepted();
    assert!(!chain.is_empty() && chain.len() <= text.matches("-----BEGIN CERTIFICATE-----").count());
    assert!(chain.iter().map(Vec::len).sum::<usize>() <= text.len());
}
