//! Live streams: how a connector tells control what it carries, and how control ends one.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use crate::{NodeId, ResourceId, StateKey, UnixTime};

/// Most streams in one [`LiveStreams`].
pub const STREAMS_TOLD: usize = 1_000;
/// Longest free text in a [`LiveStream`], bytes.
pub const STREAM_TEXT: usize = 300;
/// Seconds an order to end a stream stands in the state feed: a connector that was away for longer has lost the
/// stream with its tunnel.
pub const KILL_SECONDS: u64 = 60;

/// Names one live stream of one connector: 64 random bits, 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StreamId(u64);

/// Not a stream's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a stream is named by 16 digits 0-9, a-f, as the list of live streams shows it")]
pub struct BadStreamId;

impl StreamId {
    /// From eight random bytes.
    #[must_use]
    pub const fn new(random: [u8; 8]) -> Self {
        Self(u64::from_be_bytes(random))
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for StreamId {
    type Err = BadStreamId;

    fn from_str(text: &str) -> Result<Self, BadStreamId> {
        let plain = text.len() == 16 && text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f'));
        if !plain {
            return Err(BadStreamId);
        }
        u64::from_str_radix(text, 16).map(Self).map_err(|_| BadStreamId)
    }
}

impl TryFrom<String> for StreamId {
    type Error = BadStreamId;

    fn try_from(text: String) -> Result<Self, BadStreamId> {
        text.parse()
    }
}

impl From<StreamId> for String {
    fn from(id: StreamId) -> Self {
        id.to_string()
    }
}

/// `POST /node/v1/streams` (connector only): the streams it carries now, whole list each time. Answer:
/// [`StreamsHeard`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LiveStreams {
    /// How many there are.
    pub total: u32,
    /// At most [`STREAMS_TOLD`] of them, the newest.
    pub streams: Vec<LiveStream>,
}

/// One stream as the connector sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LiveStream {
    /// Its name at this connector.
    pub id: StreamId,
    /// When it was opened.
    pub since: UnixTime,
    /// Whether control calls through TLS of its own, past the gateway.
    pub sealed: bool,
    /// Who asked: `control` or a gateway.
    pub caller: String,
    /// On whose behalf: `user/<id>` or `service/<name>`.
    pub subject: String,
    /// What was asked for.
    pub resource: ResourceId,
    /// `tcp:host:port` or `udp:host:port`.
    pub target: String,
    /// Address and port that were dialled.
    pub dialled: String,
    /// Rule of the allow-list that let it pass.
    pub rule: String,
    /// Gateway whose tunnel carries it.
    pub gateway: NodeId,
    /// `tcp` or `quic`.
    pub transport: String,
    /// Pair of traffic classes.
    pub pair: String,
    /// Bytes to the target.
    pub up: u64,
    /// Bytes from the target.
    pub down: u64,
}

impl LiveStream {
    /// With every text short and plain: people read them, and whoever wrote them may be in wrong hands. It is no reason
    /// to refuse the stream: a gateway could then hide it, and all others of the connector, behind one odd subject.
    #[must_use]
    pub fn plain(mut self) -> Self {
        let Self { caller, subject, target, dialled, rule, transport, pair, .. } = &mut self;
        for text in [caller, subject, target, dialled, rule, transport, pair] {
            *text = crate::plain(text, STREAM_TEXT);
        }
        self
    }
}

/// Answer to [`LiveStreams`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamsHeard {
    /// When to tell again, seconds from now: soon while somebody looks.
    pub again_in: u64,
}

/// Under this key the state feed of the connector orders the end of a stream; its value is a [`Kill`].
#[must_use]
pub fn kill_key(connector: &NodeId, stream: StreamId) -> StateKey {
    format!("{}{stream}", kill_prefix(connector))
}

/// What all of a connector's [`kill_key`]s begin with.
#[must_use]
pub fn kill_prefix(connector: &NodeId) -> String {
    format!("kill/{connector}/")
}

/// An order to end one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kill {
    /// Afterwards it means nothing any more.
    pub until: UnixTime,
}

impl Kill {
    /// What one entry of the state feed orders, if it does; `key` without [`kill_prefix`].
    #[must_use]
    pub fn read(key: &str, value: &Value) -> Option<(StreamId, Self)> {
        Some((key.parse().ok()?, Self::deserialize(value).ok()?))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    proptest! {
        #[test]
        fn a_streams_name_survives_text_and_json(random: [u8; 8]) {
            let id = StreamId::new(random);
            prop_assert_eq!(id.to_string().parse(), Ok(id));
            prop_assert_eq!(serde_json::from_value::<StreamId>(json!(id)).unwrap(), id);
            let connector: NodeId = "dc-1".parse().unwrap();
            let (key, until) = (kill_key(&connector, id), UnixTime(7));
            let rest = key.strip_prefix(&kill_prefix(&connector)).unwrap();
            prop_assert_eq!(Kill::read(rest, &json!(Kill { until })), Some((id, Kill { until })));
        }

        #[test]
        fn other_text_names_no_stream(text in "\\PC{0,20}") {
            prop_assert_eq!(text.parse::<StreamId>().is_ok_and(|id| id.to_string() != text), false);
        }
    }

    #[test]
    fn only_sixteen_lower_case_digits_name_a_stream() {
        for bad in ["", "0", "+123456789abcdef", "0123456789ABCDEF", "0123456789abcdef0", "0x23456789abcdef"] {
            assert_eq!(bad.parse::<StreamId>(), Err(BadStreamId), "{bad}");
        }
        assert_eq!(Kill::read("0123456789abcdef", &json!({ "until": "soon" })), None);
        assert_eq!(Kill::read("ffff", &json!({ "until": 1 })), None);
    }
}
