//! What every part knows of a connection: under which name it came, who is at its other end, how long it may take.

use std::{net::IpAddr, time::Duration};

use sluice_node_identity::{Fingerprint, SpiffeId};
use tokio::sync::watch;

/// A handshake (PROXY header included), a request's header, and then its body must each be done within this.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// Control's own server names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// Node API.
    pub node: String,
    /// Console and admin API.
    pub console: String,
    /// Users' pages.
    pub pages: String,
}

impl Names {
    /// Whether `host` is one of these names, lies below one, or has one below it.
    pub(crate) fn overlap(&self, host: &str) -> bool {
        let below = |host: &str, domain: &str| host.strip_suffix(domain).is_some_and(|front| front.ends_with('.'));
        [&self.node, &self.console, &self.pages]
            .into_iter()
            .any(|own| own == host || below(host, own) || below(own, host))
    }
}

/// The other end of a connection, in every request's extensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Address, as a gateway in front told it.
    pub address: IpAddr,
    /// The certificate it proved to hold, if it showed one.
    pub certificate: Option<Shown>,
}

/// A client certificate whose chain the handshake has checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Whose.
    pub name: SpiffeId,
    /// Fingerprint of its SubjectPublicKeyInfo.
    pub key: Fingerprint,
}

/// Returns when control stops (or nobody is left who could say so).
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}
