//! The two feeds a node watches: its compiled document, and keyed state with gap detection.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use crate::Role;

/// A node's whole configuration, as `GET /node/v1/config` delivers it. Applied all or nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigEnvelope {
    /// Grows with every change; never reused.
    pub version: u64,
    /// Shape of `document`; a node names the shapes it reads when it asks.
    pub schema: u32,
    /// Whose document this is. A node refuses another role's.
    pub role: Role,
    /// `GatewayDocument`, `EdgeDocument` or `ConnectorDocument` of the role's pure crate.
    pub document: Value,
}

/// `hub/<id>`, `session/<id>`, `user/<id>`, `node/<id>`, …: at most 200 bytes.
pub type StateKey = String;

/// One message of `GET /node/v1/state` (server-sent events; the JSON is the `data:` line).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum StateEvent {
    /// Everything there is, up to and including `seq`.
    Snapshot {
        /// Number of the last change contained.
        seq: u64,
        /// All live keys.
        entries: BTreeMap<StateKey, Value>,
    },
    /// One change. `prev` is the number of the change *this node* was sent before.
    Delta {
        /// Must equal the receiver's last number.
        prev: u64,
        /// This change's number.
        seq: u64,
        /// What changed.
        key: StateKey,
        /// Its new value; `null` removes the key.
        value: Option<Value>,
    },
    /// Nothing new; sent every 5 s.
    Beat {
        /// Must equal the receiver's last number.
        seq: u64,
    },
}

/// The feed skipped or repeated a number: throw the view away and ask for a snapshot.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("state feed is at {have} but the sender continues from {sent}; a new snapshot is needed")]
pub struct Gap {
    /// The receiver's last number.
    pub have: u64,
    /// The number the sender continued from.
    pub sent: u64,
}

/// What a node knows by its state feed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StateView {
    seq: u64,
    entries: BTreeMap<StateKey, Value>,
}

impl StateView {
    /// Number of the last change contained; 0 before the first snapshot.
    #[must_use]
    pub const fn seq(&self) -> u64 {
        self.seq
    }

    /// The view as a message that, applied to any view, gives this one: for keeping it on disk.
    #[must_use]
    pub fn snapshot(&self) -> StateEvent {
        StateEvent::Snapshot { seq: self.seq, entries: self.entries.clone() }
    }

    /// The value of one key.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.entries.get(key)
    }

    /// All keys starting with `prefix`, in order.
    pub fn under<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a Value)> {
        self.entries
            .range(prefix.to_owned()..)
            .take_while(move |(key, _)| key.starts_with(prefix))
            .map(|(key, value)| (key.as_str(), value))
    }

    /// Applies one message. Gives whether anything changed.
    ///
    /// # Errors
    /// [`Gap`] when numbers do not continue; the view is then unchanged and stale.
    pub fn apply(&mut self, event: StateEvent) -> Result<bool, Gap> {
        match event {
            StateEvent::Snapshot { seq, entries } => {
                let changed = self.entries != entries;
                *self = Self { seq, entries };
                Ok(changed)
            }
            StateEvent::Delta { prev, .. } if prev != self.seq => Err(Gap { have: self.seq, sent: prev }),
            StateEvent::Delta { seq, key, value, .. } => {
                self.seq = seq;
                let before = match &value {
                    Some(value) => self.entries.insert(key, value.clone()),
                    None => self.entries.remove(&key),
                };
                Ok(before != value)
            }
            StateEvent::Beat { seq } if seq != self.seq => Err(Gap { have: self.seq, sent: seq }),
            StateEvent::Beat { .. } => Ok(false),
        }
    }
}
