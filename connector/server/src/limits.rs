//! Everything a gateway bounds about tunnels.

use std::time::Duration;

/// See each field; the defaults are the hardened ones.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Time for an agent's hello and for a relay's first frame: 10 s.
    pub handshake: Duration,
    /// Time from asking an agent for a stream to its answer: 20 s (it resolves for at most 5 s and dials for 10 s).
    /// A connection on which no answer comes for longer gets no new streams and is closed when it has none.
    pub answer: Duration,
    /// Tunnels of all connectors: 1,000, as many as control takes note of.
    pub tunnels: usize,
    /// Tunnels of one connector: 4; a new one closes the oldest.
    pub tunnels_per_connector: usize,
    /// Connections of all connectors, those without a hello yet too: 8,192.
    pub connections: usize,
    /// Connections of one connector, those without a hello yet too: 64.
    pub connections_per_connector: usize,
    /// Connections of one pair in one tunnel: 3; a new one closes the oldest.
    pub connections_per_pair: usize,
    /// Streams on one connection: 248, below the 512 at which yamux gives a connection up.
    pub streams_per_connection: usize,
    /// Relays from control at a time: 256.
    pub relays: usize,
    /// Ways tried for one direct stream, one after the other or at once: 3.
    pub attempts: usize,
    /// Least time before the next way is tried beside one that has not answered: 250 ms. Four round-trip times when
    /// that is longer.
    pub hedge: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            answer: Duration::from_secs(20),
            tunnels: 1000,
            tunnels_per_connector: 4,
            connections: 8192,
            connections_per_connector: 64,
            connections_per_pair: 3,
            streams_per_connection: 248,
            relays: 256,
            attempts: 3,
            hedge: Duration::from_millis(250),
        }
    }
}
/// Pings of one connection in one second; an agent sends one.
pub(crate) const PINGS_A_SECOND: u32 = 16;
