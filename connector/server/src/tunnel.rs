//! One connection's life: hello, its entry in the registry, end.

use std::time::{Duration, SystemTime};

use anyhow::{Context, bail, ensure};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sluice_connector_mux::{Connection, End, Stream, read_frame};
use sluice_connector_wire::{AgentHello, ClassPair, Peer, certificate_hash};
use sluice_node_identity::{NodeId, Principal, Role, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{TunnelServer, alive, leg::Facts, line, registry::Registered};

/// A peer that moved is marked again after at most this.
const MARK_EVERY: Duration = Duration::from_secs(1);

/// A connection that an agent has made.
pub struct Arrived {
    /// Its handshake is done (mutual TLS 1.3 against the node root, ALPN `sluice-tunnel/1`), over either transport.
    pub connection: Connection,
    /// The certificate that the agent showed (DER).
    pub agent_leaf: Vec<u8>,
    /// The certificate that this gateway showed in that very handshake (DER).
    pub own_leaf: Vec<u8>,
    /// Marks the connection's packets; called when the hello has named the pair, and every second from then on, for a
    /// peer that moves.
    pub mark: Mark,
}

impl Arrived {
    /// Over `io` after its TLS handshake, unmarked.
    pub fn over_tcp<T>(io: T, agent_leaf: impl Into<Vec<u8>>, own_leaf: impl Into<Vec<u8>>) -> Self
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let connection = Connection::over_tcp(io, End::Gateway);
        Self { connection, agent_leaf: agent_leaf.into(), own_leaf: own_leaf.into(), mark: Box::new(|_| {}) }
    }
}

/// Marks a connection's packets for a pair of classes.
pub type Mark = Box<dyn FnMut(ClassPair) + Send>;

impl TunnelServer {
    /// Runs a connection of a tunnel until it ends.
    ///
    /// # Errors
    /// The peer is not a connector of this gateway's tenant, says nothing in time, speaks out of turn, or is gone.
    pub async fn serve_tunnel(&self, arrived: Arrived) -> anyhow::Result<()> {
        let Arrived { mut connection, agent_leaf, own_leaf, mut mark } = arrived;
        let limits = &self.shared.limits;
        let peer = Peer::from_leaf(&agent_leaf)?;
        let connector = self.connector(&peer)?;
        let _place = self.shared.registry.enter(&connector, limits)?;
        let (hello, line) = greet(&mut connection, limits.handshake).await?;
        ensure!(is_session_id(&hello.sid), "the agent's session id is not 128 bits of base64url");
        mark(hello.pair);
        let (pair, transport) = (hello.pair, connection.transport());
        let facts =
            Facts { connector: connector.clone(), sid: hello.sid, pair, transport, cnf: certificate_hash(&own_leaf) };
        let registered = self.shared.registry.insert(facts, connection.opener(), limits)?;
        tracing::info!(%connector, %pair, %transport, "tunnel is up");
        let left = Duration::from_secs(peer.not_after.since(UnixTime::from(SystemTime::now())));
        let heard = connection.heard();
        let ended = tokio::select! {
            next = connection.next() => out_of_turn(next),
            ended = line::hold(line, &registered, self.shared.leaving.subscribe(), limits) => ended,
            () = alive::watch(heard) => Err(anyhow::anyhow!("nothing was heard of the agent for 3 s")),
            () = remark(&mut mark, pair) => Ok(()),
            () = wear_out(&registered) => Err(anyhow::anyhow!("the agent did not answer an opening in time")),
            () = registered.leg.close.cancelled() => Err(anyhow::anyhow!("closed by this gateway")),
            () = tokio::time::sleep(left) => Err(anyhow::anyhow!("the connector's certificate has ended")),
        };
        drop(registered);
        let reason = ended.as_ref().err().map(tracing::field::display);
        tracing::info!(%connector, %pair, %transport, reason, "tunnel is down");
        ended
    }

    fn connector(&self, peer: &Peer) -> anyhow::Result<NodeId> {
        let own = &self.shared.name;
        let Principal::Node { tenant: own_tenant, .. } = &own.principal else { bail!("this gateway has no tenant") };
        match &peer.name.principal {
            Principal::Node { tenant, role: Role::Connector, id }
                if tenant == own_tenant && peer.name.trust_domain == own.trust_domain =>
            {
                Ok(id.clone())
            }
            _ => bail!("the peer of a tunnel must be a connector of this gateway's tenant"),
        }
    }
}

/// Returns when an opening has had no answer and the streams opened before have ended.
async fn wear_out(registered: &Registered<'_>) {
    registered.leg.is_worn().await;
    registered.retire();
    registered.leg.is_empty().await;
}

async fn remark(mark: &mut Mark, pair: ClassPair) {
    loop {
        tokio::time::sleep(MARK_EVERY).await;
        mark(pair);
    }
}

/// The agent's first stream and what it says on it.
async fn greet(connection: &mut Connection, limit: Duration) -> anyhow::Result<(AgentHello, Stream)> {
    let greeted = async {
        let Some(first) = connection.next().await else { bail!("the agent closed the tunnel without a hello") };
        let mut first = first.context("tunnel broke before its hello")?;
        let hello = tokio::select! {
            hello = read_frame(&mut first, limit) => hello.context("reading the agent's hello")?,
            next = connection.next() => {
                out_of_turn(next)?;
                bail!("the agent closed the tunnel during its hello");
            }
        };
        Ok((hello, first))
    };
    tokio::time::timeout(limit, greeted).await.context("no hello in time")?
}

fn out_of_turn(next: Option<std::io::Result<Stream>>) -> anyhow::Result<()> {
    match next {
        None => Ok(()),
        Some(Err(error)) => Err(anyhow::Error::new(error).context("tunnel broke")),
        Some(Ok(_)) => bail!("the agent opened a stream, which only a gateway may"),
    }
}

fn is_session_id(sid: &str) -> bool {
    URL_SAFE_NO_PAD.decode(sid).is_ok_and(|bytes| bytes.len() == 16)
}
