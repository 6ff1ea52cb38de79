//! Every socket the agent will ever listen on, bound while the process may still bind them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

use anyhow::{Context, ensure};
use nix::{ifaddrs::getifaddrs, net::if_::if_nametoindex};
use sluice_discovery_rules::{Mac, advert::Advert};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::{Lan, neighbour::Neighbours};

const DHCP_PORT: u16 = 67;
const DNS_PORT: u16 = 53;
const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;
/// Connections waiting to be accepted, per listener.
const BACKLOG: i32 = 128;
/// Where routers hear solicitations (RFC 4861 §2.3).
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

/// Bound sockets of one LAN.
pub struct Sockets {
    pub(crate) index: u32,
    pub(crate) dhcp: Option<UdpSocket>,
    pub(crate) dns_udp: Vec<UdpSocket>,
    pub(crate) dns_tcp: Vec<TcpListener>,
    pub(crate) http: Vec<TcpListener>,
    pub(crate) https: Vec<TcpListener>,
    pub(crate) router: Option<(UdpSocket, Advert)>,
    pub(crate) neighbours: Neighbours,
}

impl Sockets {
    /// Binds all ports on the LAN's interface and addresses, and on no others.
    ///
    /// # Errors
    /// When the interface does not exist, a port is taken, or the process may not bind it.
    pub fn bind(lan: &Lan) -> anyhow::Result<Self> {
        let name = lan.interface.as_str();
        let index = if_nametoindex(name).with_context(|| format!("there is no interface {name}"))?;
        ensure!(!lan.addresses.is_empty(), "the LAN needs at least one address of the edge");
        let mut sockets = Self {
            index,
            dhcp: None,
            dns_udp: Vec::new(),
            dns_tcp: Vec::new(),
            http: Vec::new(),
            https: Vec::new(),
            router: None,
            neighbours: Neighbours::open()?,
        };
        if lan.scope.is_some() {
            let everywhere = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), DHCP_PORT);
            let socket = udp(name, everywhere).context("cannot bind DHCP")?;
            socket.set_broadcast(true)?;
            sockets.dhcp = Some(socket);
        }
        for network in &lan.addresses {
            let at = |port| SocketAddr::new(network.ip(), port);
            sockets.dns_udp.push(udp(name, at(DNS_PORT)).with_context(|| format!("cannot bind DNS on {network}"))?);
            for (port, list) in
                [(DNS_PORT, &mut sockets.dns_tcp), (HTTP_PORT, &mut sockets.http), (HTTPS_PORT, &mut sockets.https)]
            {
                list.push(tcp(name, at(port)).with_context(|| format!("cannot bind TCP port {port} on {network}"))?);
            }
            if let ipnetwork::IpNetwork::V6(network) = network
                && sockets.router.is_none()
            {
                let advert = Advert::new(*network, mac_of(name)?)?;
                sockets.router = Some((router(name, index).context("cannot open the router's socket")?, advert));
            }
        }
        Ok(sockets)
    }
}

fn udp(interface: &str, address: SocketAddr) -> anyhow::Result<UdpSocket> {
    let socket = bound(interface, address, Type::DGRAM)?;
    Ok(socket.into())
}

fn tcp(interface: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    let socket = bound(interface, address, Type::STREAM)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn bound(interface: &str, address: SocketAddr, kind: Type) -> anyhow::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, None)?;
    socket.set_reuse_address(true)?;
    socket.bind_device(Some(interface.as_bytes()))?;
    match address.ip() {
        // An address that is still being checked for duplicates may be bound already.
        IpAddr::V6(_) => {
            socket.set_only_v6(true)?;
            socket.set_freebind_v6(true)?;
        }
        IpAddr::V4(_) => socket.set_freebind_v4(true)?,
    }
    socket.bind(&SockAddr::from(address))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn router(interface: &str, index: u32) -> anyhow::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
    socket.bind_device(Some(interface.as_bytes()))?;
    // Hosts drop advertisements with any other hop limit: it shows that they were not routed (RFC 4861 §6.1.2).
    socket.set_multicast_hops_v6(255)?;
    socket.set_multicast_loop_v6(false)?;
    socket.set_multicast_if_v6(index)?;
    socket.join_multicast_v6(&ALL_ROUTERS, index)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn mac_of(interface: &str) -> anyhow::Result<Mac> {
    getifaddrs()
        .context("cannot list interfaces")?
        .filter(|entry| entry.interface_name == interface)
        .find_map(|entry| Mac::new(entry.address?.as_link_addr()?.addr()?).ok())
        .with_context(|| format!("interface {interface} has no Ethernet address"))
}
