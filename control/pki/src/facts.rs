//! What a certificate says.

use sluice_node_identity::{Fingerprint, SpiffeId, UnixTime};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

use crate::PkiError;

/// The parts of a certificate that sluice looks at. Only as true as the check of its chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertFacts {
    /// Fingerprint of its SubjectPublicKeyInfo.
    pub key: Fingerprint,
    /// Its one SPIFFE ID; `None` when it has none, several, or one of a foreign shape.
    pub name: Option<SpiffeId>,
    /// First second it is good for.
    pub not_before: UnixTime,
    /// Last second it is good for.
    pub not_after: UnixTime,
}

fn bad(error: impl std::fmt::Display) -> PkiError {
    PkiError::Certificate(error.to_string())
}

impl CertFacts {
    /// Reads a certificate in DER.
    ///
    /// # Errors
    /// [`PkiError::Certificate`].
    pub fn of(der: &[u8]) -> Result<Self, PkiError> {
        let (rest, certificate) = X509Certificate::from_der(der).map_err(bad)?;
        if !rest.is_empty() {
            return Err(bad("bytes after its end"));
        }
        let names = certificate.subject_alternative_name().map_err(bad)?;
        let names = names.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
        let mut uris = names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
        let name = match (uris.next(), uris.next()) {
            (Some(uri), None) => uri.parse().ok(),
            _ => None,
        };
        let seconds = |time: i64| u64::try_from(time).map(UnixTime).map_err(bad);
        Ok(Self {
            key: Fingerprint::of(certificate.public_key().raw),
            name,
            not_before: seconds(certificate.validity().not_before.timestamp())?,
            not_after: seconds(certificate.validity().not_after.timestamp())?,
        })
    }
}

/// The certificates in a PEM text, DER each, in order.
///
/// # Errors
/// [`PkiError::Certificate`] when there is none or something else is among them.
pub fn pem_chain(text: &str) -> Result<Vec<Vec<u8>>, PkiError> {
    let blocks = pem::parse_many(text).map_err(bad)?;
    if blocks.is_empty() || blocks.iter().any(|block| block.tag() != "CERTIFICATE") {
        return Err(bad("not a list of certificates in PEM"));
    }
    Ok(blocks.into_iter().map(pem::Pem::into_contents).collect())
}
