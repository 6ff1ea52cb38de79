//! How control reaches a system of record: a sealed stream through whichever gateway holds a tunnel to its connector.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use anyhow::Context;
use async_trait::async_trait;
use ipnetwork::IpNetwork;
use rustls::pki_types::CertificateDer;
use sluice_connector_caller::{CallError, Gateway, Limits, SealedCaller, Way, Wish};
use sluice_connector_wire::{ClassPair, Target, TokenSigner};
use sluice_control_domain::{
    ExceptionRecord, Load, NodeRecord, Record, RecordKey, ResourceRecord, Store, Stored, compile::GATEWAY_PORT,
    reachable,
};
use sluice_control_server::{ControlKeys, Tunnels};
use sluice_control_workers::{BoxedIo, Reach, ReachError};
use sluice_node_identity::{NodeId, ResourceId, Role, SiteId, TenantId, UnixTime};
use sluice_node_reach::DialGuard;

/// Most (gateway address, tunnel) pairs tried for one stream.
const TRIES: usize = 6;
/// Most nodes of one tenant.
const MAX_NODES: u32 = 1000;
/// Most exceptions of one resource looked at.
const MAX_EXCEPTIONS: u32 = 1000;
/// A client certificate is made anew this long before it ends, seconds.
const RENEW_BEFORE: u64 = 3 * 24 * 3600;
/// How long a connector that refused for good is asked last.
const ASKED_LAST: Duration = Duration::from_secs(5);
/// Gateways may stand in a company's own networks; loopback and metadata addresses stay forbidden.
const OWN_NETWORKS: [&str; 5] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"];

/// Sealed streams.
pub(super) struct Sealed {
    store: Arc<dyn Store>,
    tunnels: Arc<Tunnels>,
    keys: Arc<ControlKeys>,
    signer: Arc<TokenSigner>,
    guard: DialGuard,
    caller: Mutex<Option<(Arc<SealedCaller>, UnixTime)>>,
    /// Which of a site's connectors is asked first; the next one the next time.
    turn: AtomicUsize,
    /// Connectors that refused for good lately, and when.
    refused: Mutex<HashMap<NodeId, Instant>>,
}

fn now() -> UnixTime {
    UnixTime::from(SystemTime::now())
}

impl Sealed {
    pub(super) fn new(store: Arc<dyn Store>, tunnels: Arc<Tunnels>, keys: Arc<ControlKeys>) -> anyhow::Result<Self> {
        let signer = Arc::new(TokenSigner::control(&keys.keystore().secret("caller/control")?)?);
        let networks = OWN_NETWORKS.iter().map(|network| network.parse()).collect::<Result<Vec<IpNetwork>, _>>()?;
        Ok(Self {
            store,
            tunnels,
            keys,
            signer,
            guard: DialGuard::new(networks),
            caller: Mutex::default(),
            turn: AtomicUsize::new(0),
            refused: Mutex::default(),
        })
    }

    /// The caller with a certificate that is good for days yet.
    fn caller(&self) -> anyhow::Result<Arc<SealedCaller>> {
        let mut held = self.caller.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((caller, until)) = held.as_ref()
            && now() < *until
        {
            return Ok(Arc::clone(caller));
        }
        let (certificate, not_after) = self.keys.client_identity(now())?;
        let root = CertificateDer::from(self.keys.node_root().der().to_vec());
        let caller = SealedCaller::new(
            self.keys.trust_domain().clone(),
            root,
            Arc::new(certificate),
            Arc::clone(&self.signer),
            Limits::default(),
        )?;
        let caller = Arc::new(caller);
        *held = Some((Arc::clone(&caller), UnixTime(not_after.0.saturating_sub(RENEW_BEFORE))));
        Ok(caller)
    }

    async fn ways(&self, tenant: &TenantId, site: &SiteId) -> anyhow::Result<Vec<Way>> {
        let scan = Load::Scan { kind: NodeRecord::KIND, tenant: tenant.to_string(), after: None, limit: MAX_NODES };
        let found = self.store.load(scan).await?;
        let nodes: Vec<NodeRecord> =
            found.into_iter().map(|stored| Ok(stored.typed()?.body)).collect::<anyhow::Result<_>>()?;
        let living = |node: &&NodeRecord| node.binding.as_ref().is_some_and(|binding| binding.lock.is_none());
        // Gateways in turn, the one heard of last first: one that tells of many sessions must not use up all tries.
        let mut by_gateway: Vec<(NodeId, VecDeque<Way>)> =
            self.tunnels.gateways(tenant, now()).into_iter().map(|id| (id, VecDeque::new())).collect();
        let here = |node: &&NodeRecord| node.role == Role::Connector && node.site == *site;
        let here: Vec<&NodeRecord> = nodes.iter().filter(living).filter(here).collect();
        let turn = self.turn.fetch_add(1, Relaxed);
        for connector in in_turn(here, turn, |connector| self.has_refused(&connector.id)) {
            for (id, sid) in self.tunnels.to(tenant, &connector.id, now()) {
                let gateway = nodes.iter().filter(living).find(|node| node.id == id && node.role == Role::Gateway);
                let queue = by_gateway.iter_mut().find(|(other, _)| *other == id);
                if let (Some(node), Some((_, queue))) = (gateway, queue) {
                    let way = |gateway| Way { connector: connector.id.clone(), gateway, sid: sid.clone() };
                    queue.extend(self.doors(node).map(way));
                }
            }
        }
        let mut ways = Vec::new();
        while ways.len() < TRIES && by_gateway.iter().any(|(_, left)| !left.is_empty()) {
            ways.extend(by_gateway.iter_mut().filter_map(|(_, left)| left.pop_front()));
        }
        ways.truncate(TRIES);
        Ok(ways)
    }

