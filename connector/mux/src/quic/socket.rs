//! UDP sockets that carry our mark, and the endpoints on them.
//!
//! quinn's own socket sets the whole traffic class of each packet to its congestion bits and so wipes any mark that
//! the socket has. This one sends by itself: mark and congestion bits in one control message, per packet.

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasher, RandomState},
    io::{self, IoSliceMut},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::AsRawFd,
    pin::Pin,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use aws_lc_rs::hmac;
use nix::{
    errno::Errno,
    sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg},
};
use quinn::{
    AsyncUdpSocket, ConnectionId, ConnectionIdGenerator, Endpoint, EndpointConfig, ServerConfig, TokioRuntime,
    UdpPoller,
    udp::{RecvMeta, Transmit, UdpSocketState},
};
use sluice_connector_wire::ClassPair;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::{io::Interest, net::UdpSocket};

/// Buffer asked of the kernel for each direction of a socket, in bytes. It gives what `net.core.[rw]mem_max` allow.
pub const UDP_BUFFER: usize = 7 * 1024 * 1024;
/// Peers with a mark of their own at one gateway.
const MAX_MARKS: usize = 8192;
const ID_LENGTH: usize = 8;

/// Which mark the packets to each peer carry; others carry none. A clone sets the same ones.
#[derive(Clone, Debug, Default)]
pub struct Marks(Arc<RwLock<HashMap<SocketAddr, u8>>>);

impl Marks {
    /// Packets to `peer` belong to `pair` from now on.
    pub fn set(&self, peer: SocketAddr, pair: ClassPair) {
        let mut marks = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if marks.len() < MAX_MARKS || marks.contains_key(&canonical(peer)) {
            marks.insert(canonical(peer), pair.dscp());
        }
    }

    /// The peer has gone.
    pub fn clear(&self, peer: SocketAddr) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(&canonical(peer));
    }

    fn of(&self, peer: SocketAddr) -> u8 {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&canonical(peer)).copied().unwrap_or(0)
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// A UDP socket with large buffers. An unspecified IPv6 address takes IPv4 as well.
///
/// # Errors
/// The kernel's.
pub fn bind(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// The agent's endpoint for one connection of `pair`.
///
/// # Errors
/// The kernel's.
pub fn agent_endpoint(socket: std::net::UdpSocket, pair: ClassPair) -> io::Result<Endpoint> {
    let socket = Marked::new(socket, Marking::All(pair.dscp()), pair.socket_priority())?;
    Endpoint::new_with_abstract_socket(EndpointConfig::default(), None, Arc::new(socket), Arc::new(TokioRuntime))
}

/// Moves an agent's endpoint to another socket: its connections live on at the new address (RFC 9000 §9).
///
/// # Errors
/// The kernel's.
pub fn rebind(endpoint: &Endpoint, socket: std::net::UdpSocket, pair: ClassPair) -> io::Result<()> {
    let socket = Marked::new(socket, Marking::All(pair.dscp()), pair.socket_priority())?;
    endpoint.rebind_abstract(Arc::new(socket))
}

/// The gateway's endpoint for all its agents. With the same `reset_key` as before a restart, it tells connections of
/// the old process at once that they are gone (RFC 9000 §10.3); the key is secret and serves nothing else.
///
/// # Errors
/// The kernel's.
pub fn gateway_endpoint(
    socket: std::net::UdpSocket,
    config: ServerConfig,
    reset_key: &[u8; 32],
    marks: Marks,
) -> io::Result<Endpoint> {
    let socket = Marked::new(socket, Marking::ByPeer(marks), ClassPair::Standard.socket_priority())?;
    let mut endpoint = EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, reset_key)));
    // quinn's own ids are checked by a key that dies with the process, and what fails the check gets no answer.
    endpoint.cid_generator(|| Box::new(RandomIds));
    Endpoint::new_with_abstract_socket(endpoint, Some(config), Arc::new(socket), Arc::new(TokioRuntime))
}

/// Connection ids that a restarted process still answers.
#[derive(Debug)]
struct RandomIds;

impl ConnectionIdGenerator for RandomIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; ID_LENGTH];
        if aws_lc_rs::rand::fill(&mut id).is_err() {
            id = RandomState::new().hash_one(ID_LENGTH).to_ne_bytes();
        }
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        ID_LENGTH
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[derive(Debug)]
enum Marking {
    All(u8),
    ByPeer(Marks),
}

/// A UDP socket that marks what it sends.
#[derive(Debug)]
struct Marked {
    io: UdpSocket,
    receiving: UdpSocketState,
    marking: Marking,
    /// Packets in one call; 1 once a network card has refused more.
    segments: AtomicUsize,
}

