//! The sockets of one direction: takes frames from one device in batches and gives them to the other when it is time.

use std::{
    collections::VecDeque,
    io::{IoSlice, IoSliceMut},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use nix::{
    errno::Errno,
    ifaddrs::getifaddrs,
    poll::{PollFd, PollFlags, ppoll},
    sys::{
        prctl,
        socket::{
            AddressFamily, MsgFlags, MultiHeaders, SockFlag, SockProtocol, SockType, bind, recvmmsg, sendmmsg,
            setsockopt, socket, sockopt,
        },
        time::TimeSpec,
    },
};

use super::{Fate, Pipe, Shape};

/// Frames of one system call.
const BATCH: usize = 64;
/// Largest frame taken; jumbo frames fit.
const FRAME: usize = 9216;
/// Frames on their way at a time; more are dropped and counted.
const MOST: usize = 1 << 16;
/// Bytes the kernel keeps for us while the thread is not running.
const KERNEL_BUFFER: usize = 64 << 20;
/// How soon a stop or another shape is seen on an idle line.
const IDLE: Duration = Duration::from_millis(50);

/// What has happened to the frames of one direction.
#[derive(Debug, Default)]
pub struct Counters {
    /// Taken from the first device.
    pub taken: AtomicU64,
    /// Given to the second.
    pub given: AtomicU64,
    /// Lost at random, as asked.
    pub lost: AtomicU64,
    /// Dropped by the full queue of the emulated rate.
    pub dropped: AtomicU64,
    /// Larger than the MTU.
    pub too_big: AtomicU64,
    /// Not forwarded for want of memory or room at the second device: the emulator itself was too slow.
    pub overrun: AtomicU64,
}

/// A raw socket on `device` of the calling thread's namespace.
pub(super) fn open(device: &str) -> Result<OwnedFd> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll)
        .context("a raw socket (are you root?)")?;
    let address = getifaddrs()?
        .filter(|entry| entry.interface_name == device)
        .find_map(|entry| entry.address.and_then(|address| address.as_link_addr().copied()))
        .with_context(|| format!("there is no device {device}"))?;
    bind(fd.as_raw_fd(), &address).with_context(|| format!("cannot bind to {device}"))?;
    setsockopt(&fd, sockopt::RcvBufForce, &KERNEL_BUFFER).context("a large receive buffer")?;
    setsockopt(&fd, sockopt::SndBufForce, &KERNEL_BUFFER).context("a large send buffer")?;
    Ok(fd)
}

pub(super) fn held<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One direction's thread.
pub(super) struct Pump {
    from: Arc<OwnedFd>,
    to: Arc<OwnedFd>,
    shape: Arc<Mutex<Shape>>,
    counters: Arc<Counters>,
    stop: Arc<AtomicBool>,
    pipe: Pipe,
    began: Instant,
    /// Empty buffers to receive into.
    room: Vec<Vec<u8>>,
    /// Buffers not in use.
    spare: Vec<Vec<u8>>,
    /// Frames and when they leave, soonest first.
    waiting: VecDeque<(Duration, Vec<u8>)>,
}

impl Pump {
    pub(super) fn new(
        from: Arc<OwnedFd>,
        to: Arc<OwnedFd>,
        shape: Arc<Mutex<Shape>>,
        counters: Arc<Counters>,
        stop: Arc<AtomicBool>,
    ) -> Result<Self> {
        let pipe = Pipe::new(*held(&shape));
        let room = vec![vec![0; FRAME]; BATCH];
        let mut pump = Self {
            from,
            to,
            shape,
            counters,
            stop,
            pipe,
            began: Instant::now(),
            room,
            spare: Vec::new(),
            waiting: VecDeque::new(),
        };
        // Until it was bound, the socket heard every device of the namespace.
        while !pump.receive()?.is_empty() {}
        Ok(pump)
    }

    pub(super) fn run(mut self) {
        // Otherwise the kernel may wake us up to 50 µs late.
        let _rougher = prctl::set_timerslack(1000);
        while !self.stop.load(Ordering::Relaxed) {
            if let Err(error) = self.turn() {
                crate::topology::report(&format!("emulator: {error:#}"));
                return;
            }
        }
    }

