//! After a rest a long-lived TCP connection asks the line anew how fast it is, as a new connection would.
//!
//! Linux' BBR (v1) starts by doubling its speed each round trip, once; later it goes up by a quarter in eight round
//! trips. A tunnel lives for days and mostly carries little: what BBR has learnt then is how little was asked for, and
//! the next copy crawls (at 40 ms and 1 % loss 0.05 to 0.2 Gbit/s instead of 0.25; docs/performance.md). Changing the
//! algorithm there and back makes BBR start over. Nothing is sent by that, and a line that is in use is left alone.

use std::{
    io,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use socket2::SockRef;
use tokio::{net::TcpStream, sync::Notify, time::sleep};

use crate::Heard;

/// How often to look.
const LOOK: Duration = Duration::from_millis(250);
/// Bytes between two looks up to which the connection rests: 2 Mbit/s.
const LITTLE: u64 = 64 * 1024;
/// Looks in a row at which it rested, before it starts over.
const LOOKS: u8 = 2;

/// The algorithm that needs it.
const BBR: &[u8] = b"bbr";
/// One that every kernel has and lets everybody use.
const ANY_OTHER: &[u8] = b"reno";

/// Tells when a connection that rests is used again, so that nobody has to look at it meanwhile.
#[derive(Debug)]
pub(crate) struct Alarm {
    at: AtomicU64,
    used: Notify,
}

impl Default for Alarm {
    fn default() -> Self {
        Self { at: AtomicU64::new(u64::MAX), used: Notify::new() }
    }
}

impl Alarm {
    /// So many bytes have been written in all.
    pub(crate) fn written(&self, bytes: u64) {
        if bytes >= self.at.load(Relaxed) {
            self.at.store(u64::MAX, Relaxed);
            self.used.notify_one();
        }
    }

    /// Returns when more than a little was written beyond what `written` gives now.
    async fn used(&self, written: impl Fn() -> u64) {
        let at = written().saturating_add(LITTLE);
        self.at.store(at, Relaxed);
        // Written before the alarm was set, it would ring for nobody.
        if written() < at {
            self.used.notified().await;
        }
    }
}

/// Starts over after every rest, for as long as it is polled and the socket lives. A connection that has not been used
/// yet, or rests, is not looked at.
pub(crate) async fn watch(tcp: Weak<TcpStream>, heard: Heard, alarm: Arc<Alarm>) {
    let mut rest = Rest::default();
    loop {
        alarm.used(|| heard.written()).await;
        rest.look_again(heard.left());
        sleep(LOOK).await;
        loop {
            let Some(tcp) = tcp.upgrade().filter(|tcp| is_bbr(tcp)) else { return };
            if rest.look(heard.left())
                && let Err(error) = start_over(&tcp)
            {
                tracing::warn!(%error, "a tunnel's congestion control could not be started over");
                return;
            }
            drop(tcp);
            if rest.lasts() {
                break;
            }
            sleep(LOOK).await;
        }
    }
}

fn is_bbr(tcp: &TcpStream) -> bool {
    SockRef::from(tcp).tcp_congestion().is_ok_and(|name| name.split(|byte| *byte == 0).next() == Some(BBR))
}

fn start_over(tcp: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(tcp);
    socket.set_tcp_congestion(ANY_OTHER)?;
    socket.set_tcp_congestion(BBR)
}

/// Tells a rest from use; each rest once.
#[derive(Debug, Default)]
struct Rest {
    before: u64,
    little: u8,
}

impl Rest {
    /// `left` bytes have left so far; true when a rest has lasted long enough.
    const fn look(&mut self, left: u64) -> bool {
        let rests = left.saturating_sub(self.before) <= LITTLE;
        self.before = left;
        self.little = if rests { self.little.saturating_add(1) } else { 0 };
        self.little == LOOKS
    }

    /// Nobody has looked for a while: what left meanwhile, slowly or not, says nothing of now.
    const fn look_again(&mut self, left: u64) {
        self.before = left;
    }

    /// It has begun, and no use was seen since.
    const fn lasts(&self) -> bool {
        self.little >= LOOKS
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use std::time::Duration;

    use tokio::time::timeout;

    use super::{Alarm, LITTLE, Rest};

    #[tokio::test]
    async fn a_connection_is_looked_at_when_it_is_used_and_not_for_pings() {
        let alarm = Alarm::default();
        alarm.written(u64::MAX - 1);
        for begin in [0, 1000] {
            let ping = async { alarm.written(begin + LITTLE - 1) };
            let (still, ()) = tokio::join!(timeout(Duration::from_millis(50), alarm.used(|| begin)), ping);
            assert!(still.is_err(), "a ping is no use");
            let copy = async { alarm.written(begin + LITTLE) };
            let (used, ()) = tokio::join!(timeout(Duration::from_secs(20), alarm.used(|| begin)), copy);
            used.expect("it is used");
        }
        let bytes = std::cell::Cell::new(0);
        let rushed = alarm.used(|| bytes.replace(LITTLE));
        timeout(Duration::from_secs(20), rushed).await.expect("used before the alarm was set");
    }

    #[test]
    fn a_trickle_is_one_rest_however_often_it_is_looked_at() {
        let (mut rest, mut left) = (Rest::default(), 0);
        assert!(!rest.look(left) && rest.look(left));
        for _ in 0..100 {
            // More than a little, over a long time; then a little.
            left += 2 * LITTLE;
            rest.look_again(left);
            left += LITTLE / 2;
            assert!(!rest.look(left) && rest.lasts());
        }
        rest.look_again(left);
        assert!(!rest.look(left + 2 * LITTLE) && !rest.lasts(), "a copy is use");
        assert!(!rest.look(left + 2 * LITTLE) && rest.look(left + 2 * LITTLE), "and its end a new rest");
    }

    #[test]
    fn each_rest_starts_over_once_and_use_never() {
        let mut rest = Rest::default();
        assert_eq!([0, 10, 20, 30].map(|left| rest.look(left)), [false, true, false, false]);
        let busy = [1, 2, 3, 4].map(|round| rest.look(30 + round * (LITTLE + 1)));
        assert_eq!(busy, [false; 4]);
        let left = 30 + 4 * (LITTLE + 1);
        assert_eq!([left, left + LITTLE, left + LITTLE].map(|left| rest.look(left)), [false, true, false]);
    }

    #[test]
    fn a_rest_of_days_still_starts_over_only_once() {
        let mut rest = Rest::default();
        assert_eq!((0..100_000).filter(|_| rest.look(0)).count(), 1);
    }
}
