//! Is the other end of a connection still there?
//!
//! A ping each second, dead at three seconds of silence. Any byte received breaks the silence, and while bytes of ours
//! still leave (are acknowledged below us) the clock does not run: a full slow line is not a dead one. Pings alone are
//! no such bytes: a proxy, or the kernel of a peer that hangs, acknowledges them.

use std::{collections::VecDeque, time::Duration};

use thiserror::Error;

/// How often to look: the most by which a death may be noticed late, so it is taken off the allowed silence.
pub const TICK: Duration = Duration::from_millis(250);
const PING_EVERY: Duration = Duration::from_secs(1);
const SILENCE: Duration = Duration::from_secs(3);
/// Bytes of ours that must leave to count as life: more than the pings of [`SILENCE`] make, TLS and framing included.
const MOVING: u64 = 2048;
/// Pings whose answers are awaited; more cannot be within [`SILENCE`].
const AWAITED: usize = 8;

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pulse {
    /// Nothing.
    Quiet,
    /// Send a ping with this number.
    Ping(u64),
    /// The other end has gone.
    Dead,
}

/// A pong for a ping that was never sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the gateway answered ping {0}, which was not sent")]
pub struct UnknownPing(pub u64);

/// One connection's.
#[derive(Clone, Debug)]
pub struct Liveness {
    tick: Duration,
    looked: Duration,
    received: u64,
    /// Up to where bytes that left have counted.
    left: u64,
    silent: Duration,
    ping_at: Duration,
    sent: u64,
    awaited: VecDeque<(u64, Duration)>,
    rtt: Option<Duration>,
}

impl Liveness {
    /// A connection that has just been heard; the first ping is due at once.
    #[must_use]
    pub const fn new(now: Duration) -> Self {
        Self {
            tick: TICK,
            looked: now,
            received: 0,
            left: 0,
            silent: Duration::ZERO,
            ping_at: now,
            sent: 0,
            awaited: VecDeque::new(),
            rtt: None,
        }
    }

    /// For a shell that looks every `tick` instead of every [`TICK`]; one that has many connections saves work by it.
    #[must_use]
    pub fn looking_every(self, tick: Duration) -> Self {
        Self { tick, ..self }
    }

    /// Looks again. `received` and `left` count all bytes of the connection's life: those that came, and those of ours
    /// that are known to have gone out.
    pub fn look(&mut self, received: u64, left: u64, now: Duration) -> Pulse {
        // A shell that slept (a stopped process, a suspended machine) has not listened: only time it watched counts.
        let watched = now.saturating_sub(self.looked).min(self.tick * 2);
        self.looked = now;
        if received != self.received || left >= self.left.saturating_add(MOVING) {
            (self.received, self.left, self.silent) = (received, left, Duration::ZERO);
        } else {
            self.silent += watched;
        }
        if self.silent + self.tick >= SILENCE {
            return Pulse::Dead;
        }
        if now < self.ping_at {
            return Pulse::Quiet;
        }
        self.ping_at = now + PING_EVERY;
        self.sent += 1;
        if self.awaited.len() == AWAITED {
            self.awaited.pop_front();
        }
        self.awaited.push_back((self.sent, now));
        Pulse::Ping(self.sent)
    }

    /// A pong has come.
    ///
    /// # Errors
    /// [`UnknownPing`]; the connection should be closed.
    pub fn pong(&mut self, number: u64, now: Duration) -> Result<(), UnknownPing> {
        if number == 0 || number > self.sent {
            return Err(UnknownPing(number));
        }
        let Some(at) = self.awaited.iter().position(|(awaited, _)| *awaited == number) else { return Ok(()) };
        if let Some((_, sent)) = self.awaited.drain(..=at).next_back() {
            let sample = now.saturating_sub(sent);
            // As TCP does it (RFC 6298 §2.3).
            self.rtt = Some(self.rtt.map_or(sample, |rtt| rtt - rtt / 8 + sample / 8));
        }
        Ok(())
    }

