//! The connector's agent: dials out to every gateway of its tenant, judges each stream itself, resolves and connects.
//!
//! Nothing listens here and nothing of a stream is kept; the only file is the newest document and its list's number.

mod board;
mod dial;
mod ledger;
mod link;
mod places;
mod position;
mod quiet;
mod resolve;
mod status;
mod stream;

use std::{
    collections::BTreeSet,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use anyhow::Context;
use ipnetwork::IpNetwork;
use rustls::{ClientConfig, ServerConfig, pki_types::CertificateDer};
use sluice_connector_wire::{
    AllowListKeeper, ConnectorDocument, Gatekeeper, GatewayEndpoint, ListPosition, ListRefused, SPENT_PER_CALLER,
};
use sluice_node_identity::{LiveStreams, NodeId, Principal, Role, SpiffeId, StateView, StreamId, UnixTime};
use thiserror::Error;
use tokio::{sync::watch, time::interval};

use crate::{board::Board, ledger::Ledger, places::Places, position::PositionFile};
pub use status::{About, Contact, GatewayHealth, Health, Heard, LegHealth, ListHealth, serve_status};

pub use crate::link::{BoxedIo, Io, LaneStatus, LinkStatus, Outward, Reaching, TlsWords, TunnelStatus, WayOut};
pub use crate::resolve::{BadDns, DnsServer, DnsSettings, DnsSuffix, Resolver};

/// How often refusals that were counted instead of logged are summed up in the log.
const TIDY_EVERY: Duration = Duration::from_secs(5);

/// Gives a TLS configuration; asked for each connection, so that a renewed certificate is shown.
pub type ClientTls = Arc<dyn Fn() -> anyhow::Result<Arc<ClientConfig>> + Send + Sync>;
/// Gives a TLS configuration; asked for each sealed stream.
pub type ServerTls = Arc<dyn Fn() -> anyhow::Result<Arc<ServerConfig>> + Send + Sync>;

/// What an agent is made of.
pub struct Pieces {
    /// `spiffe://<trust-domain>/tenant/<t>/connector/<id>`, as in its certificate.
    pub name: SpiffeId,
    /// Thumbprint of the tenant's policy key that came with the join code.
    pub policy_thumbprint: String,
    /// Root of all nodes.
    pub node_root: CertificateDer<'static>,
    /// Shows the node's certificate. Its verifier and ALPN are replaced: a gateway is known by its SPIFFE ID.
    pub client: ClientTls,
    /// Shows the node's certificate and requires one under the node root. Its ALPN is replaced.
    pub server: ServerTls,
    /// Where `allow-list.json` is kept.
    pub state_dir: PathBuf,
    /// Own networks in which gateways may lie; the document cannot widen them.
    pub gateway_networks: Vec<IpNetwork>,
    /// Networks in which no target is dialled, whatever the list says.
    pub forbidden_networks: Vec<IpNetwork>,
    /// Who resolves names.
    pub dns: DnsSettings,
    /// Whether control has been silent for so long that nothing new may be opened: locks and new lists may be unknown.
    pub stale: Arc<dyn Fn() -> bool + Send + Sync>,
    /// Bounds.
    pub limits: Limits,
}

/// Everything an agent bounds; the defaults are the hardened ones.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Time for a TCP connection to a gateway, for each TLS handshake and for each first frame: 10 s.
    pub handshake: Duration,
    /// Time to resolve a target: 5 s.
    pub resolve: Duration,
    /// Time to connect to a target, all its addresses together: 10 s.
    pub connect: Duration,
    /// Streams of all tunnels: 512. One caller alone gets at most three quarters of them, less when others hold some.
    pub streams: usize,
    /// Streams of one gateway that have not shown a good token yet: 128.
    pub asking: usize,
    /// Targets' names being resolved at a time: 64, shared as `streams`. Gateways' names have as much room of their own.
    pub resolving: usize,
    /// Gateways in a document: 64.
    pub gateways: usize,
    /// How long a stream of datagrams may be silent: 60 s.
    pub udp_idle: Duration,
    /// Time that running streams get when the agent stops: 30 s.
    pub drain: Duration,
    /// First pause before dialling a gateway again: 500 ms. It doubles up to `pause_max`, and is spread.
    pub pause_min: Duration,
    /// Longest such pause: 30 s.
    pub pause_max: Duration,
    /// First pause before QUIC is tried again while on TCP: 15 s. It doubles up to `probe_max`, and is spread.
    pub probe_min: Duration,
    /// Longest such pause: 10 min.
    pub probe_max: Duration,
    /// Spent tokens remembered per caller: 262,144.
    pub spent_per_caller: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            resolve: Duration::from_secs(5),
            connect: Duration::from_secs(10),
            streams: 512,
            asking: 128,
            resolving: 64,
            gateways: 64,
            udp_idle: Duration::from_secs(60),
            drain: Duration::from_secs(30),
            pause_min: Duration::from_millis(500),
            pause_max: Duration::from_secs(30),
            probe_min: Duration::from_secs(15),
            probe_max: Duration::from_secs(600),
            spent_per_caller: SPENT_PER_CALLER,
        }
    }
}