    /// Waits for a frame or for the time of one, takes what has come, gives what is due.
    fn turn(&mut self) -> Result<()> {
        let now = self.began.elapsed();
        let wait = self.waiting.front().map_or(IDLE, |(at, _)| at.saturating_sub(now).min(IDLE));
        let mut readable = [PollFd::new(self.from.as_fd(), PollFlags::POLLIN)];
        match ppoll(&mut readable, Some(TimeSpec::from_duration(wait)), None) {
            Err(Errno::EINTR) | Ok(0) => {}
            Err(error) => return Err(error).context("waiting for frames"),
            Ok(_) => self.take()?,
        }
        self.pipe.reshape(*held(&self.shape));
        while self.waiting.front().is_some_and(|(at, _)| *at <= self.began.elapsed()) {
            self.give()?;
        }
        Ok(())
    }

    fn take(&mut self) -> Result<()> {
        let lengths = self.receive()?;
        let now = self.began.elapsed();
        count(&self.counters.taken, lengths.len());
        for (buffer, length) in self.room.iter_mut().zip(lengths) {
            let Some(frame) = buffer.get(..length) else { continue };
            match self.pipe.offer(now, frame) {
                Fate::Leaves(at) if self.waiting.len() < MOST => {
                    let empty = self.spare.pop().unwrap_or_else(|| vec![0; FRAME]);
                    let mut frame = std::mem::replace(buffer, empty);
                    frame.truncate(length);
                    self.waiting.push_back((at, frame));
                }
                Fate::Leaves(_) => count(&self.counters.overrun, 1),
                Fate::Lost => count(&self.counters.lost, 1),
                Fate::Dropped => count(&self.counters.dropped, 1),
                Fate::TooBig => count(&self.counters.too_big, 1),
            }
        }
        Ok(())
    }

    /// Fills buffers of `room`, in order; gives their lengths.
    fn receive(&mut self) -> Result<Vec<usize>> {
        let mut slices: Vec<_> = self.room.iter_mut().map(|buffer| [IoSliceMut::new(buffer)]).collect();
        let mut headers = MultiHeaders::<()>::preallocate(slices.len(), None);
        match recvmmsg(self.from.as_raw_fd(), &mut headers, slices.iter_mut(), MsgFlags::MSG_DONTWAIT, None) {
            Ok(messages) => Ok(messages.map(|message| message.bytes).collect()),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(Vec::new()),
            // The device is down: nothing comes.
            Err(Errno::ENETDOWN) => Ok(Vec::new()),
            Err(error) => Err(error).context("taking frames"),
        }
    }

    /// Sends one batch of frames that are due.
    fn give(&mut self) -> Result<()> {
        let now = self.began.elapsed();
        let due = self.waiting.iter().take(BATCH).take_while(|(at, _)| *at <= now).count();
        let frames: Vec<_> = self.waiting.iter().take(due).map(|(_, frame)| [IoSlice::new(frame)]).collect();
        let mut headers = MultiHeaders::<()>::preallocate(due, None);
        let nowhere = vec![None::<()>; due];
        let sent = sendmmsg(self.to.as_raw_fd(), &mut headers, frames.iter(), nowhere, [], MsgFlags::empty());
        let sent = match sent {
            Ok(messages) => messages.count(),
            Err(Errno::EINTR) => return Ok(()),
            // The far device has no room or is down; a line would lose the frame, too.
            Err(Errno::EAGAIN | Errno::ENOBUFS | Errno::ENETDOWN | Errno::EMSGSIZE) => 0,
            Err(error) => return Err(error).context("giving frames"),
        };
        count(&self.counters.given, sent);
        if sent == 0 {
            count(&self.counters.overrun, 1);
        }
        for (_, mut frame) in self.waiting.drain(..sent.max(1).min(due)) {
            frame.resize(FRAME, 0);
            self.spare.push(frame);
        }
        Ok(())
    }
}

fn count(counter: &AtomicU64, frames: usize) {
    counter.fetch_add(frames as u64, Ordering::Relaxed);
}
