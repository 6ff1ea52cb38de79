//! Frames: a big-endian `u16` length, then that many bytes of JSON; at most [`MAX_FRAME`] bytes.

use std::fmt;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sluice_node_identity::NodeId;
use thiserror::Error;

use crate::ClassPair;

/// Longest frame either side sends or reads.
pub const MAX_FRAME: usize = 8 * 1024;

/// First frame on the first stream of a tunnel connection, agent → gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentHello {
    /// Tunnel session: 128 random bits of the agent's, base64url. The same on each connection of one tunnel.
    pub sid: String,
    /// Which streams this connection is for.
    #[serde(default)]
    pub pair: ClassPair,
}

/// What an agent says on a connection's first stream after its [`AgentHello`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "lowercase", deny_unknown_fields)]
pub enum AgentSays {
    /// Sent every second; the gateway answers with the same number at once.
    Ping {
        /// Counts up.
        number: u64,
        /// Round-trip time last measured on this connection, in microseconds.
        rtt_micros: Option<u32>,
        /// Streams that the agent carries now, on all its tunnels.
        streams: u32,
        /// How many more it would take.
        room: u32,
    },
    /// No new streams on this connection; those that run go on to their end. Said when a better connection of the
    /// same pair is up, and when the agent stops.
    Retire,
}

/// What a gateway says there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "lowercase", deny_unknown_fields)]
pub enum GatewaySays {
    /// Answers a ping.
    Pong {
        /// The ping's.
        number: u64,
    },
    /// The gateway is stopping: it opens new streams only for requests that it has taken already, and carries no more
    /// for control. The agent need not dial it again while this connection lives.
    Leaving,
}

/// First frame of every stream, gateway → agent.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
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

/// Without the token: whoever reads a log must not be able to present it.
impl fmt::Debug for OpenRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Direct { .. } => "Direct(redacted)",
            Self::Sealed => "Sealed",
        })
    }
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
    /// Which of the session's connections.
    #[serde(default)]
    pub pair: ClassPair,
}

/// Why bytes are not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// Zero or more than [`MAX_FRAME`].
    #[error("a frame has 1 to {MAX_FRAME} bytes, not {0}")]
    Length(usize),
    /// Not the JSON that belongs here.
    #[error("the frame is not the JSON expected here")]
    Content,
}

/// How many bytes follow this length.
///
/// # Errors
/// [`FrameError::Length`].
pub fn frame_length(header: [u8; 2]) -> Result<usize, FrameError> {
    let length = usize::from(u16::from_be_bytes(header));
    if (1..=MAX_FRAME).contains(&length) { Ok(length) } else { Err(FrameError::Length(length)) }
}

/// Reads the bytes behind the length.
///
/// # Errors
/// [`FrameError::Content`].
pub fn decode_frame<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    serde_json::from_slice(body).map_err(|_| FrameError::Content)
}

/// A whole frame, length included.
///
/// # Errors
/// [`FrameError`] when the message is too long.
pub fn encode_frame(message: &impl Serialize) -> Result<Vec<u8>, FrameError> {
    let body = serde_json::to_vec(message).map_err(|_| FrameError::Content)?;
    let length = u16::try_from(body.len()).ok().filter(|length| usize::from(*length) <= MAX_FRAME);
    let length = length.ok_or(FrameError::Length(body.len()))?;
    Ok([length.to_be_bytes().as_slice(), &body].concat())
}