/// Why a document was refused; what ran before goes on.
#[derive(Debug, Error)]
pub enum DocumentRefused {
    /// More gateways than the agent may keep tunnels to, or one twice.
    #[error("the document names {0} gateways or one of them twice; at most {1}, each once")]
    Gateways(usize, usize),
    /// Its allow-list.
    #[error(transparent)]
    List(#[from] ListRefused),
    /// The list and its number could not be stored, so that it might go back after a restart.
    #[error("the allow-list cannot be stored in the state directory: {0:#}")]
    Position(anyhow::Error),
}

/// A connector. Cloning gives another handle to the same one.
#[derive(Clone)]
pub struct Agent {
    shared: Arc<Shared>,
}

struct Shared {
    pieces: Pieces,
    gatekeeper: Mutex<Gatekeeper>,
    position: PositionFile,
    /// The document on disk; held while another one is taken into use.
    kept: Mutex<Option<ConnectorDocument>>,
    gateways: watch::Sender<Vec<GatewayEndpoint>>,
    /// Counts lists taken into use; running streams look again at each.
    lists: watch::Sender<u64>,
    /// Streams whose token was good, by caller.
    streams: Arc<Places>,
    /// Streams that have not shown a good token yet, by gateway.
    asking: Arc<Places>,
    ledger: Arc<Ledger>,
    board: Arc<Board>,
    /// For targets.
    resolver: Resolver,
    /// For gateways: no target's name may be in their way.
    gateway_resolver: Resolver,
    /// How gateways' TCP ports are reached, if not directly.
    way_out: Option<Arc<dyn WayOut>>,
    /// Nodes that the state feed takes the right to a tunnel.
    locked: watch::Sender<BTreeSet<NodeId>>,
    overview: link::Overview,
}

impl Agent {
    /// Reads what was stored. Opens no connection yet; will reach gateways directly.
    ///
    /// # Errors
    /// The name is not a connector's, or the stored position cannot be read: an agent that forgot its list's number
    /// would let an old list in.
    pub fn open(pieces: Pieces) -> anyhow::Result<Self> {
        Self::with(pieces, None)
    }

    /// As [`Agent::open`]; gateways' TCP ports are reached by `way_out`, QUIC always goes directly.
    ///
    /// # Errors
    /// As [`Agent::open`].
    pub fn open_through(pieces: Pieces, way_out: Arc<dyn WayOut>) -> anyhow::Result<Self> {
        Self::with(pieces, Some(way_out))
    }

