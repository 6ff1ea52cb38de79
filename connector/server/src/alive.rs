//! When an agent is taken for dead.

use std::time::Duration;

use sluice_connector_mux::Heard;
use tokio::time::{Instant, sleep};

use crate::limits::LOOK_EVERY;

/// Returns when for `silence` nothing was received and nothing of ours has left: a line that is slow but moves is not
/// dead.
pub(crate) async fn watch(heard: Heard, silence: Duration) {
    let mut alive = Alive::new(Instant::now());
    loop {
        sleep(LOOK_EVERY.min(silence)).await;
        let now = Instant::now();
        alive.look(heard.received(), heard.left(), now);
        if now.duration_since(alive.last) >= silence {
            return;
        }
    }
}

struct Alive {
    seen: (u64, u64),
    last: Instant,
}

impl Alive {
    const fn new(now: Instant) -> Self {
        Self { seen: (0, 0), last: now }
    }

    fn look(&mut self, received: u64, left: u64, now: Instant) {
        if self.seen != (received, left) {
            self.seen = (received, left);
            self.last = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_direction_that_moves_is_life() {
        let begin = Instant::now();
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        let mut alive = Alive::new(begin);
        alive.look(0, 0, at(1));
        assert_eq!(alive.last, begin);
        alive.look(1, 0, at(2));
        assert_eq!(alive.last, at(2));
        alive.look(1, 1, at(3));
        assert_eq!(alive.last, at(3));
        alive.look(1, 1, at(6));
        assert_eq!(alive.last, at(3));
    }
}
