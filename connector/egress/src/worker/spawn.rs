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
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};

use super::{Kind, MAX_WORKERS, Workers};

/// Most processes at a time: the connector holds itself to [`MAX_WORKERS`], and as many may still be ending.
const MAX_PROCESSES: usize = 2 * MAX_WORKERS;

/// The connector's hold on the process that starts workers. Dropping it ends that process, and its workers with it.
#[derive(Debug)]
pub struct Spawner {
    control: Mutex<UnixStream>,
    child: Child,
}

impl Spawner {
    /// Starts it by `command`, which gets the socket as its standard input, and nothing of our environment.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn start(mut command: Command) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let child = command.env_clear().stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).spawn()?;
        Ok(Self { control: Mutex::new(ours), child })
    }
}

impl Spawner {
    /// The process's id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
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

/// Takes sockets from `control` and starts a worker on each by `start`, until the connector has gone.
///
/// # Errors
/// When the socket breaks.
pub fn serve_spawner(control: &UnixStream, start: impl Fn(Kind, OwnedFd) -> io::Result<Child>) -> io::Result<()> {
    let running = Arc::new(AtomicUsize::new(0));
    while let Some((kind, socket)) = receive(control)? {
        if running.load(Ordering::SeqCst) >= MAX_PROCESSES {
            // The connector sees its end close.
            continue;
        }
        match start(kind, socket) {
            Ok(child) => wait_for(child, &running),
            Err(error) => tracing::warn!(%error, "a worker cannot be started"),
        }
    }
    Ok(())
}

fn wait_for(mut child: Child, running: &Arc<AtomicUsize>) {
    running.fetch_add(1, Ordering::SeqCst);
    let running = running.clone();
    thread::spawn(move || {
        if let Err(error) = child.wait() {
            tracing::warn!(%error, "a worker's end was not seen");
        }
        running.fetch_sub(1, Ordering::SeqCst);
    });
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
