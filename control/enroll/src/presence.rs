//! What it means that a node's certificate shows up on a connection.

use serde_json::json;
use sluice_control_domain::{ChangeSet, NodeRecord, Typed};
use sluice_node_identity::{Fingerprint, Lock, Presented, UnixTime};

use crate::node::{audit, standing};

/// The verdict on a presented key. Changes are committed before anything is served or refused.
#[derive(Debug)]
#[must_use]
pub enum Presence {
    /// The node's current key.
    Good,
    /// The pending key's first use: good once this is committed.
    Promoted(ChangeSet),
    /// A retired key: the node is locked once this is committed. Refuse.
    Cloned(ChangeSet),
    /// Locked, or never bound. Refuse.
    Refused,
}

/// Judges `key`, whose possession the TLS handshake has proved.
pub fn present(node: &Typed<NodeRecord>, key: &Fingerprint, now: UnixTime) -> Presence {
    let record = &node.body;
    let Some(binding) = &record.binding else { return Presence::Refused };
    match binding.present(key, now) {
        Presented::Current => Presence::Good,
        Presented::Locked | Presented::Unknown => Presence::Refused,
        Presented::Promoted(promoted) => {
            let generation = promoted.current.generation;
            let after = NodeRecord { binding: Some(promoted), ..record.clone() };
            let entry = audit(record, now, "node.key.promoted", json!({ "generation": generation }));
            Presence::Promoted(ChangeSet::of(&record.tenant).update(node, &after).audit(entry))
        }
        Presented::Cloned(locked) => {
            let generation = match &locked.lock {
                Some(Lock::Clone { generation, .. }) => Some(*generation),
                _ => None,
            };
            let after = NodeRecord { binding: Some(locked), ..record.clone() };
            let entry = audit(record, now, "node.cloned", json!({ "generation": generation, "alarm": true }));
            // Both holders are cut off everywhere, like a revoked node.
            let set = ChangeSet::of(&record.tenant)
                .update(node, &after)
                .state(standing(record, Some(json!({ "revoked": true }))))
                .audit(entry);
            Presence::Cloned(set)
        }
    }
}
