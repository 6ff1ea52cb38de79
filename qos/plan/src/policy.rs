//! Which traffic belongs to which class (part of the edge's document).

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

/// The six classes, most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TrafficClass {
    /// Voice, audio streams of desktops.
    Realtime,
    /// Screens, keyboards, mice.
    Interactive,
    /// Sensors to the cloud.
    Iot,
    /// Everything not named.
    Default,
    /// Copies somebody waits for.
    Bulk,
    /// Copies nobody waits for.
    Background,
}

impl TrafficClass {
    /// All, most urgent first.
    pub const ALL: [Self; 6] =
        [Self::Realtime, Self::Interactive, Self::Iot, Self::Default, Self::Bulk, Self::Background];
}

/// An ordered list; the first matching rule counts, no match is [`TrafficClass::Default`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QosPolicy {
    /// At most 1,000.
    pub rules: Vec<QosRule>,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QosRule {
    /// What traffic.
    pub when: Match,
    /// Goes where.
    pub class: TrafficClass,
}

/// All given parts must match, in either direction of the flow (the remote end's port and address).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Match {
    /// Transport protocol.
    pub transport: Transport,
    /// First and last port of the serving end.
    pub ports: (u16, u16),
    /// Network of the serving end; any when absent.
    pub network: Option<IpNetwork>,
}

/// Transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}
