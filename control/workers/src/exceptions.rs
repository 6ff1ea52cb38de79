//! Sweeps away exceptions that are over. Connectors have ended them already, by their own clocks; this takes them off
//! the lists and into the audit.

use serde_json::json;
use sluice_control_domain::{AuditEntry, ChangeSet, Commit, ExceptionRecord, Kind, Load};
use sluice_node_identity::TenantId;

use crate::{WorkError, Workers, lease::now};

/// Most exceptions of a tenant looked at in one turn.
const PAGE: u32 = 1_000;

impl Workers {
    /// Removes the exceptions of `tenant` that are over. Where several processes do it, the first one does.
    pub(crate) async fn sweep_exceptions(&self, tenant: &TenantId) -> Result<(), WorkError> {
        let what = Load::Scan { kind: Kind::Exception, tenant: tenant.to_string(), after: None, limit: PAGE };
        let now = now();
        for stored in self.parts.store.load(what).await? {
            let loaded = stored.typed::<ExceptionRecord>()?;
            let one = &loaded.body;
            if one.holds(now) {
                continue;
            }
            let audit = AuditEntry {
                at: now,
                actor: "control".to_owned(),
                act: "exception.end".to_owned(),
                subject: format!("exception/{}", one.id),
                detail: json!({ "until": one.until, "resource": one.resource }),
            };
            if self.parts.store.commit(ChangeSet::of(tenant).delete(&loaded).audit(audit)).await? == Commit::Done {
                tracing::info!(%tenant, exception = %loaded.body.id, "an exception is over");
            }
        }
        Ok(())
    }
}
