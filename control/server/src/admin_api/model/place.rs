//! Tenants, sites, resources, apps.

use serde::{Deserialize, Serialize};
use sluice_connector_wire::ClassPair;
use sluice_control_domain::{AppPlace, ResourceRecord, Site, Tenant};
use sluice_discovery_rules::HubClass;
use sluice_node_identity::{AppId, ResourceId, SiteId, TenantId};
use sluice_qos_plan::QosPolicy;
use utoipa::ToSchema;

/// `POST /api/v1/tenants`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddTenant {
    /// Name.
    #[schema(value_type = String)]
    pub id: TenantId,
    /// For people.
    pub display_name: String,
    /// Where its users log in. Its parent domain is the tenant's: all its other hosts lie below it.
    pub login_host: String,
    /// Its EST endpoint.
    pub est_host: String,
    /// Its edges' check-in doors.
    pub checkin_host: String,
    /// Where its users find their feed.
    pub feed_host: String,
}

/// A tenant.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TenantView {
    /// Name.
    #[schema(value_type = String)]
    pub id: TenantId,
    /// For people.
    pub display_name: String,
    /// Where its users log in.
    pub login_host: String,
    /// Its EST endpoint.
    pub est_host: String,
    /// Its edges' check-in doors.
    pub checkin_host: String,
    /// Where its users find their feed.
    pub feed_host: String,
    /// Hub root certificate, PEM: what hubs trust.
    pub hub_root: String,
    /// Raised by every restore.
    pub policy_epoch: u64,
    /// How hubs are recognised.
    #[schema(value_type = Vec<Object>)]
    pub classes: Vec<HubClass>,
    /// Which traffic edges favour.
    #[schema(value_type = Object)]
    pub qos: QosPolicy,
}

impl From<Tenant> for TenantView {
    fn from(tenant: Tenant) -> Self {
        let Tenant { id, display_name, login_host, est_host, checkin_host, feed_host, hub_root, .. } = tenant;
        let Tenant { policy_epoch, classes, qos, .. } = tenant;
        Self { id, display_name, login_host, est_host, checkin_host, feed_host, hub_root, policy_epoch, classes, qos }
    }
}

/// `PUT …/classes`: the whole list; the first match counts.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutClasses {
    /// `{"name", "vendor_class"}`, at most 100.
    #[schema(value_type = Vec<Object>)]
    pub classes: Vec<HubClass>,
}

/// `POST …/sites`, and a site.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SiteView {
    /// Name.
    #[schema(value_type = String)]
    pub id: SiteId,
    /// For people.
    pub display_name: String,
    /// IANA name, e.g. `Europe/Berlin`.
    pub time_zone: String,
}

impl From<Site> for SiteView {
    fn from(site: Site) -> Self {
        Self { id: site.id, display_name: site.display_name, time_zone: site.time_zone }
    }
}

/// `POST …/resources`, and a resource.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResourceView {
    /// Name.
    #[schema(value_type = String)]
    pub id: ResourceId,
    /// Where its connectors stand.
    #[schema(value_type = String)]
    pub site: SiteId,
    /// `tcp:host:port` or `udp:host:port`: what an app or an integration dials.
    pub target: String,
    /// Own networks the target may lie in.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub networks: Vec<ipnetwork::IpNetwork>,
    /// Users reach it through a gateway.
    #[serde(default)]
    pub for_users: bool,
    /// Control reaches it, for integrations.
    #[serde(default)]
    pub for_control: bool,
    /// Traffic of what users do there: `interactive`, `standard` or `bulk`.
    #[serde(default)]
    #[schema(value_type = String)]
    pub class: ClassPair,
    /// Hosts that connectors may dial for it: a name, `*.suffix`, an address, or a network such as `10.1.0.0/16` whose
    /// addresses may be asked for. The target's host must be among them; it alone is without this.
    #[serde(default)]
    pub hosts: Option<String>,
    /// Ports that connectors may dial for it, such as `1433-1434`. The target's port must be among them; it alone is
    /// without this.
    #[serde(default)]
    pub ports: Option<String>,
    /// Hours in UTC at which it may be reached, such as `mon-fri 06:00-18:00`; always when there are none. At most 32.
    #[serde(default)]
    pub times: Vec<String>,
    /// In the answer to a change: what it waits for, if the customer holds the policy key. Of no meaning in a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<String>,
}

impl From<ResourceRecord> for ResourceView {
    fn from(resource: ResourceRecord) -> Self {
        Self {
            id: resource.id,
            site: resource.site,
            target: resource.target.to_string(),
            hosts: resource.hosts,
            ports: resource.ports.map(|ports| ports.to_string()),
            times: resource.times.iter().map(ToString::to_string).collect(),
            networks: resource.networks,
            for_users: resource.for_users,
            for_control: resource.for_control,
            class: resource.class,
            waits: None,
        }
    }
}

/// `POST …/apps`, and an app.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AppView {
    /// Name.
    #[schema(value_type = String)]
    pub id: AppId,
    /// For people.
    pub display_name: String,
    /// Its host name, below the tenant's domain.
    pub host: String,
    /// `{"resource": {"resource", "host_header"}}`, or `{"direct": {"kind": "direct", "address", …}}`.
    #[schema(value_type = Object)]
    pub place: AppPlace,
    /// Groups that may open it; empty means nobody.
    pub groups: Vec<String>,
    /// Header under which the app is told the login name.
    pub user_header: Option<String>,
}
