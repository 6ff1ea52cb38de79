//! When an agent is taken for dead.

use sluice_connector_mux::Heard;
use sluice_connector_wire::race::{Liveness, Pulse, TICK};
use tokio::time::{Instant, sleep};

/// Returns when nothing has been received for three seconds and nothing of ours has left meanwhile: a line that is slow
/// but moves is not dead. The agent pings; a gateway only listens.
pub(crate) async fn watch(heard: Heard) {
    let began = Instant::now();
    let mut liveness = Liveness::new(began.elapsed());
    while liveness.look(heard.received(), heard.left(), began.elapsed()) != Pulse::Dead {
        sleep(TICK).await;
    }
}
