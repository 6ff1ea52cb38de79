//! The process that starts workers.
//!
//! A confined connector may start nothing. So before it confines itself it starts this one, which holds nothing of
//! worth, may run this very program and nothing else, and starts a fresh worker for every socket that it is sent.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    process::{Child, ChildStdout, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};

use tokio::{io::AsyncReadExt, net::unix::pipe};

use super::{Kind, MAX_WORKERS, WALL_SECONDS, Workers};

/// Most processes at a time: the connector holds itself to [`MAX_WORKERS`], and as many may still be ending.
const MAX_PROCESSES: usize = 2 * MAX_WORKERS;
/// How soon a worker's end is seen.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The connector's hold on the process that starts workers. Dropping it ends that process, and its workers with it.
#[derive(Debug)]
pub struct Spawner {
    control: Mutex<UnixStream>,
    id: u32,
}

/// Tells when the process that starts workers has gone: without it there are no scripts and no tickets any more.
#[derive(Debug)]
pub struct Lifeline(ChildStdout);

impl Lifeline {
    /// Returns when the process has gone. Needs a runtime.
    ///
    /// # Errors
    /// When that cannot be watched.
    pub async fn ended(self) -> io::Result<()> {
        let mut end = pipe::Receiver::from_owned_fd(self.0.into())?;
        // It writes nothing there.
        while end.read(&mut [0; 64]).await? > 0 {}
        Ok(())
    }
}

impl Spawner {
    /// Starts it by `command`, which gets the socket as its standard input, and nothing of our environment.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn start(mut command: Command) -> io::Result<(Self, Lifeline)> {
        let (ours, theirs) = UnixStream::pair()?;
        let mut child = command.env_clear().stdin(OwnedFd::from(theirs)).stdout(Stdio::piped()).spawn()?;
        let lifeline = child.stdout.take().ok_or_else(|| io::Error::other("the process has no output"))?;
        Ok((Self { control: Mutex::new(ours), id: child.id() }, Lifeline(lifeline)))
    }
}

impl Spawner {
    /// The process's id.
    #[must_use]
    pub const fn id(&self) -> u32 {
        self.id
    }
}

impl Workers for Spawner {
    fn start(&self, kind: Kind) -> io::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        let byte = [code(kind)];
        let control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        let sockets = [theirs.as_fd()];
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut rights = SendAncillaryBuffer::new(&mut room);
        if !rights.push(SendAncillaryMessage::ScmRights(&sockets)) {
            return Err(io::Error::other("no room for a socket"));
        }
        sendmsg(&*control, &[IoSlice::new(&byte)], &mut rights, SendFlags::NOSIGNAL).map_err(|error| {
            io::Error::other(format!("the process that starts workers has gone ({error}); restart"))
        })?;
        Ok(ours)
    }
}

/// Takes sockets from `control` and starts a worker on each by `start`, until the connector has gone. A worker that
/// lives for longer than it may is killed: its own alarm is a signal that it could ignore.
///
/// # Errors
/// When the socket breaks.
pub fn serve_spawner(control: &UnixStream, start: impl Fn(Kind, OwnedFd) -> io::Result<Child>) -> io::Result<()> {
    serve(control, start, Duration::from_secs(WALL_SECONDS.into()))
}

fn serve(control: &UnixStream, start: impl Fn(Kind, OwnedFd) -> io::Result<Child>, life: Duration) -> io::Result<()> {
    let running = Arc::new(AtomicUsize::new(0));
    while let Some((kind, socket)) = receive(control)? {
        if running.load(Ordering::SeqCst) >= MAX_PROCESSES {
            // The connector sees its end close.
            continue;
        }
        let started = start(kind, socket).and_then(|child| watch(child, &running, life));
        if let Err(error) = started {
            tracing::warn!(%error, "a worker cannot be started");
        }
    }
    Ok(())
}

/// Waits for a worker on a thread of its own. Without one there is no worker.
fn watch(child: Child, running: &Arc<AtomicUsize>, life: Duration) -> io::Result<()> {
    let child = Arc::new(Mutex::new(child));
    running.fetch_add(1, Ordering::SeqCst);
    let (worker, count) = (child.clone(), running.clone());
    let watching = thread::Builder::new().spawn(move || {
        if let Err(error) = wait_for(&mut worker.lock().unwrap_or_else(PoisonError::into_inner), life) {
            tracing::warn!(%error, "a worker's end was not seen");
        }
        count.fetch_sub(1, Ordering::SeqCst);
    });
    watching.map(drop).inspect_err(|_| {
        running.fetch_sub(1, Ordering::SeqCst);
        let mut worker = child.lock().unwrap_or_else(PoisonError::into_inner);
        drop(worker.kill().and_then(|()| worker.wait()));
    })
}

fn wait_for(child: &mut Child, life: Duration) -> io::Result<()> {
    let end = Instant::now() + life;
    while child.try_wait()?.is_none() {
        if Instant::now() >= end {
            child.kill()?;
            child.wait()?;
            return Ok(());
        }
        thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

/// The next order; `None` when the connector has gone.
fn receive(control: &UnixStream) -> io::Result<Option<(Kind, OwnedFd)>> {
    loop {
        let mut byte = [0_u8; 1];
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut rights = RecvAncillaryBuffer::new(&mut room);
        let got = recvmsg(control, &mut [IoSliceMut::new(&mut byte)], &mut rights, RecvFlags::CMSG_CLOEXEC)?;
        let sockets = rights.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(sockets) => Some(sockets),
            _ => None,
        });
        let socket: Option<OwnedFd> = sockets.flatten().last();
        if got.bytes == 0 {
            return Ok(None);
        }
        let [order] = byte;
        let kind = [Kind::Pac, Kind::Login].into_iter().find(|kind| code(*kind) == order);
        if let (Some(kind), Some(socket)) = (kind, socket) {
            return Ok(Some((kind, socket)));
        }
    }
}

const fn code(kind: Kind) -> u8 {
    match kind {
        Kind::Pac => b'p',
        Kind::Login => b'l',
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

    use std::io::Read;

    use super::*;

    #[test]
    fn c3_a_worker_that_shrugs_off_its_alarm_is_killed() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let stubborn = |_, socket: OwnedFd| {
            let mut shell = Command::new("/bin/sh");
            shell.args(["-c", "trap '' ALRM TERM INT; while :; do sleep 1; done"]).stdin(socket).spawn()
        };
        let serving = thread::spawn(move || serve(&theirs, stubborn, Duration::from_millis(300)));
        let spawner = Spawner { control: Mutex::new(ours), id: 0 };
        let mut worker = spawner.start(Kind::Pac).unwrap();
        worker.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        assert_eq!(worker.read(&mut [0]).unwrap(), 0, "its end of the socket is closed");
        drop(spawner);
        serving.join().unwrap().unwrap();
    }

    #[tokio::test]
    async fn c3_the_end_of_the_process_that_starts_workers_is_seen() {
        let (spawner, lifeline) = Spawner::start(Command::new("/bin/cat")).unwrap();
        // Dropped, it reads the end of its input.
        drop(spawner);
        tokio::time::timeout(Duration::from_secs(20), lifeline.ended()).await.expect("seen in time").unwrap();
    }
}
