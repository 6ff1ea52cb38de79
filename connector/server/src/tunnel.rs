//! One tunnel connection's life: hello, streams on request, end.

use std::{
    io,
    time::{Duration, SystemTime},
};

use anyhow::{Context, bail, ensure};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sluice_connector_mux::{Connection, End, Stream, read_frame};
use sluice_connector_wire::{AgentHello, Peer, certificate_hash};
use sluice_node_identity::{NodeId, Principal, Role, UnixTime};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    time::timeout,
};

use crate::{TunnelServer, registry::Tunnel};

impl TunnelServer {
    /// Runs a tunnel until it ends. `io` has finished mutual TLS 1.3 with ALPN `sluice-tunnel/1` against the node
    /// root; `agent_leaf` is the certificate the agent showed, `own_leaf` the one this gateway showed in that very
    /// handshake.
    ///
    /// # Errors
    /// The peer is not a connector of this gateway's tenant, says nothing in time, speaks out of turn, or is gone.
    pub async fn serve_tunnel<T>(&self, io: T, agent_leaf: &[u8], own_leaf: &[u8]) -> anyhow::Result<()>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let limits = &self.shared.limits;
        let peer = Peer::from_leaf(agent_leaf)?;
        let connector = self.connector(&peer)?;
        let mut connection = Connection::over_tcp(io, End::Gateway);
        let greet = greet(&mut connection, limits.handshake);
        let (hello, agent_line) = timeout(limits.handshake, greet).await.context("no hello in time")??;
        ensure!(is_session_id(&hello.sid), "the agent's session id is not 128 bits of base64url");
        let cnf = certificate_hash(own_leaf);
        let tunnel = Tunnel::new(connector.clone(), hello.sid.clone(), cnf, connection.opener(), limits);
        let close = tunnel.close.clone();
        let registered = Registered { server: self, id: self.shared.registry.insert(tunnel, limits)?, sid: hello.sid };
        tracing::info!(%connector, "tunnel is up");
        let left = Duration::from_secs(peer.not_after.since(UnixTime::from(SystemTime::now())));
        let ended = tokio::select! {
            ended = serve(&mut connection, agent_line, &registered) => ended,
            () = close.cancelled() => Err(anyhow::anyhow!("closed by this gateway")),
            () = tokio::time::sleep(left) => Err(anyhow::anyhow!("the connector's certificate has ended")),
        };
        drop(registered);
        tracing::info!(%connector, reason = ended.as_ref().err().map(tracing::field::display), "tunnel is down");
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

/// Takes the tunnel out of the registry however its task ends.
struct Registered<'a> {
    server: &'a TunnelServer,
    id: u64,
    sid: String,
}

impl Registered<'_> {
    fn withdraw(&self) {
        self.server.shared.registry.remove(self.id, &self.sid);
    }
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.withdraw();
    }
}

/// The agent's first stream and what it says on it.
async fn greet(connection: &mut Connection, limit: Duration) -> anyhow::Result<(AgentHello, Stream)> {
    let Some(first) = connection.next().await else { bail!("the agent closed the tunnel without a hello") };
    let mut first = first.context("tunnel broke before its hello")?;
    let hello = tokio::select! {
        hello = read_frame(&mut first, limit) => hello.context("reading the agent's hello")?,
        other = connection.next() => return Err(out_of_turn(other)),
    };
    Ok((hello, first))
}

/// Waits until the connection ends. An agent that shuts its own line down wants no new streams.
async fn serve(connection: &mut Connection, mut agent_line: Stream, registered: &Registered<'_>) -> anyhow::Result<()> {
    let mut draining = false;
    loop {
        tokio::select! {
            other = connection.next() => match other {
                None => return Ok(()),
                other => return Err(out_of_turn(other)),
            },
            said = agent_line.read_u8(), if !draining => {
                ensure!(said.is_err_and(|error| error.kind() == io::ErrorKind::UnexpectedEof), "the agent spoke out of turn");
                registered.withdraw();
                draining = true;
            }
        }
    }
}

fn out_of_turn(next: Option<io::Result<Stream>>) -> anyhow::Error {
    match next {
        None => anyhow::anyhow!("the agent closed the tunnel"),
        Some(Err(error)) => anyhow::Error::new(error).context("tunnel broke"),
        Some(Ok(_)) => anyhow::anyhow!("the agent opened a stream, which only a gateway may"),
    }
}

fn is_session_id(sid: &str) -> bool {
    URL_SAFE_NO_PAD.decode(sid).is_ok_and(|bytes| bytes.len() == 16)
}
