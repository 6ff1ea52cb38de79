//! Small requests at a fixed rate, whether answers come or not.
//!
//! Every request has its time, and its answer is measured from that time and not from when it could be sent: a
//! tunnel that stalls is charged for every request that had to wait (no coordinated omission).

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    os::fd::AsFd,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use nix::{
    poll::{PollFd, PollFlags, ppoll},
    sys::{prctl, time::TimeSpec},
};
use serde::{Deserialize, Serialize};

use super::proved;
use crate::stats::percentile;

/// How long answers are waited for after the last request.
const GRACE: Duration = Duration::from_secs(2);

/// What to send.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Where.
    pub to: SocketAddr,
    /// Requests per second, all connections together.
    pub rate: u32,
    /// Bytes of a request and of its answer; at least 8.
    pub size: usize,
    /// Seconds of requests.
    pub seconds: f64,
    /// Connections, taken in turn.
    pub connections: usize,
}

/// What came of it. Times are in microseconds from the time a request was due; one without an answer counts as having
/// taken until the end.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answers {
    /// Requests that were due.
    pub due: u64,
    /// Requests without an answer in time.
    pub unanswered: u64,
    /// Half of the answers came within this.
    pub p50_us: u64,
    /// 99 of 100.
    pub p99_us: u64,
    /// 999 of 1,000.
    pub p999_us: u64,
}

/// Runs the plan.
///
/// # Errors
/// A connection cannot be opened or breaks, or an answer is not what was sent.
pub fn run(plan: &Plan) -> Result<Answers> {
    ensure!(plan.size >= 8 && plan.connections > 0 && plan.rate > 0, "nothing to send");
    // Otherwise the kernel may wake us up to 50 µs late.
    let _rougher = prctl::set_timerslack(1000);
    let mut maker = Maker::new(lanes(plan)?, plan);
    maker.run()?;
    Ok(maker.answers())
}

/// Every connection, opened side by side: on a long line one after the other would take longer than the plan.
fn lanes(plan: &Plan) -> Result<Vec<Lane>> {
    let open = |_| {
        let plan = *plan;
        thread::spawn(move || Lane::open(&plan))
    };
    let opening: Vec<_> = (0..plan.connections).map(open).collect();
    opening.into_iter().map(|lane| lane.join().map_err(|_| anyhow!("opening a connection panicked"))?).collect()
}

/// The one thread that sends and receives.
struct Maker {
    lanes: Vec<Lane>,
    interval: Duration,
    due: u64,
    began: Instant,
    /// Requests sent or waiting to be.
    asked: u64,
    took: Vec<u64>,
}

impl Maker {
    fn new(lanes: Vec<Lane>, plan: &Plan) -> Self {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few thousand a second")]
        let due = (f64::from(plan.rate) * plan.seconds) as u64;
        let interval = Duration::from_secs(1) / plan.rate;
        Self { lanes, interval, due, began: Instant::now(), asked: 0, took: Vec::new() }
    }

    fn run(&mut self) -> Result<()> {
        self.began = Instant::now();
        let end = self.time_of(self.due) + GRACE;
        while (self.took.len() as u64) < self.due {
            let now = self.began.elapsed();
            if now >= end {
                break;
            }
            while self.asked < self.due && self.time_of(self.asked) <= now {
                self.ask()?;
            }
            let until = if self.asked < self.due { self.time_of(self.asked) } else { end };
            self.wait(until)?;
        }
        Ok(())
    }

    fn time_of(&self, number: u64) -> Duration {
        let nanos = self.interval.as_nanos() * u128::from(number);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    fn ask(&mut self) -> Result<()> {
        let number = self.asked;
        self.asked += 1;
        let count = self.lanes.len() as u64;
        let lane = usize::try_from(number % count).ok().and_then(|at| self.lanes.get_mut(at));
        lane.context("no connection")?.ask(number)
    }

    /// Takes answers until the time comes.
    fn wait(&mut self, until: Duration) -> Result<()> {
        let wait = TimeSpec::from_duration(until.saturating_sub(self.began.elapsed()));
        let mut watched: Vec<PollFd<'_>> = self.lanes.iter().map(Lane::watched).collect();
        match ppoll(&mut watched, Some(wait), None) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => return Ok(()),
            Err(error) => return Err(error).context("waiting for answers"),
            Ok(_) => {}
        }
        let ready: Vec<bool> = watched.iter().map(|fd| fd.any().unwrap_or(false)).collect();
        let (interval, began) = (self.interval, self.began);
        for (lane, _) in self.lanes.iter_mut().zip(ready).filter(|(_, ready)| *ready) {
            lane.send()?;
            lane.receive(|number| {
                let due = interval.as_nanos() * u128::from(number);
                let took = began.elapsed().as_nanos().saturating_sub(due) / 1000;
                self.took.push(u64::try_from(took).unwrap_or(u64::MAX));
            })?;
        }
        Ok(())
    }

