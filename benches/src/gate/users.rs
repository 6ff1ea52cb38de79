//! Users' connections and datagrams, each of them a direct stream to its forward's target.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result};
use sluice_connector_mux::{MAX_DATAGRAM, carry};
use sluice_connector_server::{DirectAsk, DirectDatagrams, DirectStream, TunnelServer};
use sluice_connector_wire::Protocol;
use sluice_node_identity::{NodeId, UnixTime};
use tokio::{
    net::{TcpListener, TcpStream, UdpSocket},
    sync::mpsc,
    time::timeout,
};

use crate::{
    forward::Forward,
    house::{CONNECTOR, resource},
};

/// A flow of datagrams that has been silent this long ends.
const SILENCE: Duration = Duration::from_secs(60);
/// Flows of one listener at a time.
const FLOWS: usize = 1024;
/// Datagrams of one flow that wait for its stream to open.
const WAITING: usize = 64;

/// Serves one forward.
pub(super) async fn carry_all(forward: Forward, server: TunnelServer) -> Result<()> {
    let door = Door { forward, server };
    match door.forward.target.protocol {
        Protocol::Tcp => connections(Arc::new(door)).await,
        Protocol::Udp => flows(Arc::new(door)).await,
    }
}

/// One listener.
struct Door {
    forward: Forward,
    server: TunnelServer,
}

impl Door {
    async fn open(&self) -> Result<DirectStream> {
        let connectors: [NodeId; 1] = [CONNECTOR.parse()?];
        let target = &self.forward.target;
        let resource = resource(target)?;
        let ask = DirectAsk {
            connectors: &connectors,
            resource: &resource,
            target,
            subject: "user/bench",
            pair: self.forward.pair,
        };
        Ok(self.server.open_direct(&ask, UnixTime::from(SystemTime::now())).await?)
    }

    fn told(&self, ended: Result<()>) {
        if let Err(error) = ended {
            tracing::warn!(target = %self.forward.target, "stream: {error:#}");
        }
    }
}

async fn connections(door: Arc<Door>) -> Result<()> {
    let listen = door.forward.listen;
    let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    loop {
        let (tcp, _) = listener.accept().await.context("accepting a user")?;
        let door = door.clone();
        tokio::spawn(async move { door.told(connection(tcp, &door).await) });
    }
}

async fn connection(mut tcp: TcpStream, door: &Door) -> Result<()> {
    tcp.set_nodelay(true)?;
    let mut stream = door.open().await?;
    carry(&mut tcp, &mut stream).await.context("carrying")?;
    Ok(())
}

async fn flows(door: Arc<Door>) -> Result<()> {
    let listen = door.forward.listen;
    let socket = Arc::new(UdpSocket::bind(listen).await.with_context(|| format!("cannot use UDP {listen}"))?);
    let mut flows: HashMap<SocketAddr, mpsc::Sender<Vec<u8>>> = HashMap::new();
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        let (length, user) = socket.recv_from(&mut buffer).await.context("receiving from users")?;
        let datagram = buffer.get(..length).unwrap_or_default().to_vec();
        flows.retain(|_, flow| !flow.is_closed());
        if !flows.contains_key(&user) && flows.len() >= FLOWS {
            continue;
        }
        let flow = flows.entry(user).or_insert_with(|| {
            let (sender, waiting) = mpsc::channel(WAITING);
            let (door, socket) = (door.clone(), socket.clone());
            tokio::spawn(async move { door.told(flow(user, &socket, waiting, &door).await) });
            sender
        });
        // A full queue loses the datagram, as a line would.
        let _queued = flow.try_send(datagram);
    }
}

/// One user's datagrams, both ways, until neither side has said anything for a while.
async fn flow(user: SocketAddr, socket: &UdpSocket, mut up: mpsc::Receiver<Vec<u8>>, door: &Door) -> Result<()> {
    let datagrams: DirectDatagrams = door.open().await?.into_datagrams();
    loop {
        let next = async {
            tokio::select! {
                sent = up.recv() => match sent {
                    Some(datagram) => datagrams.send(&datagram).context("sending").map(|()| true),
                    None => Ok(false),
                },
                received = datagrams.recv() => match received.context("receiving")? {
                    Some(datagram) => {
                        socket.send_to(&datagram, user).await.context("answering a user")?;
                        Ok(true)
                    }
                    None => Ok(false),
                },
            }
        };
        match timeout(SILENCE, next).await {
            Ok(Ok(true)) => {}
            Ok(Err(error)) => return Err(error),
            Ok(Ok(false)) | Err(_) => return Ok(()),
        }
    }
}
