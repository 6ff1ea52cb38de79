//! The few facts a node needs from a certificate.

use anyhow::{Context, anyhow};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use sluice_node_identity::{Fingerprint, SpiffeId, UnixTime};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Most certificates in a chain that is read.
const MAX_CHAIN: usize = 8;

/// What a node looks at in a certificate (RFC 5280 §4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Fingerprint of the SubjectPublicKeyInfo.
    pub(crate) key: Fingerprint,
    /// The only URI among its names, when it is a SPIFFE ID of ours.
    pub(crate) spiffe: Option<SpiffeId>,
    /// First second it is good.
    pub(crate) not_before: UnixTime,
    /// Last second it is good.
    pub(crate) not_after: UnixTime,
}

impl Facts {
    /// Reads them.
    pub(crate) fn of(der: &[u8]) -> anyhow::Result<Self> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|error| anyhow!("not a certificate: {error}"))?;
        let names = certificate.subject_alternative_name().map_err(|error| anyhow!("bad names: {error}"))?;
        let uris: Vec<&str> = names
            .iter()
            .flat_map(|names| &names.value.general_names)
            .filter_map(|name| if let GeneralName::URI(uri) = name { Some(*uri) } else { None })
            .collect();
        let spiffe = match uris.as_slice() {
            [uri] => uri.parse().ok(),
            _ => None,
        };
        let second = |time: x509_parser::time::ASN1Time| UnixTime(u64::try_from(time.timestamp()).unwrap_or(0));
        Ok(Self {
            key: Fingerprint::of(certificate.tbs_certificate.subject_pki.raw),
            spiffe,
            not_before: second(certificate.validity().not_before),
            not_after: second(certificate.validity().not_after),
        })
    }
}

/// Reads a chain, leaf first.
pub(crate) fn chain(pem: &str) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .take(MAX_CHAIN)
        .collect::<Result<_, _>>()
        .context("not a chain of PEM certificates")?;
    if chain.is_empty() { Err(anyhow!("the chain holds no certificate")) } else { Ok(chain) }
}

/// Reads one certificate.
pub(crate) fn single(pem: &str) -> anyhow::Result<CertificateDer<'static>> {
    chain(pem)?.into_iter().next().context("no certificate")
}
