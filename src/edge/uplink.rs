//! What the discovery agent needs of control, by way of the node client.

use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use sluice_discovery_agent::Control;
use sluice_node_client::Node;
use sluice_node_identity::{
    HubId, TenantId, TrustDomain,
    api::{Chain, CheckIns, HubFacingRequest, HubStanding},
};

pub(super) struct Uplink {
    pub(super) node: Node,
    pub(super) max_stale: Duration,
}

#[async_trait]
impl Control for Uplink {
    fn owner(&self) -> (TrustDomain, TenantId) {
        (self.node.name().trust_domain.clone(), self.node.name().tenant.clone())
    }

    fn standing(&self, hub: &HubId) -> Option<HubStanding> {
        let state = self.node.state().borrow().clone();
        // What is not understood is no standing: the hub stays in staging.
        HubStanding::deserialize(state.value(&format!("hub/{hub}"))?).ok()
    }

    fn is_stale(&self) -> bool {
        self.node.stale(self.max_stale)
    }

    async fn hub_facing(&self, csr: String) -> anyhow::Result<String> {
        let answer: Chain = self.node.post("/node/v1/hub-facing", &HubFacingRequest { csr }).await?;
        Ok(answer.chain)
    }

    async fn check_ins(&self, seen: CheckIns) -> anyhow::Result<()> {
        let () = self.node.post("/node/v1/checkins", &seen).await?;
        Ok(())
    }
}
