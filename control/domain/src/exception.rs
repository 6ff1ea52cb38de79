//! Exceptions: rules that end by themselves, at the connector, within a day.

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use sluice_connector_wire::{AllowRule, CONTROL, Exception, Target};
use sluice_node_identity::{NodeId, ResourceId, SiteId, TenantId, UnixTime};

use crate::{Kind, Record, ResourceRecord};

/// A time-limited permission. Its tokens carry `resource`: that of an existing resource, which it widens, or its own
/// id, under which an app or an integration can name it as if it were a resource.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExceptionRecord {
    /// Whose.
    pub tenant: TenantId,
    /// Name; shaped like a resource's.
    pub id: ResourceId,
    /// Whose connectors.
    pub site: SiteId,
    /// As which resource it is asked for: an existing one's, or `id`.
    pub resource: ResourceId,
    /// What may be dialled.
    pub target: Target,
    /// Own networks the target may lie in.
    pub networks: Vec<IpNetwork>,
    /// `control`, or gateways.
    pub callers: Vec<String>,
    /// When it was made.
    pub made: UnixTime,
    /// The second from which it holds no longer.
    pub until: UnixTime,
    /// For people: why.
    pub why: String,
    /// Who made it.
    pub by: String,
}

impl Record for ExceptionRecord {
    const KIND: Kind = Kind::Exception;

    fn tenant(&self) -> &str {
        self.tenant.as_str()
    }

    fn id(&self) -> &str {
        self.id.as_str()
    }

    fn index(&self) -> Vec<(&'static str, String)> {
        vec![("resource", self.resource.to_string())]
    }
}

impl ExceptionRecord {
    /// Whether it still holds.
    #[must_use]
    pub fn holds(&self, now: UnixTime) -> bool {
        now < self.until
    }

    /// Whether it is for this caller.
    #[must_use]
    pub fn lets(&self, caller: &str) -> bool {
        self.callers.iter().any(|id| id == caller)
    }

    /// Whether it lets `caller` reach the resource `id` at `target` now.
    pub(crate) fn opens(&self, id: &ResourceId, target: &Target, caller: &str, now: UnixTime) -> bool {
        self.resource == *id && self.target == *target && self.lets(caller) && self.holds(now)
    }

    /// Its rule. Gateways that no connector could believe are left out.
    pub fn rule(&self, gateways: &[NodeId]) -> AllowRule {
        let known = |id: &&String| *id == CONTROL || gateways.iter().any(|gateway| gateway.as_str() == id.as_str());
        let callers = self.callers.iter().filter(known).cloned().collect();
        AllowRule {
            name: format!("exception/{}", self.id),
            exception: Some(Exception { made: self.made, until: self.until }),
            ..AllowRule::new(self.resource.clone(), &self.target, callers, self.networks.clone())
        }
    }
}

/// Where control finds what it asks for as resource `id`: a resource for it, one that an exception lends it, or an
/// exception of that name. `None` when it may not ask.
#[must_use]
pub fn reachable(
    id: &ResourceId,
    resource: Option<&ResourceRecord>,
    exceptions: &[ExceptionRecord],
    now: UnixTime,
) -> Option<(SiteId, Target)> {
    match resource {
        Some(resource) => {
            let lent = || exceptions.iter().any(|one| one.opens(id, &resource.target, CONTROL, now));
            (resource.for_control || lent()).then(|| (resource.site.clone(), resource.target.clone()))
        }
        None => {
            let mut own = exceptions.iter().filter(|one| one.id == *id && one.resource == *id);
            own.find(|one| one.lets(CONTROL) && one.holds(now)).map(|one| (one.site.clone(), one.target.clone()))
        }
    }
}
