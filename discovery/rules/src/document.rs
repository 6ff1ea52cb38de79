//! The edge's document, as the config watch delivers it. Interfaces, addresses and line rates are local (TOML):
//! the document says what to answer and what to favour, not what the box is plugged into.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use sluice_node_identity::{SiteId, TenantId};

/// Schema of [`EdgeDocument`] written by this release.
pub const SCHEMA: u32 = 1;

/// An edge's whole configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EdgeDocument {
    /// Whom this edge serves.
    pub tenant: TenantId,
    /// Where it stands.
    pub site: SiteId,
    /// How hubs are recognised; the first match counts.
    pub classes: Vec<HubClass>,
    /// What discovery tells a hub.
    pub service: HubService,
    /// Where a hub in staging may go beyond this edge (EST by way of the gateway).
    pub staging: Vec<StagingDestination>,
    /// Which traffic is favoured.
    pub qos: sluice_qos_plan::QosPolicy,
}

/// One kind of device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HubClass {
    /// For people, and in logs.
    pub name: String,
    /// DHCP option 60 starts with this.
    pub vendor_class: String,
}

/// What a recognised hub is told. Hints only: the hub trusts its own pin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HubService {
    /// Option 43 sub-option 1 and option 143/114's text: the tenant's enrolment URL, `https://host`.
    pub discovery_url: String,
    /// The EST host's name; the edge's DNS answers it with `est_addresses`.
    pub est_host: String,
    /// Addresses of the gateways that splice it to control.
    pub est_addresses: Vec<IpAddr>,
    /// Name of the edge's own check-in door; the edge's DNS answers it with the edge's LAN addresses.
    pub checkin_host: String,
}

/// One pinhole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StagingDestination {
    /// Where.
    pub address: IpAddr,
    /// TCP port.
    pub port: u16,
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
pub(crate) fn sample() -> EdgeDocument {
    EdgeDocument {
        tenant: "acme".parse().unwrap(),
        site: "branch-1".parse().unwrap(),
        classes: vec![HubClass { name: "Sluice hub".into(), vendor_class: "SluiceHub".into() }],
        service: HubService {
            discovery_url: "https://est.acme.test".into(),
            est_host: "est.acme.test".into(),
            est_addresses: vec!["192.0.2.10".parse().unwrap(), "2001:db8:1::10".parse().unwrap()],
            checkin_host: "checkin.acme.test".into(),
        },
        staging: vec![StagingDestination { address: "192.0.2.10".parse().unwrap(), port: 443 }],
        qos: sluice_qos_plan::QosPolicy::default(),
    }
}
