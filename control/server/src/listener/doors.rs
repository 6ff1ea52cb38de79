//! Which server a connection meets, chosen by its server name before the handshake goes on.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs::default_provider,
    pki_types::CertificateDer,
    server::{NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
    version::{TLS12, TLS13},
};
use sluice_control_domain::{Kind, Load, PLATFORM, Store, Tenant};
use sluice_control_pki::Authority;
use sluice_node_identity::UnixTime;

use crate::{connection::Names, keys::ControlKeys};

/// Configurations kept: three names of control's own and one per tenant.
const KEPT: usize = 1_024;
/// A server certificate is made anew this long before it ends.
const RENEW_BEFORE: u64 = 3 * 24 * 3600;

/// What is behind a server name.
#[derive(Clone, Debug)]
pub(super) enum Door {
    /// Node API.
    Node,
    /// A tenant's EST.
    Est(Arc<Tenant>),
    /// Console and admin API.
    Console,
    /// Users' pages.
    Pages,
}

/// Makes and keeps a TLS configuration per name.
pub(super) struct Doors {
    store: Arc<dyn Store>,
    keys: Arc<ControlKeys>,
    names: Names,
    made: Mutex<HashMap<String, (Arc<ServerConfig>, UnixTime)>>,
}

/// Who must show a certificate.
enum Clients<'a> {
    /// Nobody does.
    None,
    /// Under this root, when one is shown.
    Optional(&'a Authority),
    /// Under this root.
    Required(&'a Authority),
}

impl Doors {
    pub(super) fn new(store: Arc<dyn Store>, keys: Arc<ControlKeys>, names: Names) -> Self {
        Self { store, keys, names, made: Mutex::default() }
    }

    /// The door behind `host` and its TLS; `None` when nothing is there.
    pub(super) async fn find(&self, host: &str, now: UnixTime) -> anyhow::Result<Option<(Door, Arc<ServerConfig>)>> {
        let root = self.keys.node_root();
        let found = if host == self.names.node {
            (Door::Node, self.config(host, root, &Clients::Optional(root), now)?)
        } else if host == self.names.console {
            (Door::Console, self.config(host, root, &Clients::None, now)?)
        } else if host == self.names.pages {
            (Door::Pages, self.config(host, root, &Clients::Required(root), now)?)
        } else {
            let Some(tenant) = self.tenant(host).await? else { return Ok(None) };
            let hubs = self.keys.hub_root(&tenant)?;
            let config = self.config(host, &hubs, &Clients::Optional(&hubs), now)?;
            (Door::Est(Arc::new(tenant)), config)
        };
        Ok(Some(found))
    }

    async fn tenant(&self, host: &str) -> anyhow::Result<Option<Tenant>> {
        let by = Load::ByIndex {
            kind: Kind::Tenant,
            tenant: Some(PLATFORM.to_owned()),
            name: "est_host",
            value: host.to_owned(),
            limit: 1,
        };
        let found = self.store.load(by).await?.pop();
        Ok(found.map(sluice_control_domain::Stored::typed::<Tenant>).transpose()?.map(|tenant| tenant.body))
    }

    fn config(
        &self,
        host: &str,
        issuer: &Authority,
        clients: &Clients<'_>,
        now: UnixTime,
    ) -> anyhow::Result<Arc<ServerConfig>> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((config, until)) = made.get(host)
            && now < *until
        {
            return Ok(config.clone());
        }
        let (key, not_after) = ControlKeys::server_identity(issuer, host, now)?;
        let config = Arc::new(server_config(key, clients)?);
        if made.len() >= KEPT {
            made.clear();
        }
        made.insert(host.to_owned(), (config.clone(), UnixTime(not_after.0.saturating_sub(RENEW_BEFORE))));
        Ok(config)
    }
}

fn server_config(key: CertifiedKey, clients: &Clients<'_>) -> anyhow::Result<ServerConfig> {
    let provider = Arc::new(default_provider());
    let roots = |root: &Authority| -> anyhow::Result<_> {
        let mut store = RootCertStore::empty();
        store.add(CertificateDer::from(root.der().to_vec()))?;
        Ok(WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider.clone()))
    };
    // TLS 1.2 is for stock EST clients and browsers; nodes and gateways speak 1.3 anyway.
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(&[&TLS13, &TLS12])?;
    let builder = match clients {
        Clients::None => builder.with_no_client_auth(),
        Clients::Optional(root) => {
            let verifier = roots(root)?.allow_unauthenticated().build().context("client verifier")?;
            builder.with_client_cert_verifier(verifier)
        }
        Clients::Required(root) => builder.with_client_cert_verifier(roots(root)?.build().context("client verifier")?),
    };
    let resolver: Arc<dyn ResolvesServerCert> = Arc::new(SingleCertAndKey::from(key));
    let mut config = builder.with_cert_resolver(resolver);
    // No resumption: every connection shows its certificate, and the identity store judges it, anew.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