    fn answers(mut self) -> Answers {
        let unanswered = self.due - self.took.len() as u64;
        let end = self.began.elapsed();
        for number in 0..unanswered {
            // Which ones are missing does not matter to percentiles as long as they count as long.
            let waited = end.saturating_sub(self.time_of(number)).max(GRACE);
            self.took.push(u64::try_from(waited.as_micros()).unwrap_or(u64::MAX));
        }
        self.took.sort_unstable();
        let of = |share| percentile(&self.took, share).unwrap_or(u64::MAX);
        Answers { due: self.due, unanswered, p50_us: of(0.5), p99_us: of(0.99), p999_us: of(0.999) }
    }
}

/// One connection. Answers come in the order of requests.
struct Lane {
    tcp: TcpStream,
    size: usize,
    /// Bytes that the kernel has not taken yet.
    unsent: Vec<u8>,
    /// Bytes of answers that are not whole yet.
    got: Vec<u8>,
}

impl Lane {
    fn open(plan: &Plan) -> Result<Self> {
        let tcp = proved(plan.to).with_context(|| format!("opening a connection to {}", plan.to))?;
        tcp.set_nonblocking(true)?;
        Ok(Self { tcp, size: plan.size, unsent: Vec::new(), got: Vec::new() })
    }

    fn watched(&self) -> PollFd<'_> {
        let writing = if self.unsent.is_empty() { PollFlags::empty() } else { PollFlags::POLLOUT };
        PollFd::new(self.tcp.as_fd(), PollFlags::POLLIN | writing)
    }

    fn ask(&mut self, number: u64) -> Result<()> {
        let start = self.unsent.len();
        self.unsent.extend_from_slice(&number.to_be_bytes());
        self.unsent.resize(start + self.size, 0x5a);
        self.send()
    }

    fn send(&mut self) -> Result<()> {
        while !self.unsent.is_empty() {
            match self.tcp.write(&self.unsent) {
                Ok(sent) => drop(self.unsent.drain(..sent)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context("sending a request"),
            }
        }
        Ok(())
    }

    fn receive(&mut self, mut answered: impl FnMut(u64)) -> Result<()> {
        let mut buffer = [0; 16 * 1024];
        loop {
            match self.tcp.read(&mut buffer) {
                Ok(0) => anyhow::bail!("the connection ended"),
                Ok(read) => self.got.extend_from_slice(buffer.get(..read).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context("receiving an answer"),
            }
        }
        let whole = self.got.len() / self.size * self.size;
        for answer in self.got.drain(..whole).collect::<Vec<_>>().chunks_exact(self.size) {
            let (number, rest) = answer.split_first_chunk().context("an answer without a number")?;
            ensure!(rest.iter().all(|byte| *byte == 0x5a), "an answer is not what was sent");
            answered(u64::from_be_bytes(*number));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::{
        io::{Read, Write},
        net::TcpListener,
        thread,
        time::Duration,
    };

    use super::{Plan, run};

    /// Sends back what it gets, but sleeps once after the first requests.
    fn stalling(pause: Duration) -> Plan {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut tcp, _) = listener.accept().unwrap();
            let (mut buffer, mut stalled) = ([0; 4096], false);
            while let Ok(read @ 1..) = tcp.read(&mut buffer) {
                if read > 1 && !stalled {
                    thread::sleep(pause);
                    stalled = true;
                }
                tcp.write_all(&buffer[..read]).unwrap();
            }
        });
        Plan { to, rate: 1000, size: 64, seconds: 0.5, connections: 1 }
    }

    #[test]
    fn one_stall_is_charged_to_every_request_that_was_due_meanwhile() {
        let answers = run(&stalling(Duration::from_millis(300))).unwrap();
        assert_eq!((answers.due, answers.unanswered), (500, 0));
        // A maker that waits for answers would have charged one request of 500, and its median would be tiny.
        assert!(answers.p50_us > 20_000, "{answers:?}");
        assert!(answers.p99_us >= 250_000, "{answers:?}");
    }

    #[test]
    fn requests_without_an_answer_count_as_the_longest() {
        let answers = run(&stalling(Duration::from_secs(8))).unwrap();
        assert_eq!(answers.unanswered, 500);
        assert!(answers.p50_us >= 2_000_000, "{answers:?}");
    }
}
