//! TLS to a proxy itself, and to where a PAC script lies.

use std::{path::Path, sync::Arc};

use anyhow::{Context, ensure};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject},
};

/// Which authorities are believed there.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// PEM certificates of the customer's own authority, beside the system's.
    pub own: Option<Vec<u8>>,
}

impl Trust {
    /// Reads what is needed; afterwards no file is touched.
    pub(crate) fn client(&self) -> anyhow::Result<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        if let Some(path) = SYSTEM.iter().map(Path::new).find(|path| path.is_file()) {
            let found = CertificateDer::pem_file_iter(path).with_context(|| format!("{}", path.display()))?;
            // Some of a system's certificates may be of a kind that is not believed; they are passed over.
            roots.add_parsable_certificates(found.filter_map(Result::ok));
        }
        if let Some(pem) = &self.own {
            let found = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
            let found = found.context("web_proxy.ca_file holds no PEM certificates")?;
            ensure!(!found.is_empty(), "web_proxy.ca_file holds no PEM certificates");
            for certificate in found {
                roots.add(certificate).context("web_proxy.ca_file holds a certificate that is no authority's")?;
            }
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// Where distributions keep the bundle of authorities.
const SYSTEM: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
