//! What ends a running stream that its caller still wants: the allow-list.

use std::net::SocketAddr;

use sluice_connector_wire::Granted;
use sluice_node_reach::DialGuard;
use tokio::sync::watch;

use crate::Shared;

/// Returns when a new list no longer has what was granted, or no longer lets the address `at` be dialled for it.
pub(super) async fn withdrawn(shared: &Shared, granted: &Granted, at: SocketAddr, lists: &mut watch::Receiver<u64>) {
    while lists.changed().await.is_ok() {
        let list = shared.gatekeeper().list();
        let networks = list.and_then(|list| list.still_allows(granted));
        if networks.is_none_or(|networks| DialGuard::new(networks).permit(&[at.ip()], at.port()).is_err()) {
            return;
        }
    }
}
