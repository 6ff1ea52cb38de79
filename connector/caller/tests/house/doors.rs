//! The gateway's port as its agents see it, with parts that can be missing or fall silent.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use sluice_connector_mux::{
    Connection, End,
    quic::{AcceptLimits, Acceptor, Marks, bind, gateway_endpoint, server_config},
};
use sluice_connector_server::{Arrived, TunnelServer};
use sluice_connector_wire::ALPN_TUNNEL;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    task::JoinSet,
};

use super::{House, peer_leaf};

/// A port of which both halves are free.
pub(crate) async fn free_port() -> SocketAddr {
    loop {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = udp.local_addr().unwrap();
        if TcpListener::bind(address).await.is_ok() {
            return address;
        }
    }
}

/// What listens, as long as it lives; connections end with it.
pub(crate) struct Door {
    _tasks: JoinSet<()>,
}

/// TLS over TCP at `at`.
pub(crate) async fn tcp(house: &House, server: &TunnelServer, at: SocketAddr) -> Door {
    let listener = TcpListener::bind(at).await.unwrap();
    let (acceptor, own, server) = (house.gateway_tls(), house.gateway.cert[0].to_vec(), server.clone());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((tcp, _)) = listener.accept().await {
            let (acceptor, server, own) = (acceptor.clone(), server.clone(), own.clone());
            connections.spawn(async move {
                let Ok(tls) = acceptor.accept(tcp).await else { return };
                let leaf = peer_leaf(&tls);
                drop(server.serve_tunnel(Arrived::over_tcp(tls, leaf, own)).await);
            });
        }
    });
    Door { _tasks: tasks }
}

/// QUIC at `at`.
pub(crate) fn quic(house: &House, server: &TunnelServer, at: SocketAddr) -> Door {
    let config = server_config((*house.authority.server(&house.gateway, &[ALPN_TUNNEL])).clone()).unwrap();
    let endpoint = gateway_endpoint(bind(at).unwrap(), config, &[7; 32], Marks::default()).unwrap();
    let (own, server) = (house.gateway.cert[0].to_vec(), server.clone());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut acceptor = Acceptor::new(endpoint, AcceptLimits::default());
        let mut connections = JoinSet::new();
        while let Some(accepted) = acceptor.next().await {
            let (server, own_leaf) = (server.clone(), own.clone());
            connections.spawn(async move {
                let agent_leaf = accepted.certificates[0].to_vec();
                let connection = Connection::over_quic(accepted.connection, End::Gateway);
                let mark = Box::new(|_| {});
                drop(server.serve_tunnel(Arrived { connection, agent_leaf, own_leaf, mark }).await);
            });
        }
    });
    Door { _tasks: tasks }
}

/// A wire to a TCP port that can go dead without a word: both ends' kernels go on acknowledging.
pub(crate) struct Wire {
    pub(crate) address: SocketAddr,
    /// Connections made through it.
    pub(crate) made: Arc<AtomicUsize>,
    dead: Arc<std::sync::Mutex<Arc<AtomicBool>>>,
    _tasks: JoinSet<()>,
}

impl Wire {
    pub(crate) async fn to(far: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let dead = Arc::new(std::sync::Mutex::new(Arc::new(AtomicBool::new(false))));
        let (present, made) = (dead.clone(), Arc::new(AtomicUsize::new(0)));
        let (mut tasks, count) = (JoinSet::new(), made.clone());
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let dead = present.lock().unwrap().clone();
                connections.spawn(async move {
                    let Ok(far) = TcpStream::connect(far).await else { return };
                    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                    tokio::join!(carry(near_in, far_out, &dead), carry(far_in, near_out, &dead));
                });
            }
        });
        Self { address, made, dead, _tasks: tasks }
    }

    /// Everything that runs through it is lost from now on; new connections work.
    pub(crate) fn cut(&self) {
        let mut dead = self.dead.lock().unwrap();
        dead.store(true, Ordering::SeqCst);
        *dead = Arc::default();
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, dead: &AtomicBool) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if !dead.load(Ordering::SeqCst) && to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
    if dead.load(Ordering::SeqCst) {
        // Not even the end gets through.
        std::future::pending::<()>().await;
    }
    let _end = to.shutdown().await;
}