    /// Smoothed round-trip time, once there was an answer.
    #[must_use]
    pub const fn rtt(&self) -> Option<Duration> {
        self.rtt
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// Looks every tick from `from` until dead, with these counters; gives when.
    fn death(liveness: &mut Liveness, from: u64, received: u64, left: impl Fn(u64) -> u64) -> Option<u64> {
        (from..from + 60_000).step_by(250).find(|at| liveness.look(received, left(*at), ms(*at)) == Pulse::Dead)
    }

    #[test]
    fn c2_whoever_looks_less_often_sees_a_death_in_three_seconds_too() {
        let tick = ms(500);
        for begin in [0, 1, 250, 499] {
            let mut liveness = Liveness::new(ms(0)).looking_every(tick);
            let last = 10_000 + begin;
            let died =
                (0..60_000_u64).step_by(500).find(|at| liveness.look(last.min(*at) + 1, 0, ms(*at)) == Pulse::Dead);
            let silence = died.unwrap() - last;
            assert!((2_500..=3_000).contains(&silence), "{begin}: {silence}");
        }
    }

    #[test]
    fn c2_silence_of_three_seconds_is_death_and_not_a_tick_later() {
        for heard in [1_u64, 120, 249, 250] {
            let mut liveness = Liveness::new(ms(0));
            assert_eq!(liveness.look(0, 0, ms(0)), Pulse::Ping(1));
            // The last byte came at `heard` and is seen at the next look.
            let death = death(&mut liveness, 250, 1, |_| 0).expect("dies");
            assert!((heard + 2_500..=heard + 3_000).contains(&death), "heard {heard}, dead {death}");
        }
    }

    #[test]
    fn bytes_that_still_leave_keep_a_full_line_alive() {
        let mut liveness = Liveness::new(ms(0));
        let until = 20_000;
        // 24 kbit/s.
        let death = death(&mut liveness, 250, 1, |at| at.min(until) * 3).expect("dies in the end");
        assert!((until + 2_000..=until + 3_000).contains(&death), "{death}");
    }

    #[test]
    fn c2_pings_that_a_proxy_acknowledges_do_not_keep_a_dead_gateway_alive() {
        let mut liveness = Liveness::new(ms(0));
        // 200 bytes a second, as pings are.
        liveness.look(1, 0, ms(250));
        let death = death(&mut liveness, 500, 1, |at| at / 1_000 * 200).expect("dies");
        assert!((2_750..=3_250).contains(&death), "{death}");
    }

    #[test]
    fn a_process_that_slept_does_not_take_its_peer_for_dead() {
        let mut liveness = Liveness::new(ms(0));
        liveness.look(1, 1, ms(250));
        assert_ne!(liveness.look(1, 1, ms(3_600_000)), Pulse::Dead);
        assert_ne!(liveness.look(2, 1, ms(3_600_250)), Pulse::Dead);
    }

    #[test]
    fn pings_go_every_second_and_answers_are_measured() {
        let mut liveness = Liveness::new(ms(0));
        let pings: Vec<u64> = (0..5_000)
            .step_by(250)
            .filter_map(|at| match liveness.look(at, 0, ms(at)) {
                Pulse::Ping(number) => Some((number, liveness.pong(number, ms(at + 40))).0),
                _ => None,
            })
            .collect();
        assert_eq!(pings, [1, 2, 3, 4, 5]);
        assert_eq!(liveness.rtt(), Some(ms(40)));
        assert_eq!(liveness.pong(6, ms(6_000)), Err(UnknownPing(6)));
        assert_eq!(liveness.pong(0, ms(6_000)), Err(UnknownPing(0)));
        assert_eq!(liveness.pong(2, ms(6_000)), Ok(()), "late or twice is no fault");
        assert_eq!(liveness.rtt(), Some(ms(40)));
    }
}
