//! The discovery document: where to enrol. Hints only, the hub trusts its own pin, never these.

use serde_json::json;

use crate::EdgeDocument;

/// Where the edge serves the document, over HTTP and HTTPS.
pub const DISCOVERY_PATH: &str = "/.well-known/sluice/discovery";
/// Where an enrolled hub checks in, over HTTPS with its certificate.
pub const CHECK_IN_PATH: &str = "/.well-known/sluice/checkin";

/// JSON: the tenant's EST service, and this edge's check-in door.
#[must_use]
pub fn discovery_hint(document: &EdgeDocument) -> String {
    let service = &document.service;
    json!({
        "tenant": document.tenant.as_str(),
        "discovery": service.discovery_url,
        "est": format!("https://{}/.well-known/est", service.est_host),
        "checkin": format!("https://{}{CHECK_IN_PATH}", service.checkin_host),
    })
    .to_string()
}