    fn has_refused(&self, connector: &NodeId) -> bool {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.get(connector).is_some_and(|at| at.elapsed() < ASKED_LAST)
    }

    /// What is wrong may be its own clock or list: others are asked before it for a while.
    fn note_refusal(&self, connector: &NodeId) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.retain(|_, at| at.elapsed() < ASKED_LAST);
        refused.insert(connector.clone(), Instant::now());
    }

    /// A gateway's addresses that may be dialled.
    fn doors(&self, node: &NodeRecord) -> impl Iterator<Item = Gateway> {
        let permitted: Vec<SocketAddr> = match self.guard.permit(&node.addresses, GATEWAY_PORT) {
            Ok(permitted) => permitted.addresses().to_vec(),
            Err(error) => {
                tracing::warn!(gateway = %node.id, "its addresses may not be dialled: {error}");
                Vec::new()
            }
        };
        let (id, host) = (node.id.clone(), node.host.clone().unwrap_or_default());
        permitted.into_iter().map(move |address| Gateway { id: id.clone(), address, host: host.clone() })
    }

    async fn resource(&self, tenant: &TenantId, id: &ResourceId) -> anyhow::Result<Option<ResourceRecord>> {
        let key = RecordKey { kind: ResourceRecord::KIND, tenant: tenant.to_string(), id: id.to_string() };
        let found = self.store.load(Load::Keys(vec![key])).await?.pop();
        Ok(found.map(Stored::typed::<ResourceRecord>).transpose()?.map(|found| found.body))
    }

    /// Where the resource `id` is, if control may ask for it now.
    async fn place(&self, tenant: &TenantId, id: &ResourceId) -> anyhow::Result<Option<(SiteId, Target)>> {
        let resource = self.resource(tenant, id).await?;
        let by = Load::ByIndex {
            kind: ExceptionRecord::KIND,
            tenant: Some(tenant.to_string()),
            name: "resource",
            value: id.to_string(),
            limit: MAX_EXCEPTIONS,
        };
        let found = self.store.load(by).await?;
        let exceptions: Vec<ExceptionRecord> =
            found.into_iter().map(|stored| Ok(stored.typed()?.body)).collect::<anyhow::Result<_>>()?;
        Ok(reachable(id, resource.as_ref(), &exceptions, now()))
    }

    async fn try_open(&self, tenant: &TenantId, id: &ResourceId, subject: &str) -> anyhow::Result<BoxedIo> {
        let place = self.place(tenant, id).await?;
        let (site, target) = place.with_context(|| format!("there is no resource \"{id}\" for control; add it"))?;
        let ways = self.ways(tenant, &site).await?;
        let caller = self.caller()?;
        let wish = Wish { tenant, resource: id, target: &target, subject, pair: pair_for(subject) };
        let failed = |way: &Way, error: &CallError| {
            tracing::info!(gateway = %way.gateway.id, connector = %way.connector, "no sealed stream: {}", causes(error));
            if matches!(error, CallError::Refused { retry: false, .. }) {
                self.note_refusal(&way.connector);
            }
        };
        match caller.open_any(&ways, &wish, failed).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(Some(error)) => Err(error).with_context(|| format!("resource \"{id}\" cannot be reached")),
            Err(None) => anyhow::bail!("no connector at site \"{}\" has a tunnel now; is it running?", site),
        }
    }
}

/// `all`, beginning with another one each `turn`; those that are to come `last` come last.
fn in_turn<T>(all: Vec<T>, turn: usize, last: impl Fn(&T) -> bool) -> Vec<T> {
    let (last, mut first): (Vec<T>, Vec<T>) = all.into_iter().partition(last);
    let by = turn.checked_rem(first.len()).unwrap_or(0);
    first.rotate_left(by);
    first.extend(last);
    first
}

/// Nobody waits for what a service does: copies must not stand before what users do.
fn pair_for(subject: &str) -> ClassPair {
    if subject.starts_with("service/") { ClassPair::Bulk } else { ClassPair::Standard }
}

fn causes(error: &CallError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(deeper) = cause {
        text = format!("{text}: {deeper}");
        cause = deeper.source();
    }
    text
}

#[async_trait]
impl Reach for Sealed {
    async fn open(&self, tenant: &TenantId, resource: &ResourceId, sub: &str) -> Result<BoxedIo, ReachError> {
        self.try_open(tenant, resource, sub).await.map_err(|error| ReachError(format!("{error:#}")))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

    use super::*;

    #[test]
    fn c5_control_asks_a_sites_connectors_in_turn_and_those_that_refuse_last() {
        let asked = |turn| in_turn(vec!["dc-1", "dc-2", "dc-3"], turn, |id| *id == "dc-1");
        assert_eq!((0..4).map(|turn| asked(turn)[0]).collect::<Vec<_>>(), ["dc-2", "dc-3", "dc-2", "dc-3"]);
        assert!((0..4).all(|turn| asked(turn)[2] == "dc-1"));
        let firsts: Vec<_> = (0..4).map(|turn| in_turn(vec![1, 2, 3], turn, |_| false)[0]).collect();
        assert_eq!(firsts, [1, 2, 3, 1]);
        assert!(in_turn(Vec::<u8>::new(), 7, |_| false).is_empty());
    }
}