impl Marked {
    fn new(socket: std::net::UdpSocket, marking: Marking, priority: u32) -> io::Result<Self> {
        let asked = SockRef::from(&socket);
        // Smaller buffers and packets without priority are slower, not wrong.
        for refused in [
            asked.set_send_buffer_size(UDP_BUFFER),
            asked.set_recv_buffer_size(UDP_BUFFER),
            asked.set_priority(priority),
        ] {
            if let Err(error) = refused {
                tracing::debug!(%error, "a UDP socket's option was not taken");
            }
        }
        let receiving = UdpSocketState::new((&socket).into())?;
        let segments = AtomicUsize::new(receiving.max_gso_segments());
        Ok(Self { io: UdpSocket::from_std(socket)?, receiving, marking, segments })
    }

    /// Traffic class octet: the mark above the congestion bits.
    fn class(&self, transmit: &Transmit<'_>) -> u8 {
        let mark = match &self.marking {
            Marking::All(dscp) => *dscp,
            Marking::ByPeer(marks) => marks.of(transmit.destination),
        };
        (mark << 2) | transmit.ecn.map_or(0, |bits| bits as u8)
    }

    fn send(&self, transmit: &Transmit<'_>) -> nix::Result<()> {
        let class = self.class(transmit);
        let wide_class = i32::from(class);
        let segment = transmit.segment_size.filter(|size| *size < transmit.contents.len());
        let segment = segment.and_then(|size| u16::try_from(size).ok());
        let (from_v4, from_v6) = match transmit.src_ip {
            Some(IpAddr::V4(ip)) => (Some(source_v4(ip)), None),
            Some(IpAddr::V6(ip)) => (None, Some(source_v6(ip))),
            None => (None, None),
        };
        let to_v4 = transmit.destination.ip().to_canonical().is_ipv4();
        let class = if to_v4 { ControlMessage::Ipv4Tos(&class) } else { ControlMessage::Ipv6TClass(&wide_class) };
        let said: [Option<ControlMessage<'_>>; 4] = [
            Some(class),
            segment.as_ref().map(ControlMessage::UdpGsoSegments),
            from_v4.as_ref().map(ControlMessage::Ipv4PacketInfo),
            from_v6.as_ref().map(ControlMessage::Ipv6PacketInfo),
        ];
        let said: Vec<ControlMessage<'_>> = said.into_iter().flatten().collect();
        let to = SockaddrStorage::from(transmit.destination);
        let contents = [io::IoSlice::new(transmit.contents)];
        sendmsg(self.io.as_raw_fd(), &contents, &said, MsgFlags::empty(), Some(&to)).map(drop)
    }

    fn on_error(&self, error: Errno, transmit: &Transmit<'_>) {
        match error {
            // A probe that found the path's limit.
            Errno::EMSGSIZE => {}
            Errno::EIO | Errno::EINVAL if transmit.segment_size.is_some() => {
                tracing::info!("this network sends no batches of packets; going on one by one");
                self.segments.store(1, Relaxed);
            }
            error => tracing::debug!(%error, to = %transmit.destination, "a packet was not sent"),
        }
    }
}

const fn source_v4(ip: Ipv4Addr) -> nix::libc::in_pktinfo {
    let s_addr = u32::from_ne_bytes(ip.octets());
    let any = nix::libc::in_addr { s_addr: 0 };
    nix::libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: nix::libc::in_addr { s_addr }, ipi_addr: any }
}

const fn source_v6(ip: Ipv6Addr) -> nix::libc::in6_pktinfo {
    nix::libc::in6_pktinfo { ipi6_ifindex: 0, ipi6_addr: nix::libc::in6_addr { s6_addr: ip.octets() } }
}

impl AsyncUdpSocket for Marked {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Writable { socket: self, waiting: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.io.try_io(Interest::WRITABLE, || {
            loop {
                match self.send(transmit) {
                    Ok(()) => return Ok(()),
                    Err(Errno::EINTR) => {}
                    Err(Errno::EAGAIN) => return Err(io::ErrorKind::WouldBlock.into()),
                    // Lost, as any packet may be.
                    Err(error) => {
                        self.on_error(error, transmit);
                        return Ok(());
                    }
                }
            }
        })
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.io.poll_recv_ready(cx))?;
            let received = self.io.try_io(Interest::READABLE, || self.receiving.recv((&self.io).into(), bufs, meta));
            if let Ok(count) = received {
                return Poll::Ready(Ok(count));
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.segments.load(Relaxed)
    }

    fn max_receive_segments(&self) -> usize {
        self.receiving.gro_segments()
    }

    fn may_fragment(&self) -> bool {
        self.receiving.may_fragment()
    }
}

/// Waits for one task until the socket takes packets.
struct Writable {
    socket: Arc<Marked>,
    waiting: Option<Pin<Box<dyn Future<Output = io::Result<()>> + Send + Sync>>>,
}

impl fmt::Debug for Writable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Writable").field(&self.socket).finish()
    }
}

impl UdpPoller for Writable {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { socket, waiting } = &mut *self;
        let waiting_now = waiting.get_or_insert_with(|| {
            let socket = socket.clone();
            Box::pin(async move { socket.io.writable().await })
        });
        let done = ready!(waiting_now.as_mut().poll(cx));
        *waiting = None;
        Poll::Ready(done)
    }
}
