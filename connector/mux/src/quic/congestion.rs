//! Which congestion control a path gets: CUBIC near by, BBR far away.
//!
//! quinn's CUBIC is the faster of the two where a round trip takes microseconds, but takes every lost packet for a
//! full line: at 40 ms and 1 % loss it leaves 5 Mbit/s where BBR carries 370 (docs/performance.md). What kind of path
//! it is shows with the first acknowledgements, those of the handshake. A connection that moves to another path gets
//! a new controller from quinn and so decides anew.

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

/// Makes the controller of a path.
#[derive(Debug, Default)]
pub(super) struct ByDistance;

impl ControllerFactory for ByDistance {
    fn build(self: Arc<Self>, now: Instant, mtu: u16) -> Box<dyn Controller> {
        Box::new(Chosen {
            control: Box::new(Cubic::new(Arc::new(CubicConfig::default()), now, mtu)),
            mtu,
            known: false,
        })
    }
}

/// CUBIC, until the first acknowledgement says otherwise.
struct Chosen {
    control: Box<dyn Controller>,
    mtu: u16,
    /// Whether the path's length has been seen.
    known: bool,
}

impl Controller for Chosen {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet: u64) {
        self.control.on_sent(now, bytes, last_packet);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        // quinn measures a packet's round trip after it has told us of the acknowledgement.
        if !self.known && rtt.get() != FIRST_RTT {
            self.known = true;
            if rtt.min() >= FAR {
                self.control = Box::new(Bbr::new(Arc::new(BbrConfig::default()), self.mtu));
            }
        }
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
        self.control.window()
    }

    fn metrics(&self) -> ControllerMetrics {
        self.control.metrics()
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
