//! Everything a gateway bounds about tunnels.

use std::time::Duration;

/// See each field; the defaults are the hardened ones.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Time for an agent's hello and for a relay's first frame: 10 s.
    pub handshake: Duration,
    /// Time from asking an agent for a stream to its answer: 20 s (it resolves for at most 5 s and dials for 10 s).
    /// A tunnel that stays silent for longer is taken for dead and closed.
    pub answer: Duration,
    /// Tunnels of all connectors: 1,024.
    pub tunnels: usize,
    /// Tunnels of one connector: 4; a new one closes the oldest.
    pub tunnels_per_connector: usize,
    /// Streams on one tunnel: 248, below the 512 at which yamux gives a connection up.
    pub streams_per_tunnel: usize,
    /// Relays from control at a time: 256.
    pub relays: usize,
    /// Tunnels tried for one direct stream: 3.
    pub attempts: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            answer: Duration::from_secs(20),
            tunnels: 1024,
            tunnels_per_connector: 4,
            streams_per_tunnel: 248,
            relays: 256,
            attempts: 3,
        }
    }
}

/// Buffer of each direction of a relay, in bytes.
pub(crate) const COPY_BUFFER: usize = 32 * 1024;
