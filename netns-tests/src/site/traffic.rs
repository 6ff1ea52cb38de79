//! What users do while things happen to tunnels: a long download, and a small page again and again.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use crate::{process::run, topology::Ns};

pub(super) const SMALL: &str = "https://files.acme.test/small";
const BIG: &str = "https://files.acme.test/big";
/// Time between two requests of a [`Pulse`].
const BEAT: Duration = Duration::from_millis(50);
/// Longest that one of them may take.
const REQUEST_SECONDS: u32 = 15;
/// Most requests of one pulse under way.
const UNDER_WAY: usize = 64;

/// curl's exit code for an address where nobody listens.
const NO_CONNECTION: u8 = 7;

static COUNT: AtomicU32 = AtomicU32::new(0);

fn curl(ns: &Ns, jar: &Path, root: &Path) -> Command {
    let mut curl = ns.command("curl");
    curl.args(["-sS", "--http1.1", "--cacert"]).arg(root).arg("-b").arg(jar);
    curl
}

/// A long download.
#[derive(Debug)]
pub struct Fetch {
    child: Child,
    to: PathBuf,
}

impl Fetch {
    pub(super) fn start(ns: &Ns, jar: &Path, root: &Path, folder: &Path, size: usize, seconds: u32) -> Result<Self> {
        let to = folder.join(format!("fetched-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        let rate = (size / seconds.max(1) as usize).to_string();
        let mut curl = curl(ns, jar, root);
        curl.args(["-f", "-m", &(seconds * 5).to_string(), "--limit-rate", &rate, "-o"]).arg(&to).arg(BIG);
        let child = curl.stdin(Stdio::null()).stdout(Stdio::null()).spawn().context("cannot start curl")?;
        Ok(Self { child, to })
    }

    /// Bytes that have arrived.
    #[must_use]
    pub fn arrived(&self) -> u64 {
        std::fs::metadata(&self.to).map_or(0, |found| found.len())
    }

    /// Waits until more than `bytes` have arrived.
    ///
    /// # Errors
    /// It ended before, or did not get there within a minute.
    pub fn wait_beyond(&mut self, bytes: u64) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.arrived() <= bytes {
            ensure!(self.child.try_wait()?.is_none(), "the download ended at {} bytes", self.arrived());
            ensure!(Instant::now() < deadline, "the download stands at {} bytes", self.arrived());
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Waits for its end: whether the whole file came, byte for byte.
    ///
    /// # Errors
    /// The files cannot be read.
    pub fn is_whole(mut self, original: &Path) -> Result<bool> {
        let status = self.child.wait()?;
        Ok(status.success() && std::fs::read(&self.to)? == std::fs::read(original)?)
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        // Ended already is as good.
        let _killed = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// One request of a [`Pulse`].
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// When it was made, since the pulse began.
    pub at: Duration,
    /// How long it took.
    pub took: Duration,
    /// HTTP status; 0 when there was no answer.
    pub status: u16,
    /// curl's exit code.
    pub exit: u8,
}

impl Outcome {
    /// There was no connection: nothing was asked.
    #[must_use]
    pub const fn refused(&self) -> bool {
        self.exit == NO_CONNECTION
    }
}

/// A user who asks for the small page every 50 ms.
#[derive(Debug)]
pub struct Pulse {
    began: Instant,
    stop: Arc<AtomicBool>,
    beating: JoinHandle<Vec<Outcome>>,
}

impl Pulse {
    pub(super) fn start(ns: &Ns, jar: &Path, root: &Path) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (began, stopped) = (Instant::now(), Arc::clone(&stop));
        let (ns, jar, root) = (ns.clone(), jar.to_owned(), root.to_owned());
        let beat = move || {
            let mut under_way: Vec<JoinHandle<Outcome>> = Vec::new();
            let mut done = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let (ended, left): (Vec<_>, Vec<_>) = under_way.into_iter().partition(JoinHandle::is_finished);
                done.extend(ended.into_iter().filter_map(|request| request.join().ok()));
                under_way = left;
                if under_way.len() < UNDER_WAY {
                    let (ns, jar, root) = (ns.clone(), jar.clone(), root.clone());
                    under_way.push(thread::spawn(move || ask(&ns, &jar, &root, began)));
                }
                thread::sleep(BEAT);
            }
            done.extend(under_way.into_iter().filter_map(|request| request.join().ok()));
            done.sort_by_key(|outcome: &Outcome| outcome.at);
            done
        };
        let beating = thread::Builder::new().name("pulse".to_owned()).spawn(beat).context("cannot start a thread")?;
        Ok(Self { began, stop, beating })
    }

    /// Time since it began, to compare with [`Outcome::at`].
    #[must_use]
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Ends it and gives every request's outcome, in order.
    ///
    /// # Errors
    /// It panicked.
    pub fn end(self) -> Result<Vec<Outcome>> {
        self.stop.store(true, Ordering::Relaxed);
        self.beating.join().ok().context("the pulse panicked")
    }
}

fn ask(ns: &Ns, jar: &Path, root: &Path, began: Instant) -> Outcome {
    let at = began.elapsed();
    let mut curl = curl(ns, jar, root);
    let limit = REQUEST_SECONDS.to_string();
    curl.args(["-m", &limit, "-o", "/dev/null", "-w", "%{http_code} %{exitcode}", SMALL]);
    let ended = run(&curl, Duration::from_secs(u64::from(REQUEST_SECONDS) + 5));
    let told = ended.ok().map(|ended| ended.stdout).unwrap_or_default();
    let (status, exit) = told.trim().split_once(' ').unwrap_or_default();
    let (status, exit) = (status.parse().unwrap_or(0), exit.parse().unwrap_or(u8::MAX));
    Outcome { at, took: began.elapsed().saturating_sub(at), status, exit }
}
