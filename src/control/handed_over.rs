//! Policy keys that customers hold themselves: control has none of them.

use anyhow::Context;
use sluice_control_domain::{Load, PLATFORM, Record, Store, Stored, Tenant};
use sluice_control_server::{ControlKeys, admin_api::Authority};

/// Tenants per read.
const PAGE: u32 = 1_000;

/// Removes every policy key that a customer has taken over. A control that ended between the two halves of that act
/// would otherwise keep a key that connectors believe until they have seen a list signed with the customer's.
pub(super) async fn forget(store: &dyn Store, keys: &ControlKeys) -> anyhow::Result<()> {
    let mut after = None;
    loop {
        let page = Load::Scan { kind: Tenant::KIND, tenant: PLATFORM.to_owned(), after, limit: PAGE };
        let page = store.load(page).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(last.key.id.clone());
        for stored in page {
            let tenant = Stored::typed::<Tenant>(stored)?.body;
            // One that cannot be read here is one that somebody may read elsewhere.
            if tenant.policy.customer && keys.has_policy_key(&tenant.id)? {
                let removed = keys.forget_policy_key(&tenant.id).map_err(anyhow::Error::msg);
                removed.with_context(|| format!("cannot remove the former policy key of tenant {}", tenant.id))?;
                tracing::warn!(tenant = %tenant.id, "removed a policy key that the customer has taken over");
            }
        }
    }
}
