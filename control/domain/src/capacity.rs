//! Whether what an administrator wants still fits on the connectors' lists.
//!
//! A connector refuses a list that is too long, and then renews none: what would make one so is refused beforehand.

use sluice_connector_wire::{MAX_CALLERS, MAX_LIST_BYTES, MAX_RULES};
use sluice_node_identity::{NodeId, Role, SiteId, UnixTime};
use thiserror::Error;

use crate::compile::Fleet;

/// Bytes of one caller's entry with an Ed25519 or RSA-3072 key, and some to spare.
const CALLER_BYTES: usize = 1_024;
/// Bytes of the rest of a list, of its header and its signature.
const HEAD_BYTES: usize = 4_096;

/// A site's connectors would refuse their list.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TooMuch {
    /// Rules.
    #[error(
        "the connectors at site \"{site}\" would have {rules} rules (a resource or an exception is one); they take \
         {MAX_RULES}: say several hosts or ports in one resource, or remove some"
    )]
    Rules {
        /// Where.
        site: SiteId,
        /// How many.
        rules: usize,
    },
    /// Gateways.
    #[error("a tenant has at most {} gateways; revoke some", MAX_CALLERS - 1)]
    Gateways,
    /// All of it together.
    #[error(
        "the list of the connectors at site \"{site}\" would have about {bytes} bytes; they take {MAX_LIST_BYTES}: \
         say several hosts or ports in one resource, or remove some"
    )]
    Bytes {
        /// Where.
        site: SiteId,
        /// As it travels.
        bytes: usize,
    },
}

impl Fleet {
    /// Refuses a fleet with a list that no connector would take. Gateways count from the moment they are added.
    ///
    /// # Errors
    /// [`TooMuch`].
    pub fn fits(&self, now: UnixTime) -> Result<(), TooMuch> {
        let revoked = |lock: &crate::NodeRecord| lock.binding.as_ref().is_some_and(|binding| binding.lock.is_some());
        let gateways = self.nodes.iter().filter(|node| node.role == Role::Gateway && !revoked(node));
        let gateways: Vec<NodeId> = gateways.map(|node| node.id.clone()).collect();
        if gateways.len() >= MAX_CALLERS {
            return Err(TooMuch::Gateways);
        }
        let mut sites: Vec<&SiteId> = self.resources.iter().map(|one| &one.site).collect();
        sites.extend(self.exceptions.iter().map(|one| &one.site));
        sites.sort();
        sites.dedup();
        sites.into_iter().try_for_each(|site| self.fits_at(site, &gateways, now))
    }

    fn fits_at(&self, site: &SiteId, gateways: &[NodeId], now: UnixTime) -> Result<(), TooMuch> {
        let resources = self.resources.iter().filter(|one| one.site == *site).map(|one| one.rule(gateways));
        let exceptions = self.exceptions.iter().filter(|one| one.site == *site && one.holds(now));
        let (mut rules, mut bytes) = (0_usize, HEAD_BYTES);
        bytes = bytes.saturating_add(CALLER_BYTES.saturating_mul(gateways.len().saturating_add(1)));
        for rule in resources.chain(exceptions.map(|one| one.rule(gateways))) {
            rules = rules.saturating_add(1);
            // Plain data always has a JSON form; a comma follows it.
            let length = serde_json::to_vec(&rule).map_or(0, |json| json.len());
            bytes = bytes.saturating_add(length).saturating_add(1);
        }
        // It travels in base64.
        let bytes = bytes.div_ceil(3).saturating_mul(4);
        if rules > MAX_RULES {
            return Err(TooMuch::Rules { site: site.clone(), rules });
        }
        if bytes > MAX_LIST_BYTES {
            return Err(TooMuch::Bytes { site: site.clone(), bytes });
        }
        Ok(())
    }
}
