//! A gateway whose owner is not ours: it has the real certificate and does what the test tells it.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use rustls::sign::CertifiedKey;
use sluice_connector_mux::{Connection, End, Stream, read_frame, write_frame};
use sluice_connector_wire::{ALPN_RELAY, ALPN_TUNNEL, AgentHello, AgentSays, GatewaySays, OpenReply, Peer, RelayOpen};
use sluice_node_identity::Principal;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{House, PATIENCE, peer_leaf};

type Opener = mpsc::Sender<oneshot::Sender<Stream>>;

/// What it has got hold of.
pub(crate) struct Evil {
    pub(crate) address: SocketAddr,
    tunnels: Arc<Mutex<BTreeMap<String, (String, Opener)>>>,
    relays: mpsc::Receiver<TlsStream<TcpStream>>,
}

impl Evil {
    pub(crate) async fn run(house: &House) -> Self {
        Self::run_as(house, &house.gateway).await
    }

    /// The same with the certificate of another gateway.
    pub(crate) async fn run_as(house: &House, shown: &Arc<CertifiedKey>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = TlsAcceptor::from(house.authority.server(shown, &[ALPN_TUNNEL, ALPN_RELAY]));
        let tunnels: Arc<Mutex<BTreeMap<String, (String, Opener)>>> = Arc::default();
        let (relay, relays) = mpsc::channel(8);
        let known = tunnels.clone();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, relay, known) = (acceptor.clone(), relay.clone(), known.clone());
                tokio::spawn(async move {
                    let Ok(tls) = acceptor.accept(tcp).await else { return };
                    if tls.get_ref().1.alpn_protocol() == Some(ALPN_TUNNEL) {
                        hold(tls, &known).await;
                    } else {
                        relay.send(tls).await.unwrap();
                    }
                });
            }
        });
        Self { address, tunnels, relays }
    }

    /// The session of a connector's tunnel, once there is one.
    pub(crate) async fn sid(&self, connector: &str) -> String {
        let found = async {
            loop {
                if let Some((sid, _)) = self.tunnels.lock().unwrap().get(connector) {
                    return sid.clone();
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, found).await.expect("a tunnel in time")
    }

    /// A new stream on a connector's tunnel.
    pub(crate) async fn open(&self, connector: &str) -> Stream {
        let opener = self.tunnels.lock().unwrap().get(connector).unwrap().1.clone();
        let (reply, stream) = oneshot::channel();
        opener.send(reply).await.unwrap();
        timeout(PATIENCE, stream).await.unwrap().unwrap()
    }

    /// Control's next relay, answered with "open" as if all was well.
    pub(crate) async fn relay(&mut self) -> TlsStream<TcpStream> {
        let mut relay = timeout(PATIENCE, self.relays.recv()).await.unwrap().unwrap();
        let _wanted: RelayOpen = read_frame(&mut relay, PATIENCE).await.unwrap();
        write_frame(&mut relay, &OpenReply::Open, PATIENCE).await.unwrap();
        relay
    }
}

async fn hold(tls: TlsStream<TcpStream>, known: &Mutex<BTreeMap<String, (String, Opener)>>) {
    let peer = Peer::from_leaf(&peer_leaf(&tls)).unwrap();
    let Principal::Node { id, .. } = peer.name.principal else { panic!("not a node") };
    let mut connection = Connection::over_tcp(tls, End::Gateway);
    let mut first = connection.next().await.unwrap().unwrap();
    let hello: AgentHello = tokio::select! {
        hello = read_frame(&mut first, PATIENCE) => hello.unwrap(),
        _ = connection.next() => panic!("out of turn"),
    };
    let (opener, mut requests) = mpsc::channel::<oneshot::Sender<Stream>>(8);
    known.lock().unwrap().insert(id.to_string(), (hello.sid, opener));
    let pongs = async {
        while let Ok(said) = read_frame(&mut first, PATIENCE).await {
            if let AgentSays::Ping { number, .. } = said {
                let _sent = write_frame(&mut first, &GatewaySays::Pong { number }, PATIENCE).await;
            }
        }
        std::future::pending::<()>().await;
    };
    tokio::pin!(pongs);
    loop {
        tokio::select! {
            () = &mut pongs => {}
            next = connection.next() => if next.is_none_or(|next| next.is_err()) { return },
            Some(reply) = requests.recv() => reply.send(connection.opener().open().await.unwrap()).unwrap(),
        }
    }
}

/// What a wire tap may do to a piece of bytes; the number counts bytes seen before in this direction.
pub(crate) type Tap = Box<dyn FnMut(usize, &mut Vec<u8>) + Send>;

/// Carries bytes both ways past two taps until either side ends.
pub(crate) async fn splice<A, B>(a: A, b: B, mut up: Tap, mut down: Tap)
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (mut a_read, mut a_write) = tokio::io::split(a);
    let (mut b_read, mut b_write) = tokio::io::split(b);
    tokio::join!(carry(&mut a_read, &mut b_write, &mut up), carry(&mut b_read, &mut a_write, &mut down));
}

async fn carry(from: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin), tap: &mut Tap) {
    let (mut buffer, mut seen) = (vec![0; 16 * 1024], 0);
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let mut piece = buffer.get(..read).unwrap().to_vec();
        tap(seen, &mut piece);
        seen += read;
        if to.write_all(&piece).await.is_err() || to.flush().await.is_err() {
            return;
        }
    }
    let _end = to.shutdown().await;
}
