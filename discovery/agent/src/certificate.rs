//! Certificates: the door's own, and reading a hub's.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, anyhow, ensure};
use rcgen::{CertificateParams, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs::{default_provider, sign::any_supported_type},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
};
use sluice_node_identity::{Fingerprint, HubId, Principal, SpiffeId, TenantId, TrustDomain, UnixTime};
use x509_parser::{extensions::GeneralName, prelude::FromDer};

use crate::http::Caller;

/// Longest chain that is taken, certificates.
const MAX_CHAIN: usize = 8;
/// Shortest pause before the next certificate is asked for.
const MIN_RENEWAL: Duration = Duration::from_secs(60);

/// A TLS configuration of the door, and when to ask for the next.
pub(crate) struct Door {
    pub(crate) tls: Arc<ServerConfig>,
    pub(crate) renew_in: Duration,
}

/// A new key and its certificate request for `host`.
pub(crate) fn request(host: &str) -> anyhow::Result<(KeyPair, String)> {
    let key = KeyPair::generate().context("cannot make a key")?;
    let params = CertificateParams::new(vec![host.to_owned()]).context("the check-in host is no DNS name")?;
    let csr = params.serialize_request(&key)?.pem()?;
    Ok((key, csr))
}

/// Builds the door from control's answer: leaf for `key` first, the tenant's hub root last. That root alone
/// vouches for clients.
pub(crate) fn door(key: &KeyPair, chain: &str, now: UnixTime) -> anyhow::Result<Door> {
    let mut chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(chain.as_bytes()).take(MAX_CHAIN).collect::<Result<_, _>>()?;
    ensure!(chain.len() >= 2, "the chain must hold the door's certificate and the hub root");
    let root = chain.pop().context("empty chain")?;
    let provider = Arc::new(default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(root).context("the last certificate is not a root")?;
    // A client without a certificate may read the discovery document, nothing else.
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()?;
    let renew_in = renewal(chain.first().context("empty chain")?, now)?;
    let private = PrivateKeyDer::try_from(key.serialize_der()).map_err(|error| anyhow!("own key: {error}"))?;
    let certified = CertifiedKey::new(chain, any_supported_type(&private)?);
    certified.keys_match().context("the certificate is for another key")?;
    let resolver: Arc<dyn ResolvesServerCert> = Arc::new(SingleCertAndKey::from(certified));
    let mut tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(resolver);
    // A resumed session would carry a certificate that nobody looks at again.
    tls.session_storage = Arc::new(NoServerSessionStorage {});
    tls.send_tls13_tickets = 0;
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Door { tls: Arc::new(tls), renew_in })
}

/// Half of what is left of its life.
fn renewal(leaf: &CertificateDer<'_>, now: UnixTime) -> anyhow::Result<Duration> {
    let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(leaf).context("the door's certificate")?;
    let ends = UnixTime(u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0));
    let left = ends.since(now);
    ensure!(left > 0, "the door's certificate is over");
    Ok(Duration::from_secs(left / 2).max(MIN_RENEWAL))
}

/// Which hub of `tenant` a verified client certificate names.
pub(crate) fn caller(leaf: &CertificateDer<'_>, domain: &TrustDomain, tenant: &TenantId) -> anyhow::Result<Caller> {
    let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(leaf)?;
    let names = parsed.subject_alternative_name()?.context("no subject alternative name")?;
    let uris: Vec<&str> = names
        .value
        .general_names
        .iter()
        .filter_map(|name| if let GeneralName::URI(uri) = name { Some(*uri) } else { None })
        .collect();
    let [uri] = uris.as_slice() else { return Err(anyhow!("{} URI names, one is needed", uris.len())) };
    let id: SpiffeId = uri.parse()?;
    let hub: HubId = match id.principal {
        Principal::Hub { tenant: of, id: hub } if of == *tenant && id.trust_domain == *domain => hub,
        _ => return Err(anyhow!("{uri} is not a hub of this tenant")),
    };
    Ok(Caller { hub, key: Fingerprint::of(parsed.public_key().raw) })
}
