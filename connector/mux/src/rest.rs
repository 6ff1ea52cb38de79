//! After a rest a long-lived TCP connection asks the line anew how fast it is, as a new connection would.
//!
//! Linux' BBR (v1) starts by doubling its speed each round trip, once; later it goes up by a quarter in eight round
//! trips. A tunnel lives for days and mostly carries little: what BBR has learnt then is how little was asked for, and
//! the next copy crawls (at 40 ms and 1 % loss 0.05 to 0.2 Gbit/s instead of 0.25; docs/performance.md). Changing the
//! algorithm there and back makes BBR start over. Nothing is sent by that, and a line that is in use is left alone.

use std::{io, sync::Weak, time::Duration};

use socket2::SockRef;
use tokio::{net::TcpStream, time::sleep};

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

/// Starts over after every rest, until the socket is gone.
pub(crate) async fn watch(tcp: Weak<TcpStream>, heard: Heard) {
    let mut rest = Rest::default();
    while let Some(tcp) = tcp.upgrade() {
        if !is_bbr(&tcp) {
            return;
        }
        if rest.look(heard.left())
            && let Err(error) = start_over(&tcp)
        {
            tracing::warn!(%error, "a tunnel's congestion control could not be started over");
            return;
        }
        drop(tcp);
        sleep(LOOK).await;
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
}

#[cfg(test)]
mod tests {
    use super::{LITTLE, Rest};

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
