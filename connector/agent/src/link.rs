//! Tunnels: one to each gateway, kept up.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context, bail, ensure};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rustls::{client::Resumption, pki_types::ServerName};
use sluice_connector_mux::{Connection, End, Metered, Stream, write_frame};
use sluice_connector_wire::{
    ALPN_TUNNEL, AgentHello, ClassPair, GatewayEndpoint, NodeVerifier, Peer, Transport, certificate_hash,
};
use sluice_node_identity::{NodeId, Principal, Role, SpiffeId};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep, timeout},
};
use tokio_rustls::TlsConnector;

use crate::{
    Shared,
    board::Hurdle,
    dial::{dial_gateway, keep_tunnel_alive},
    ledger::Way,
    now,
    pause::Pause,
    stream,
};

/// How often to look whether a tunnel's task has panicked.
const CHECK_EVERY: Duration = Duration::from_secs(5);
/// A tunnel that lived this long counts as a success; the next pause is short again.
const STEADY: Duration = Duration::from_secs(30);

/// What every stream of a tunnel knows about it.
#[derive(Debug)]
pub(crate) struct Tunnel {
    pub(crate) gateway: NodeId,
    pub(crate) sid: String,
    /// Hash of the certificate the gateway showed.
    pub(crate) cnf: String,
}

impl Tunnel {
    /// For the table of streams.
    pub(crate) fn way(&self) -> Way<'_> {
        Way { gateway: &self.gateway, transport: Transport::Tcp, pair: ClassPair::default() }
    }
}

/// Keeps a link to every gateway of the document until `shutdown`.
pub(crate) async fn keep_all(shared: Arc<Shared>, mut shutdown: watch::Receiver<bool>) {
    let mut wanted = shared.gateways.subscribe();
    let mut links: BTreeMap<NodeId, (GatewayEndpoint, JoinHandle<()>)> = BTreeMap::new();
    loop {
        let endpoints = wanted.borrow_and_update().clone();
        links.retain(|gateway, (endpoint, task)| {
            let stays = endpoints.contains(endpoint);
            if !stays {
                task.abort();
            } else if task.is_finished() {
                tracing::error!(%gateway, "a tunnel's task ended by itself; starting it again");
            }
            stays && !task.is_finished()
        });
        for endpoint in endpoints {
            links.entry(endpoint.id.clone()).or_insert_with(|| {
                let task = tokio::spawn(keep(shared.clone(), endpoint.clone(), shutdown.clone()));
                (endpoint, task)
            });
        }
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() { break },
            () = sleep(CHECK_EVERY) => {}
            // A sender that is gone means the same as a shutdown.
            _ = shutdown.wait_for(|stop| *stop) => break,
        }
    }
    for (_, (_, task)) in links {
        if let Err(error) = task.await
            && error.is_panic()
        {
            tracing::error!(%error, "a tunnel's task panicked");
        }
    }
}

/// Keeps one tunnel up.
async fn keep(shared: Arc<Shared>, endpoint: GatewayEndpoint, mut shutdown: watch::Receiver<bool>) {
    let limits = &shared.pieces.limits;
    let mut pause = Pause::new(limits.pause_min, limits.pause_max);
    loop {
        let began = Instant::now();
        let ended = tokio::select! {
            dialled = prove_gateway(&shared, &endpoint) => match dialled {
                Ok(dialled) => serve(&shared, dialled, shutdown.clone()).await,
                Err(error) => Err(error),
            },
            _ = stopped(&mut shutdown) => return,
        };
        let stopping = *shutdown.borrow() || shutdown.has_changed().is_err();
        if stopping {
            return;
        }
        if began.elapsed() >= STEADY {
            pause.reset();
        }
        if let Err(error) = &ended {
            shared.board.hindered(error);
        }
        let wait = pause.next();
        let reason = ended.err().map_or_else(|| "the gateway closed it".to_owned(), |error| format!("{error:#}"));
        tracing::warn!(gateway = %endpoint.id, %reason, again_in_ms = wait.as_millis(), "tunnel is down");
        tokio::select! {
            () = sleep(wait) => {}
            _ = stopped(&mut shutdown) => return,
        }
    }
}

async fn stopped(shutdown: &mut watch::Receiver<bool>) -> bool {
    shutdown.wait_for(|stop| *stop).await.is_ok()
}

/// A connection whose other end is proved.
struct Dialled {
    connection: Connection,
    tunnel: Tunnel,
    /// How long the gateway's certificate is still good.
    left: Duration,
}

