//! Programs in namespaces: started with their output in files, awaited with deadlines, ended by process id.

use std::{
    fs::{self, File},
    net::{SocketAddr, TcpStream},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::topology::Ns;

/// How often a condition is looked at again.
const POLL: Duration = Duration::from_millis(20);
/// How long a program may take to end after SIGTERM.
const DRAIN: Duration = Duration::from_secs(15);
/// How much of a log an error message repeats.
const TAIL_LINES: usize = 15;

/// A running program.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; both its outputs go to `<logs>/<name>.log`, appended.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(name: &str, mut command: Command, logs: &Path) -> Result<Self> {
        let log = logs.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// Process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has written so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// It cannot be asked.
    pub fn running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Waits until `done` gives something; an ended program or a passed deadline is an error with its log's end.
    ///
    /// # Errors
    /// See above.
    pub fn wait_until<T>(&mut self, what: &str, limit: Duration, mut done: impl FnMut() -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(found) = done() {
                return Ok(found);
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended ({status}) while waiting for {what}:\n{}", self.name, self.tail());
            }
            if Instant::now() > deadline {
                bail!("{}: no {what} within {limit:?}:\n{}", self.name, self.tail());
            }
            thread::sleep(POLL);
        }
    }

    /// Waits for a line holding `text` in its log.
    ///
    /// # Errors
    /// As [`Self::wait_until`].
    pub fn wait_for_line(&mut self, text: &str, limit: Duration) -> Result<String> {
        let log = self.log.clone();
        self.wait_until(&format!("log line with \"{text}\""), limit, || {
            let written = fs::read(&log).ok()?;
            let written = String::from_utf8_lossy(&written);
            written.lines().find(|line| line.contains(text)).map(str::to_owned)
        })
    }

    /// Waits until something accepts TCP connections at `address` inside `ns`.
    ///
    /// # Errors
    /// As [`Self::wait_until`].
    pub fn wait_for_port(&mut self, ns: &Ns, address: SocketAddr, limit: Duration) -> Result<()> {
        self.wait_until(&format!("listener on {address}"), limit, || {
            let open = ns.enter(move || TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok());
            open.unwrap_or(false).then_some(())
        })
    }

    /// Asks it to end and waits; kills it when it does not.
    ///
    /// # Errors
    /// It had to be killed.
    pub fn stop(mut self) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        let deadline = Instant::now() + DRAIN;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            thread::sleep(POLL);
        }
        bail!("{} did not end within {DRAIN:?} of SIGTERM", self.name)
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// It was gone already.
    pub fn kill(mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} had ended before it was killed ({status}):\n{}", self.name, self.tail());
        }
        self.signal(Signal::SIGKILL)?;
        let status = self.child.wait()?;
        if status.signal() != Some(Signal::SIGKILL as i32) {
            bail!("{} did not die of SIGKILL but ended with {status}", self.name);
        }
        Ok(())
    }

    /// The last lines of its log.
    #[must_use]
    pub fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines.iter().skip(lines.len().saturating_sub(TAIL_LINES)).copied().collect::<Vec<_>>().join("\n")
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).context("process id out of range")?;
        kill(Pid::from_raw(pid), signal).with_context(|| format!("cannot send {signal} to {}", self.name))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            // Nothing is left to be done about a program that will not die.
            let _killed = self.child.kill();
            let _reaped = self.child.wait();
        }
    }
}

/// What a short command gave.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Exit code; 124 when it took too long.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Runs a short command to its end, at most `limit`.
///
/// # Errors
/// It cannot be started.
pub fn run(command: &Command, limit: Duration) -> Result<Ended> {
    let mut timed = Command::new("timeout");
    timed.args(["-k", "2", &format!("{:.1}", limit.as_secs_f64())]).arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => timed.env(key, value),
            None => timed.env_remove(key),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        timed.current_dir(folder);
    }
    let ended = timed.stdin(Stdio::null()).output().with_context(|| format!("cannot start {}", shown(command)))?;
    Ok(Ended {
        code: ended.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&ended.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&ended.stderr).into_owned(),
    })
}

/// Runs a short command (at most 60 s) that must succeed, and gives its standard output.
///
/// # Errors
/// It failed; the message holds what it wrote.
pub fn output(command: &Command) -> Result<String> {
    let ended = run(command, Duration::from_secs(60))?;
    if ended.code != 0 {
        bail!("{} gave {}: {}{}", shown(command), ended.code, ended.stderr, ended.stdout);
    }
    Ok(ended.stdout)
}

/// As [`output`], for a command whose output does not matter.
///
/// # Errors
/// As [`output`].
pub fn succeed(command: &Command) -> Result<()> {
    output(command).map(drop)
}

/// The command line without the wrapping that enters a namespace.
fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let line = words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    line.strip_prefix("setpriv --pdeathsig KILL ip netns exec ").unwrap_or(&line).to_owned()
}
