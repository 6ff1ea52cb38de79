//! Who a verified certificate names.

use sluice_node_identity::SpiffeId;
use thiserror::Error;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// The certificate does not name exactly one of our peers.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the peer's certificate does not carry exactly one SPIFFE ID")]
pub struct PeerUnknown;

/// The SPIFFE ID of a leaf (DER): exactly one URI name (X.509-SVID §2). Whether the certificate is to be believed was
/// decided in the handshake.
///
/// # Errors
/// [`PeerUnknown`]
pub fn spiffe_id(leaf: &[u8]) -> Result<SpiffeId, PeerUnknown> {
    let (rest, certificate) = X509Certificate::from_der(leaf).map_err(|_| PeerUnknown)?;
    if !rest.is_empty() {
        return Err(PeerUnknown);
    }
    let names = certificate.subject_alternative_name().map_err(|_| PeerUnknown)?.ok_or(PeerUnknown)?;
    let mut uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    match (uris.next(), uris.next()) {
        (Some(uri), None) => uri.parse().map_err(|_| PeerUnknown),
        _ => Err(PeerUnknown),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    fn leaf(uris: &[&str]) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn exactly_one_name_is_taken() {
        let id = "spiffe://sluice.test/tenant/acme/connector/dc-1";
        assert_eq!(spiffe_id(&leaf(&[id])).unwrap().to_string(), id);
        assert_eq!(spiffe_id(&leaf(&[id, "spiffe://sluice.test/control"])), Err(PeerUnknown));
        assert_eq!(spiffe_id(&leaf(&[])), Err(PeerUnknown));
        assert_eq!(spiffe_id(&leaf(&["https://a.test"])), Err(PeerUnknown));
    }

    proptest! {
        #[test]
        fn random_and_truncated_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in 0usize..400) {
            let _id = spiffe_id(&bytes);
            let whole = leaf(&["spiffe://sluice.test/control"]);
            let cut = cut.min(whole.len() - 1);
            prop_assert!(spiffe_id(&whole[..cut]).is_err());
        }
    }
}
