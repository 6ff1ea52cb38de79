//! What the edge's wire side may ask of its kernel writer. The kernel writer reads nothing else.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{Mac, Pinhole, QosPolicy};

/// Longest message in bytes, either way; a policy of 1,000 rules fits.
pub const MAX_MESSAGE: usize = 512 * 1024;

/// A request. Answered in order, each by one [`FromKernel`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
pub enum ToKernel {
    /// Favour traffic by this policy from now on, running flows included.
    Policy {
        /// The whole policy.
        policy: QosPolicy,
    },
    /// Where devices in staging may go; replaces the former list.
    Pinholes {
        /// At most [`crate::Pinhole::MAX`].
        pinholes: Vec<Pinhole>,
    },
    /// Devices leave staging or come back to it, in this order, all or none.
    Devices {
        /// At most [`Change::MAX`].
        changes: Vec<Change>,
    },
    /// Nobody may any more.
    RestageAll,
}

/// What becomes of one address of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "to", rename_all = "snake_case", deny_unknown_fields)]
pub enum Change {
    /// A device may pass beyond the edge with this address.
    Admit {
        /// Its MAC.
        mac: Mac,
        /// One of its addresses.
        address: IpAddr,
    },
    /// A device may not any more; its running flows stop with the next packet.
    Restage {
        /// Its MAC.
        mac: Mac,
        /// One of its addresses.
        address: IpAddr,
    },
}

impl Change {
    /// Most changes in one message.
    pub const MAX: usize = 512;
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case", deny_unknown_fields)]
pub enum FromKernel {
    /// In force.
    Done,
    /// Nothing changed.
    Refused {
        /// What was wrong.
        reason: String,
    },
}

/// The peer sent something that is no message; the connection is of no further use.
#[derive(Debug, Error)]
pub enum BadMessage {
    /// Longer than [`MAX_MESSAGE`].
    #[error("message of {0} bytes; at most {MAX_MESSAGE} are read")]
    TooLong(usize),
    /// Not the JSON of a message.
    #[error("not a message: {0}")]
    Shape(#[from] serde_json::Error),
}

/// A message as it travels: big-endian `u32` length, then JSON.
///
/// # Errors
/// [`BadMessage::TooLong`] when the peer would not read it.
pub fn encode<M: Serialize>(message: &M) -> Result<Vec<u8>, BadMessage> {
    let json = serde_json::to_vec(message)?;
    let length = body_length(u32::try_from(json.len()).unwrap_or(u32::MAX).to_be_bytes())?;
    let mut bytes = Vec::with_capacity(length.saturating_add(4));
    bytes.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend_from_slice(&json);
    Ok(bytes)
}

/// Length of the body that follows `prefix`.
///
/// # Errors
/// [`BadMessage::TooLong`] before anything is read or allocated.
pub fn body_length(prefix: [u8; 4]) -> Result<usize, BadMessage> {
    let length = usize::try_from(u32::from_be_bytes(prefix)).unwrap_or(usize::MAX);
    if length > MAX_MESSAGE { Err(BadMessage::TooLong(length)) } else { Ok(length) }
}

/// Reads a body.
///
/// # Errors
/// [`BadMessage::Shape`].
pub fn decode<M: serde::de::DeserializeOwned>(body: &[u8]) -> Result<M, BadMessage> {
    Ok(serde_json::from_slice(body)?)
}