    fn with(pieces: Pieces, way_out: Option<Arc<dyn WayOut>>) -> anyhow::Result<Self> {
        let Principal::Node { tenant, role: Role::Connector, id } = &pieces.name.principal else {
            anyhow::bail!("{} is not a connector's name", pieces.name);
        };
        let position = PositionFile::new(&pieces.state_dir, &pieces.name.to_string(), &pieces.policy_thumbprint);
        let (known, kept) = position.read().context("reading the stored allow-list position")?.unzip();
        let kept = kept.flatten();
        let mut keeper = AllowListKeeper::new(tenant.clone(), id.clone(), pieces.policy_thumbprint.clone(), known);
        let used = kept.as_ref().filter(|document| match keeper.offer(&document.allow_list, now()) {
            Ok(()) => true,
            Err(reason) => {
                tracing::warn!("the allow-list on disk is not used: {reason}");
                false
            }
        });
        let gateways = used.map(|document| document.gateways.clone()).unwrap_or_default();
        let gatekeeper = Gatekeeper::new(keeper, pieces.limits.spent_per_caller);
        let resolver = || Resolver::new(&pieces.dns, pieces.limits.resolving, pieces.limits.resolve);
        let shared = Shared {
            gatekeeper: Mutex::new(gatekeeper),
            position,
            kept: Mutex::new(kept),
            gateways: watch::Sender::new(gateways),
            lists: watch::Sender::new(0),
            streams: Places::shared(pieces.limits.streams),
            asking: Places::each(pieces.limits.asking),
            ledger: Arc::default(),
            board: Arc::default(),
            resolver: resolver()?,
            gateway_resolver: resolver()?,
            way_out,
            locked: watch::Sender::new(BTreeSet::new()),
            overview: link::Overview::default(),
            pieces,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Takes a document into use, all or nothing. It is on disk with its list's number before the list counts.
    /// Checks signatures and writes files: not for a thread on which anything else waits.
    ///
    /// # Errors
    /// [`DocumentRefused`].
    pub fn apply(&self, document: &ConnectorDocument) -> Result<(), DocumentRefused> {
        let gateways = &document.gateways;
        let most = self.shared.pieces.limits.gateways;
        let repeated =
            gateways.iter().enumerate().any(|(at, one)| gateways.iter().skip(at + 1).any(|o| o.id == one.id));
        if gateways.len() > most || repeated {
            return Err(DocumentRefused::Gateways(gateways.len(), most));
        }
        let mut kept = self.shared.kept.lock().unwrap_or_else(PoisonError::into_inner);
        // On a copy: streams are judged meanwhile.
        let mut keeper = self.shared.gatekeeper().lists().clone();
        keeper.offer(&document.allow_list, now())?;
        if let Some(position) = keeper.position().filter(|_| kept.as_ref() != Some(document)) {
            self.shared.position.write(position, document).map_err(DocumentRefused::Position)?;
            *kept = Some(document.clone());
        }
        self.shared.gatekeeper().use_lists(keeper, now());
        self.shared.lists.send_modify(|count| *count += 1);
        self.shared.gateways.send_if_modified(|before| {
            let changed = before != gateways;
            before.clone_from(gateways);
            changed
        });
        Ok(())
    }

    /// Takes the state feed's word about nodes: a gateway that was revoked or locked loses its tunnel, streams and all,
    /// and is not dialled as long as the feed says so.
    pub fn obey(&self, view: &StateView) {
        let named = view.under("node/").filter_map(|(key, _)| key.strip_prefix("node/")?.parse().ok());
        let now: BTreeSet<NodeId> = named.collect();
        self.shared.locked.send_if_modified(|before| {
            let changed = *before != now;
            *before = now;
            changed
        });
    }

    /// Every tunnel that is wanted, and how it stands.
    #[must_use]
    pub fn tunnels(&self) -> Vec<TunnelStatus> {
        self.shared.overview.tunnels()
    }

    /// Keeps a tunnel to every gateway until `shutdown` is true, then lets running streams end.
    pub async fn run(&self, shutdown: watch::Receiver<bool>) {
        tokio::select! {
            () = link::keep_all(self.shared.clone(), shutdown) => {}
            () = self.tidy() => {}
        }
    }

    /// Streams that run now, the newest first, at most [`sluice_node_identity::STREAMS_TOLD`].
    #[must_use]
    pub fn streams(&self) -> LiveStreams {
        self.shared.ledger.live()
    }

    /// How many streams run, and word of every change.
    #[must_use]
    pub fn stream_count(&self) -> watch::Receiver<usize> {
        self.shared.ledger.count()
    }

    /// Ends a stream: both its sides are broken off. False when there is none of this name.
    #[must_use]
    pub fn kill(&self, stream: StreamId) -> bool {
        self.shared.ledger.kill(stream)
    }

    async fn tidy(&self) {
        let mut every = interval(TIDY_EVERY);
        loop {
            every.tick().await;
            self.shared.ledger.tidy();
        }
    }
}

impl Shared {
    /// Whether the state feed has taken this caller its rights.
    fn is_locked(&self, caller: &str) -> bool {
        self.locked.borrow().iter().any(|node| node.as_str() == caller)
    }

    fn gatekeeper(&self) -> MutexGuard<'_, Gatekeeper> {
        // A panic while judging leaves at worst a token spent that opened nothing.
        self.gatekeeper.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The stored position of the lists of the connector `name` (a SPIFFE ID), as [`Agent::open`] reads it, and the document
/// it is of; older releases kept none.
///
/// # Errors
/// When it is there and cannot be read.
pub fn kept(
    state_dir: &Path,
    name: &str,
    policy_thumbprint: &str,
) -> anyhow::Result<Option<(ListPosition, Option<ConnectorDocument>)>> {
    PositionFile::new(state_dir, name, policy_thumbprint).read()
}

/// The first of a target's `addresses` that lies in one of `forbidden`. One is enough to refuse the target.
#[must_use]
pub fn forbidden_address(forbidden: &[IpNetwork], addresses: &[IpAddr]) -> Option<IpAddr> {
    let lies = |address: &&IpAddr| forbidden.iter().any(|network| network.contains(address.to_canonical()));
    addresses.iter().find(lies).copied()
}

fn now() -> UnixTime {
    UnixTime::from(SystemTime::now())
}
