//! Which of our addresses lead to a gateway, and whether that changes. Nothing is sent.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use sluice_connector_wire::race::Network;

/// How often to look.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Stand for "anywhere" where the gateway's own addresses are not known, as behind a proxy (RFC 5737, RFC 3849).
const ANYWHERE: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];
/// Any port does.
const PORT: u16 = 443;

/// Where a gateway lies, for looking at the way there.
#[derive(Clone, Debug)]
pub(super) struct Lookout {
    towards: Vec<IpAddr>,
}

impl Lookout {
    /// Towards these addresses, or anywhere when there are none.
    pub(super) fn new(gateway: &[SocketAddr]) -> Self {
        let known: Vec<IpAddr> = gateway.iter().map(SocketAddr::ip).collect();
        Self { towards: if known.is_empty() { ANYWHERE.to_vec() } else { known } }
    }

    /// The source addresses that the kernel would choose now.
    pub(super) fn look(&self) -> Network {
        let v4 = self.towards.iter().filter(|to| to.is_ipv4()).find_map(|to| source(*to));
        let v6 = self.towards.iter().filter(|to| to.is_ipv6()).find_map(|to| source(*to));
        let (v4, v6) = (v4.and_then(as_v4), v6.and_then(as_v6));
        Network { v4, v6 }
    }
}

/// Connecting a UDP socket chooses an address and sends nothing.
fn source(to: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((to, PORT)).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}

const fn as_v4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(v4) => Some(v4),
        IpAddr::V6(_) => None,
    }
}

const fn as_v6(address: IpAddr) -> Option<Ipv6Addr> {
    match address {
        IpAddr::V6(v6) => Some(v6),
        IpAddr::V4(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c2_source_address_is_found_without_sending() {
        let listener = UdpSocket::bind("127.0.0.1:443").or_else(|_| UdpSocket::bind("127.0.0.1:0"));
        let lookout = Lookout::new(&["127.0.0.1:443".parse().expect("an address")]);
        assert_eq!(lookout.look(), Network { v4: Some(Ipv4Addr::LOCALHOST), v6: None });
        let listener = listener.expect("a socket");
        listener.set_nonblocking(true).expect("an option");
        assert!(listener.recv(&mut [0; 8]).is_err(), "nothing was sent");
    }
}