async fn prove_gateway(shared: &Shared, endpoint: &GatewayEndpoint) -> anyhow::Result<Dialled> {
    let limits = &shared.pieces.limits;
    let tcp = dial_gateway(shared, endpoint).await?;
    keep_tunnel_alive(&tcp).context("setting up the connection")?;
    let mut config = (*(shared.pieces.client)()?).clone();
    let verifier = NodeVerifier::new(shared.pieces.node_root.clone(), gateway_name(shared, &endpoint.id)?)?;
    config.dangerous().set_certificate_verifier(verifier);
    config.alpn_protocols = vec![ALPN_TUNNEL.to_vec()];
    // A resumed session shows no certificate, and tokens are bound to the one shown.
    config.resumption = Resumption::disabled();
    let host = ServerName::try_from(endpoint.host.clone()).context("the gateway's host is no name or address")?;
    let (tcp, heard) = Metered::over_tcp(tcp);
    let tls = timeout(limits.handshake, TlsConnector::from(Arc::new(config)).connect(host, tcp))
        .await
        .context("the handshake took too long")
        .context(Hurdle::Tls)?
        .context(Hurdle::Tls)?;
    let session = tls.get_ref().1;
    ensure!(session.alpn_protocol() == Some(ALPN_TUNNEL), "the gateway does not speak tunnels on this port");
    let leaf = session.peer_certificates().and_then(<[_]>::first).context("the gateway showed no certificate")?;
    let cnf = certificate_hash(leaf);
    let left = Duration::from_secs(Peer::from_leaf(leaf)?.not_after.since(now()));
    let mut sid = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut sid).context("no randomness for a session id")?;
    let tunnel = Tunnel { gateway: endpoint.id.clone(), sid: URL_SAFE_NO_PAD.encode(sid), cnf };
    Ok(Dialled { connection: Connection::over_metered_tcp(tls, End::Agent, heard), tunnel, left })
}

fn gateway_name(shared: &Shared, id: &NodeId) -> anyhow::Result<SpiffeId> {
    let own = &shared.pieces.name;
    let Principal::Node { tenant, .. } = &own.principal else { bail!("this connector has no tenant") };
    let principal = Principal::Node { tenant: tenant.clone(), role: Role::Gateway, id: id.clone() };
    Ok(SpiffeId { trust_domain: own.trust_domain.clone(), principal })
}

/// Says hello and takes streams until the tunnel ends; when `shutdown` comes, lets running streams end first.
async fn serve(shared: &Arc<Shared>, dialled: Dialled, shutdown: watch::Receiver<bool>) -> anyhow::Result<()> {
    let Dialled { mut connection, tunnel, left } = dialled;
    let tunnel = Arc::new(tunnel);
    let limits = &shared.pieces.limits;
    let line = connection.opener().open().await.context("opening the agent's line")?;
    let hello = AgentHello { sid: tunnel.sid.clone(), pair: ClassPair::default() };
    let line = hold_line(line, hello, limits.handshake, shutdown);
    let certificate_end = sleep(left);
    let drain_end = sleep(Duration::MAX);
    tokio::pin!(line, certificate_end, drain_end);
    let mut streams = JoinSet::new();
    let mut draining = false;
    let _up = shared.board.up(&tunnel.gateway, ClassPair::default(), Transport::Tcp);
    tracing::info!(gateway = %tunnel.gateway, "tunnel is up");
    while !(draining && streams.is_empty()) {
        tokio::select! {
            next = connection.next() => match next {
                None => return Ok(()),
                Some(Err(error)) => return Err(error).context("tunnel broke"),
                Some(Ok(stream)) => {
                    streams.spawn(stream::carry(shared.clone(), tunnel.clone(), stream, draining));
                }
            },
            Some(ended) = streams.join_next() => if let Err(error) = ended {
                tracing::error!(%error, "a stream's task panicked");
            },
            ended = &mut line, if !draining => {
                ended.context("the agent's line broke")?;
                draining = true;
                drain_end.as_mut().reset(Instant::now() + limits.drain);
            }
            () = &mut certificate_end => bail!("the gateway's certificate has ended"),
            () = &mut drain_end, if draining => break,
        }
    }
    timeout(limits.handshake, connection.close()).await.context("closing the tunnel took too long")?.context("closing")
}

/// The tunnel's first stream: says hello, and by its end that no new streams are wanted.
async fn hold_line(
    mut line: Stream,
    hello: AgentHello,
    limit: Duration,
    mut shutdown: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    write_frame(&mut line, &hello, limit).await.context("saying hello")?;
    tokio::select! {
        said = line.read_u8() => bail!("the gateway {}", if said.is_ok() { "spoke out of turn" } else { "hung up" }),
        _ = stopped(&mut shutdown) => {}
    }
    timeout(limit, line.shutdown()).await.context("saying goodbye took too long")?.context("saying goodbye")
}
