//! When an agent is taken for dead.

use std::time::Duration;

use sluice_connector_mux::Heard;
use sluice_connector_wire::race::{Liveness, Pulse};
use tokio::time::{Instant, sleep};

/// How often to look: half as often as an agent does, for a gateway has thousands.
const LOOK: Duration = Duration::from_millis(500);

/// Returns when nothing has been received for three seconds and nothing of ours has left meanwhile: a line that is slow
/// but moves is not dead. The agent pings; a gateway only listens.
pub(crate) async fn watch(heard: Heard) {
    let began = Instant::now();
    let mut liveness = Liveness::new(began.elapsed()).looking_every(LOOK);
    while liveness.look(heard.received(), heard.left(), began.elapsed()) != Pulse::Dead {
        sleep(LOOK).await;
    }
}
