//! Which congestion control a path gets: CUBIC near by, BBR far away, held to what the path delivers.
//!
//! quinn's CUBIC is the faster of the two where a round trip takes microseconds, but takes every lost packet for a
//! full line: at 40 ms and 1 % loss it leaves 5 Mbit/s where BBR carries 370 (docs/performance.md). What kind of path
//! it is shows with the first acknowledgements, those of the handshake. A connection that moves to another path gets
//! a new controller from quinn and so decides anew.
//!
//! quinn's BBR lets its window grow without end while an application sends little, so that a burst after an hour of
//! keystrokes would be all in flight at once, and takes bursts of acknowledgements for speed. Here it never has more in
//! flight than two and a half times what the path has lately delivered in one round trip.

use std::{
    any::Any,
    sync::Arc,
    time::{Duration, Instant},
};

use quinn::congestion::{Bbr, BbrConfig, Controller, ControllerFactory, ControllerMetrics, Cubic, CubicConfig};
use quinn_proto::RttEstimator;

use super::config::FIRST_RTT;

/// Round trips from this on are far.
const FAR: Duration = Duration::from_millis(3);
/// How long what was delivered counts; at least this, at most twice.
const LATELY: Duration = Duration::from_secs(2);

/// Makes the controller of a path.
#[derive(Debug, Default)]
pub(super) struct ByDistance;

impl ControllerFactory for ByDistance {
    fn build(self: Arc<Self>, now: Instant, mtu: u16) -> Box<dyn Controller> {
        let near = Box::new(Cubic::new(Arc::new(CubicConfig::default()), now, mtu));
        Box::new(Chosen { control: near, mtu, known: false, far: false, delivered: Delivered::new(now) })
    }
}

/// CUBIC, until the first acknowledgement says otherwise.
struct Chosen {
    control: Box<dyn Controller>,
    mtu: u16,
    /// Whether the path's length has been seen.
    known: bool,
    far: bool,
    delivered: Delivered,
}

/// What the path has lately delivered, in bytes.
#[derive(Clone, Copy, Debug)]
struct Delivered {
    /// In the round trip that began at `since`, and in the one before.
    rounds: [u64; 2],
    since: Instant,
    /// The most in two rounds since `noted`, and in the time before.
    most: [u64; 2],
    noted: Instant,
}

impl Delivered {
    const fn new(now: Instant) -> Self {
        Self { rounds: [0; 2], since: now, most: [0; 2], noted: now }
    }

    fn note(&mut self, now: Instant, bytes: u64, round: Duration) {
        let age = now.saturating_duration_since(self.since);
        if age >= round {
            let [newest, _] = self.rounds;
            (self.rounds, self.since) = ([0, if age >= 2 * round { 0 } else { newest }], now);
        }
        let age = now.saturating_duration_since(self.noted);
        if age >= LATELY {
            let [newest, _] = self.most;
            (self.most, self.noted) = ([0, if age >= 2 * LATELY { 0 } else { newest }], now);
        }
        let [round, before] = &mut self.rounds;
        *round = round.saturating_add(bytes);
        let [most, _] = &mut self.most;
        *most = round.saturating_add(*before).max(*most);
    }

    /// What may be in flight: two round trips of what was delivered, and a quarter for asking whether there is more.
    fn limit(&self) -> u64 {
        let [newest, before] = self.most;
        let most = newest.max(before);
        most.saturating_add(most / 4)
    }
}

/// Through how much time deliveries are added up. The least round trip does not know of queues, not even of our own;
/// but where the path has become longer for good, it would let us starve: half of what a round trip takes now leaves
/// room to grow by a quarter each time.
fn round(rtt: &RttEstimator) -> Duration {
    rtt.min().max(rtt.get() / 2)
}

impl Controller for Chosen {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet: u64) {
        self.control.on_sent(now, bytes, last_packet);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        // quinn measures a packet's round trip after it has told us of the acknowledgement.
        if !self.known && rtt.get() != FIRST_RTT {
            self.known = true;
            self.far = rtt.min() >= FAR;
            if self.far {
                self.control = Box::new(Bbr::new(Arc::new(BbrConfig::default()), self.mtu));
            }
        }
        self.delivered.note(now, bytes, round(rtt));
        self.control.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, largest_acked: Option<u64>) {
        self.control.on_end_acks(now, in_flight, app_limited, largest_acked);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, persistent: bool, lost_bytes: u64) {
        self.control.on_congestion_event(now, sent, persistent, lost_bytes);
    }

    fn on_mtu_update(&mut self, mtu: u16) {
        self.mtu = mtu;
        self.control.on_mtu_update(mtu);
    }

    fn window(&self) -> u64 {
        let window = self.control.window();
        if self.far { window.min(self.delivered.limit().max(self.control.initial_window())) } else { window }
    }

    fn metrics(&self) -> ControllerMetrics {
        let mut metrics = self.control.metrics();
        metrics.congestion_window = self.window();
        metrics
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self { control: self.control.clone_box(), ..*self })
    }

    fn initial_window(&self) -> u64 {
        self.control.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND: Duration = Duration::from_millis(40);
    const FIRST_WINDOW: u64 = 20_000;

    /// Lets everything through.
    #[derive(Clone, Copy)]
    struct Careless;

    impl Controller for Careless {
        fn on_congestion_event(&mut self, _: Instant, _: Instant, _: bool, _: u64) {}
        fn on_mtu_update(&mut self, _: u16) {}
        fn window(&self) -> u64 {
            u64::MAX
        }
        fn clone_box(&self) -> Box<dyn Controller> {
            Box::new(*self)
        }
        fn initial_window(&self) -> u64 {
            FIRST_WINDOW
        }
        fn into_any(self: Box<Self>) -> Box<dyn Any> {
            self
        }
    }

    fn far(now: Instant) -> Chosen {
        let delivered = Delivered::new(now);
        Chosen { control: Box::new(Careless), mtu: 1200, known: true, far: true, delivered }
    }

    #[test]
    fn who_sends_little_may_not_send_much_at_once_and_may_soon() {
        let start = Instant::now();
        let mut path = far(start);
        // An hour of keystrokes.
        for second in 0..3600 {
            path.delivered.note(start + Duration::from_secs(second), 100, ROUND);
            assert_eq!(path.window(), FIRST_WINDOW);
        }
        // Then a copy that fills the window in every round trip.
        let copy = start + Duration::from_secs(3600);
        let mut windows = Vec::new();
        for round in 1..=12 {
            let window = path.window();
            path.delivered.note(copy + ROUND * round, window, ROUND);
            windows.push(window);
        }
        assert!(windows.windows(2).all(|pair| matches!(pair, [a, b] if a < b && *b <= 3 * a)), "{windows:?}");
        assert!(windows.last() > Some(&10_000_000), "{windows:?}");
        // What was delivered counts for a while, and no longer.
        let full = path.window();
        path.delivered.note(copy + Duration::from_secs(2), 100, ROUND);
        assert_eq!(path.window(), full);
        path.delivered.note(copy + Duration::from_secs(9), 100, ROUND);
        assert_eq!(path.window(), FIRST_WINDOW);
    }

    #[test]
    fn a_steady_path_is_allowed_twice_what_it_holds_and_a_quarter() {
        let start = Instant::now();
        let mut path = far(start);
        for step in 0..4000 {
            path.delivered.note(start + ROUND / 10 * step, 10_000, ROUND);
        }
        let (window, holds) = (path.window(), 100_000);
        assert!((2 * holds..=3 * holds).contains(&window), "{window}");
    }
}
