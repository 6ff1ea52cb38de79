//! Certificates of the hosts that are terminated here, one TLS configuration each.

use std::{path::PathBuf, sync::Arc};

use anyhow::{Context, bail};
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

/// A chain and its key for some hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostCertificate {
    /// Exact names in lower case, or `*.name` for one label more.
    pub hosts: Vec<String>,
    /// PEM, leaf first.
    pub chain: PathBuf,
    /// PEM.
    pub key: PathBuf,
}

/// TLS configurations by host.
pub(crate) struct Certificates {
    entries: Vec<(Vec<String>, Arc<ServerConfig>)>,
}

impl Certificates {
    pub(crate) fn load(certificates: &[HostCertificate]) -> anyhow::Result<Self> {
        let entries = certificates.iter().map(|one| Ok((one.hosts.clone(), Arc::new(config(one)?))));
        Ok(Self { entries: entries.collect::<anyhow::Result<_>>()? })
    }

    /// The configuration for `host`; an exact name goes before a wildcard.
    pub(crate) fn for_host(&self, host: &str) -> Option<Arc<ServerConfig>> {
        let find = |matches: &dyn Fn(&String) -> bool| {
            self.entries.iter().find(|(hosts, _)| hosts.iter().any(matches)).map(|(_, config)| config.clone())
        };
        let parent = host.split_once('.').map(|(_, parent)| parent);
        find(&|name| name == host).or_else(|| find(&|name| name.strip_prefix("*.") == parent && parent.is_some()))
    }
}

/// AES-256 and ChaCha20 suites with forward secrecy only; the post-quantum hybrid is preferred (G6).
pub(crate) fn provider() -> CryptoProvider {
    use aws_lc_rs::cipher_suite as suite;
    CryptoProvider {
        cipher_suites: vec![
            suite::TLS13_AES_256_GCM_SHA384,
            suite::TLS13_CHACHA20_POLY1305_SHA256,
            suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
            suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        ],
        ..aws_lc_rs::default_provider()
    }
}

fn config(certificate: &HostCertificate) -> anyhow::Result<ServerConfig> {
    let HostCertificate { hosts, chain, key } = certificate;
    if hosts.is_empty() {
        bail!("the certificate {} is for no host; name at least one in `hosts`", chain.display());
    }
    let leaf_first = CertificateDer::pem_file_iter(chain)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("cannot read the certificate chain {}", chain.display()))?;
    if leaf_first.is_empty() {
        bail!("{} holds no certificate", chain.display());
    }
    // The underlying error could quote the file, so only the path is told.
    let private = PrivateKeyDer::from_pem_file(key).map_err(|_| {
        anyhow::anyhow!("cannot read a private key from {}; it must be readable and PEM", key.display())
    })?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_single_cert(leaf_first, private)
        .with_context(|| format!("{} and {} do not belong together", chain.display(), key.display()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = aws_lc_rs::Ticketer::new().context("cannot make session tickets")?;
    Ok(config)
}
