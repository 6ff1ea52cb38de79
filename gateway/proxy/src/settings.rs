//! What the machine's owner decides about a gateway; control cannot change or widen any of it.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use ipnetwork::IpNetwork;

use crate::HostCertificate;

/// Local settings.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Addresses to listen on, IPv4 and IPv6 each for themselves. Default `0.0.0.0:443`, `[::]:443`.
    pub listen: Vec<SocketAddr>,
    /// Take tunnels by QUIC (UDP on the same ports) too. Default yes.
    pub quic: bool,
    /// Certificates by host. A host without one is not answered.
    pub certificates: Vec<HostCertificate>,
    /// Own networks in which control may lie: the dial guard lets splices and the users' pages go there. Default none.
    pub control_networks: Vec<IpNetwork>,
    /// Networks that no app may be dialled in, whatever the document says. Default none.
    pub forbidden_networks: Vec<IpNetwork>,
    /// PEM bundle that vouches for upstreams with TLS. Default Debian's `/etc/ssl/certs/ca-certificates.crt`.
    pub upstream_roots: PathBuf,
    /// File that logouts are kept in, so that a restart forgets none. Default none: they live as long as the process.
    pub logouts: Option<PathBuf>,
    /// Bounds.
    pub limits: Limits,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([0, 0, 0, 0], 443)), SocketAddr::from(([0u16; 8], 443))],
            quic: true,
            certificates: Vec::new(),
            control_networks: Vec::new(),
            forbidden_networks: Vec::new(),
            upstream_roots: PathBuf::from("/etc/ssl/certs/ca-certificates.crt"),
            logouts: None,
            limits: Limits::default(),
        }
    }
}

/// Bounds on what strangers can make us hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time. Default 16,384.
    pub connections: usize,
    /// Connections at a time from one address (IPv6: one /64). Default 512.
    pub connections_per_address: usize,
    /// For the ClientHello, for the handshake, and for each request head. Default 10 s.
    pub handshake: Duration,
    /// A kept connection without a request is closed after this. Default 60 s.
    pub idle: Duration,
    /// A spliced connection on which nothing moves is closed after this. Default 10 min.
    pub splice_idle: Duration,
    /// For connecting to an upstream. Default 10 s.
    pub connect: Duration,
    /// What a write to a browser may take. Default 60 s.
    pub write: Duration,
    /// Requests on one HTTP/1.1 connection. Default 1,000.
    pub requests_per_connection: u32,
    /// Streams at a time on one HTTP/2 connection. Default 100.
    pub streams: u32,
    /// Login attempts a minute from one address (IPv6: one /64). Default 20.
    pub logins_per_address: u32,
    /// Login attempts a minute for one name. Default 10.
    pub logins_per_name: u32,
    /// How long a stopping gateway waits for requests to end. Default 10 s.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16_384,
            connections_per_address: 512,
            handshake: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            splice_idle: Duration::from_secs(600),
            connect: Duration::from_secs(10),
            write: Duration::from_secs(60),
            requests_per_connection: 1_000,
            streams: 100,
            logins_per_address: 20,
            logins_per_name: 10,
            drain: Duration::from_secs(10),
        }
    }
}
