//! Frames: a big-endian `u16` length, then that many bytes of JSON; at most [`MAX_FRAME`] bytes.

use serde::{Deserialize, Serialize};
use sluice_node_identity::NodeId;

/// Longest frame either side sends or reads.
pub const MAX_FRAME: usize = 8 * 1024;

/// First frame on the first stream of a tunnel connection, agent → gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentHello {
    /// Tunnel session: 128 random bits of the agent's, base64url. The same on each connection of one tunnel.
    pub sid: String,
}

/// First frame of every stream, gateway → agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum OpenRequest {
    /// The gateway itself calls; the token is its own.
    Direct {
        /// Compact JWS of [`crate::StreamClaims`].
        token: String,
    },
    /// Control calls: mutual TLS 1.3 follows at once (caller = client), and inside it `Direct`'s frame again with
    /// control's token.
    Sealed,
}

/// Which kind a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    /// See [`OpenRequest::Direct`].
    Direct,
    /// See [`OpenRequest::Sealed`].
    Sealed,
}

/// Answer to a token, agent → caller. After `Open` the stream carries the target's bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "lowercase", deny_unknown_fields)]
pub enum OpenReply {
    /// Connected.
    Open,
    /// Not.
    Refused {
        /// Stable, snake_case.
        code: String,
        /// What was wrong and what to do.
        message: String,
        /// Whether trying again with a fresh token may help.
        retry: bool,
    },
}

/// First frame on a relay connection (ALPN `sluice-relay/1`), control → gateway; the gateway answers with
/// [`OpenReply`] and then copies bytes between control and one sealed stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelayOpen {
    /// Which connector.
    pub connector: NodeId,
    /// Which of its tunnel sessions.
    pub sid: String,
}
