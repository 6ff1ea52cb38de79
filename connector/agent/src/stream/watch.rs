//! What ends a running stream that its caller still wants: the allow-list.

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use sluice_connector_wire::Granted;
use sluice_node_identity::UnixTime;
use sluice_node_reach::DialGuard;
use tokio::{sync::watch, time::sleep};

use crate::{Shared, now};

/// A running stream is judged again at least so often.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Returns when what was granted ends: a new list no longer has it, or no longer lets the address `at` be dialled for
/// it, or its hours or its exception are over.
pub(super) async fn withdrawn(shared: &Shared, granted: &Granted, at: SocketAddr, lists: &mut watch::Receiver<u64>) {
    loop {
        if !allows(shared, granted, at) {
            return;
        }
        let (list, now) = (shared.gatekeeper().list(), now());
        let wait = list.and_then(|list| list.next_change(granted, now)).map_or(Duration::MAX, until);
        tokio::select! {
            changed = lists.changed() => if changed.is_err() { return },
            // A clock that is set meanwhile is noticed in time.
            () = sleep(wait.min(LOOK_AGAIN)) => {}
        }
    }
}

/// Whether what was granted may be at this moment, at the address `at`.
pub(super) fn allows(shared: &Shared, granted: &Granted, at: SocketAddr) -> bool {
    let list = shared.gatekeeper().list();
    let networks = list.and_then(|list| list.still_allows(granted, now()));
    networks.is_some_and(|networks| DialGuard::new(networks).permit(&[at.ip()], at.port()).is_ok())
}

/// Time until `moment`, by the clock.
fn until(moment: UnixTime) -> Duration {
    let moment = UNIX_EPOCH.checked_add(Duration::from_secs(moment.0));
    moment.map_or(Duration::MAX, |moment| moment.duration_since(SystemTime::now()).unwrap_or_default())
}
