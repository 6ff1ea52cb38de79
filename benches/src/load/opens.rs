//! How fast connections open: each is made, proved by one byte there and back, and closed.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Serialize};

use super::proved;
use crate::stats::percentile;

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Opens {
    /// Connections proved.
    pub opened: u64,
    /// Connections that could not be.
    pub failed: u64,
    /// Proved connections per second.
    pub per_second: f64,
    /// From the first packet to the byte that came back, in microseconds: half of them took no longer.
    pub p50_us: u64,
    /// 99 of 100 took no longer.
    pub p99_us: u64,
}

/// Opens for `seconds` on `workers` threads, each one after the other.
///
/// # Errors
/// None opened at all.
pub fn run(to: SocketAddr, workers: usize, seconds: f64) -> Result<Opens> {
    let began = Instant::now();
    let end = began + Duration::from_secs_f64(seconds);
    let workers: Vec<_> = (0..workers).map(|_| thread::spawn(move || work(to, end))).collect();
    let (mut took, mut failed) = (Vec::new(), 0);
    for worker in workers {
        let (times, misses) = worker.join().map_err(|_| anyhow!("a worker panicked"))?;
        took.extend(times);
        failed += misses;
    }
    let elapsed = began.elapsed().as_secs_f64();
    took.sort_unstable();
    let opened = took.len() as u64;
    let of = |share| percentile(&took, share).context("no connection opened");
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let per_second = opened as f64 / elapsed;
    Ok(Opens { opened, failed, per_second, p50_us: of(0.5)?, p99_us: of(0.99)? })
}

fn work(to: SocketAddr, end: Instant) -> (Vec<u64>, u64) {
    let (mut took, mut failed) = (Vec::new(), 0);
    while Instant::now() < end {
        let began = Instant::now();
        match proved(to) {
            Ok(_) => took.push(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX)),
            Err(_) => {
                failed += 1;
                // A refusal is quick; without a pause it would be asked for a million times.
                thread::sleep(Duration::from_millis(1));
            }
        }
    }
    (took, failed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::run;
    use crate::load::echo;

    #[test]
    fn opened_connections_are_counted_and_refused_ones_are_not() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(run(free, 1, 0.05).is_err());
        runtime.spawn(echo::serve(free));
        while std::net::TcpStream::connect(free).is_err() {}
        let opens = run(free, 2, 0.2).unwrap();
        assert!(opens.opened > 0 && opens.failed == 0, "{opens:?}");
        assert!(opens.p50_us <= opens.p99_us);
    }
}
