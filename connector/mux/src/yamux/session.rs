//! All streams of one connection.

use std::{collections::HashMap, task::Waker};

use bytes::BytesMut;
use thiserror::Error;

use super::{
    header::{ACK, FIN, Header, Kind, RST, SYN},
    slot::{Read, Receiving, Sending, Slot, Write, remember},
};
use crate::End;

/// Most streams of one connection. A gateway that opens more loses the connection; an agent may open one, its line.
pub const MAX_STREAMS: usize = 512;
/// Bytes that one stream may send ahead of its reader, once it has shown that the reader keeps up.
pub const STREAM_WINDOW: u32 = 16 * 1024 * 1024;
/// What the streams of one connection may have beyond 256 KiB each, in bytes, all together.
pub const WINDOW_RESERVE: u32 = 64 * 1024 * 1024;
/// Bytes that wait to be sent before writers are made to wait.
pub const OUT_LIMIT: usize = 256 * 1024;
/// Each stream's window to begin with, as the specification has it.
pub(crate) const FIRST_WINDOW: u32 = 256 * 1024;
/// Most of [`OUT_LIMIT`] that one stream fills at a time.
const SHARE: usize = 64 * 1024;
/// What a stream may always add, so that none starves.
const LEAST_SHARE: usize = 4 * 1024;
/// Answers and resets included; a peer that makes us say more without listening is given up.
const OUT_HARD_LIMIT: usize = OUT_LIMIT + MAX_STREAMS * (LEAST_SHARE + 1024);
/// Answers to pings that wait to be sent.
const MAX_PONGS: u32 = 16;
/// Frames in a row that carry nothing.
const MAX_IDLE_FRAMES: u32 = 10_000;

/// What the peer did that ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum Violation {
    #[error("the peer sent a frame that yamux does not have")]
    Frame,
    #[error("the peer used a stream number that is not its to use")]
    StreamId,
    #[error("the peer opened more streams than it may")]
    Streams,
    #[error("the peer sent more than its window")]
    Window,
    #[error("the peer sent too many frames that carry nothing")]
    Idle,
    #[error("the peer asks for more than it takes")]
    Deaf,
}

/// What follows a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// Another header.
    None,
    /// The same; and the peer has opened this stream, with a body of so many bytes for it.
    New(u32, u32),
    /// Bytes for this stream.
    Data(u32, u32),
    /// The peer says goodbye.
    Goodbye,
}

#[derive(Debug)]
pub(crate) struct Session {
    end: End,
    streams: HashMap<u32, Slot, ById>,
    next: u32,
    newest_theirs: u32,
    theirs: usize,
    reserve: u32,
    out: Vec<u8>,
    /// How often `out` was taken.
    generation: u64,
    /// Streams whose writers wait for room in `out`.
    crowded: Vec<u32>,
    pongs: u32,
    idle_frames: u32,
    gone: bool,
    driver: Option<Waker>,
}

type ById = std::hash::BuildHasherDefault<IdHasher>;

/// Stream numbers are small, and a peer that picks them gains nothing: it may have [`MAX_STREAMS`].
#[derive(Debug, Default)]
pub(crate) struct IdHasher(u64);

impl std::hash::Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32((*byte).into());
        }
    }

    fn write_u32(&mut self, id: u32) {
        self.0 = (self.0 ^ u64::from(id)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }
}

impl Session {
    pub(crate) fn new(end: End) -> Self {
        Self {
            end,
            streams: HashMap::default(),
            next: if end == End::Agent { 1 } else { 2 },
            newest_theirs: 0,
            theirs: 0,
            reserve: WINDOW_RESERVE,
            out: Vec::new(),
            generation: 1,
            crowded: Vec::new(),
            pongs: 0,
            idle_frames: 0,
            gone: false,
            driver: None,
        }
    }

    /// A new stream of ours; `None` when there are too many, or there were.
    pub(crate) fn open(&mut self) -> Option<u32> {
        if self.gone || self.streams.len() >= MAX_STREAMS {
            return None;
        }
        let id = self.next;
        self.next = self.next.checked_add(2)?;
        self.streams.insert(id, Slot::new(FIRST_WINDOW, FIRST_WINDOW, false));
        // Numbers only grow on the wire, so this goes out in the order of opening; with the first bytes, not before.
        self.say(Header::new(Kind::WindowUpdate, SYN, id, 0));
        Some(id)
    }

    pub(crate) const fn is_gone(&self) -> bool {
        self.gone
    }

    fn is_ours(&self, id: u32) -> bool {
        (id % 2 == 1) == (self.end == End::Agent)
    }

    fn say(&mut self, header: Header) {
        self.out.extend_from_slice(&header.encode());
    }

    fn wake_driver(&mut self) {
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
    }

    /// Takes bytes for `id`, as many as may be.
    pub(crate) fn write(&mut self, id: u32, bytes: &[u8], waker: &Waker) -> Write {
        let (queued, generation) = (self.out.len(), self.generation);
        let Some(slot) = self.streams.get_mut(&id) else { return Write::Gone };
        match slot.sending {
            Sending::Open if self.gone => return Write::Gone,
            Sending::Open => {}
            Sending::Finished => return Write::Finished,
            Sending::Stopped => return Write::Reset,
        }
        if slot.generation != generation {
            (slot.generation, slot.queued) = (generation, 0);
        }
        let share = if queued < OUT_LIMIT { SHARE } else { LEAST_SHARE };
        let room = share.saturating_sub(slot.queued);
        let taken = bytes.len().min(room).min(slot.send_window as usize);
        let (Some(now), Ok(length)) = (bytes.get(..taken), u32::try_from(taken)) else { return Write::Gone };
        if taken == 0 {
            if room == 0 && !std::mem::replace(&mut slot.crowded, true) {
                self.crowded.push(id);
            }
            remember(&mut slot.writer, waker);
            return Write::Wait;
        }
        slot.send_window -= length;
        slot.queued += taken;
        let flags = if std::mem::take(&mut slot.owes_ack) { ACK } else { 0 };
        self.say(Header::new(Kind::Data, flags, id, length));
        self.out.extend_from_slice(now);
        self.wake_driver();
        Write::Bytes(taken)
    }

    /// Gives at most `most` bytes of `id` to `take`.
    pub(crate) fn read(&mut self, id: u32, most: usize, waker: &Waker, take: impl FnMut(&[u8])) -> Read {
        let Some(slot) = self.streams.get_mut(&id) else { return Read::Gone };
        let read = slot.waiting.read(most, take);
        if read == 0 {
            return match slot.receiving {
                Receiving::Finished => Read::End,
                Receiving::Reset => Read::Reset,
                Receiving::Open if self.gone => Read::Gone,
                Receiving::Open => {
                    remember(&mut slot.reader, waker);
                    if !self.out.is_empty() {
                        // A stream that was opened and is only read has not been told of yet.
                        self.wake_driver();
                    }
                    Read::Wait
                }
            };
        }
        slot.drained |= slot.waiting.len() == 0;
        if slot.receiving == Receiving::Open {
            self.open_window(id);
        }
        Read::Bytes(read)
    }

    /// Why nothing more of `id` can be read, or its waiting bytes count no more; an end is no reason.
    pub(crate) fn broken(&mut self, id: u32, waker: &Waker) -> Option<Read> {
        let Some(slot) = self.streams.get_mut(&id) else { return Some(Read::Gone) };
        match slot.receiving {
            Receiving::Reset => Some(Read::Reset),
            Receiving::Open if self.gone => Some(Read::Gone),
            Receiving::Open => {
                remember(&mut slot.reader, waker);
                None
            }
            // Complete: it stays good whatever becomes of the other end.
            Receiving::Finished => None,
        }
    }

    /// Lets the peer send more once half the window was read; more than before when the reader keeps up.
    fn open_window(&mut self, id: u32) {
        let Some(slot) = self.streams.get_mut(&id) else { return };
        let held = slot.held();
        if slot.window.saturating_sub(held) < slot.window / 2 {
            return;
        }
        if std::mem::take(&mut slot.drained) {
            let more = slot.window.min(STREAM_WINDOW - slot.window).min(self.reserve);
            slot.window += more;
            self.reserve -= more;
        }
        let more = slot.window - held;
        slot.credit += more;
        let flags = if std::mem::take(&mut slot.owes_ack) { ACK } else { 0 };
        self.say(Header::new(Kind::WindowUpdate, flags, id, more));
        self.wake_driver();
    }

    /// Nothing more from us on `id`.
    pub(crate) fn finish(&mut self, id: u32) -> Write {
        let Some(slot) = self.streams.get_mut(&id) else { return Write::Gone };
        match slot.sending {
            Sending::Open if self.gone => return Write::Gone,
            Sending::Open => {}
            Sending::Finished => return Write::Finished,
            Sending::Stopped => {
                // The other end takes nothing anyway.
                slot.sending = Sending::Finished;
                return Write::Finished;
            }
        }
        slot.sending = Sending::Finished;
        let flags = if std::mem::take(&mut slot.owes_ack) { ACK | FIN } else { FIN };
        self.say(Header::new(Kind::Data, flags, id, 0));
        self.wake_driver();
        Write::Finished
    }

    /// The one who held `id` has gone.
    pub(crate) fn forget(&mut self, id: u32) {
        let Some(slot) = self.streams.remove(&id) else { return };
        self.reserve += slot.window - FIRST_WINDOW;
        if !self.is_ours(id) {
            self.theirs -= 1;
        }
        let both_done = slot.sending != Sending::Open && slot.receiving != Receiving::Open;
        if !both_done && !self.gone {
            self.say(Header::new(Kind::Data, RST, id, 0));
            self.wake_driver();
        }
    }

    /// Takes a header from the peer and says what follows it.
    pub(crate) fn receive(&mut self, header: Header) -> Result<Body, Violation> {
        let body = match header.kind {
            Kind::Data => self.on_data(header)?,
            Kind::WindowUpdate => self.on_window(header)?,
            Kind::Ping => self.on_ping(header)?,
            Kind::GoAway => return Ok(Body::Goodbye),
        };
        if self.out.len() > OUT_HARD_LIMIT {
            return Err(Violation::Deaf);
        }
        Ok(body)
    }

    fn on_data(&mut self, header: Header) -> Result<Body, Violation> {
        let Header { stream, length, .. } = header;
        let new = header.has(SYN);
        if new {
            if header.has(RST) {
                return Err(Violation::Frame);
            }
            self.accept(stream, 0)?;
        }
        let Some(slot) = self.streams.get_mut(&stream) else {
            // We have given it up, and the peer does not know yet.
            self.count_idle(length > 0)?;
            return Ok(if length > 0 { Body::Data(stream, length) } else { Body::None });
        };
        if header.has(RST) {
            slot.reset();
            return if length > 0 { Err(Violation::Frame) } else { Ok(Body::None) };
        }
        if slot.receiving != Receiving::Open && (length > 0 || header.has(FIN)) {
            return Err(Violation::Frame);
        }
        slot.credit = slot.credit.checked_sub(length).ok_or(Violation::Window)?;
        slot.arriving += length;
        if length == 0 && header.has(FIN) {
            self.end(stream);
        }
        self.count_idle(new || length > 0 || header.has(FIN))?;
        Ok(match (new, length) {
            (true, _) => Body::New(stream, length),
            (false, 0) => Body::None,
            (false, _) => Body::Data(stream, length),
        })
    }

    fn on_window(&mut self, header: Header) -> Result<Body, Violation> {
        let Header { stream, length, .. } = header;
        if header.has(SYN) {
            if header.has(RST) {
                return Err(Violation::Frame);
            }
            self.accept(stream, length)?;
            if header.has(FIN) {
                self.end(stream);
            }
            return Ok(Body::New(stream, 0));
        }
        let Some(slot) = self.streams.get_mut(&stream) else {
            self.count_idle(false)?;
            return Ok(Body::None);
        };
        if header.has(RST) {
            slot.reset();
            return Ok(Body::None);
        }
        slot.send_window = slot.send_window.checked_add(length).ok_or(Violation::Window)?;
        if length > 0 {
            slot.wake_writer();
        }
        if header.has(FIN) {
            self.end(stream);
        }
        self.count_idle(length > 0 || header.has(ACK) || header.has(FIN))?;
        Ok(Body::None)
    }

    fn on_ping(&mut self, header: Header) -> Result<Body, Violation> {
        self.count_idle(false)?;
        if header.has(SYN) {
            self.pongs += 1;
            if self.pongs > MAX_PONGS {
                return Err(Violation::Deaf);
            }
            self.say(Header::new(Kind::Ping, ACK, 0, header.length));
        }
        Ok(Body::None)
    }

    fn count_idle(&mut self, useful: bool) -> Result<(), Violation> {
        self.idle_frames = if useful { 0 } else { self.idle_frames + 1 };
        if self.idle_frames > MAX_IDLE_FRAMES { Err(Violation::Idle) } else { Ok(()) }
    }

    fn accept(&mut self, id: u32, credit: u32) -> Result<(), Violation> {
        if self.is_ours(id) || id <= self.newest_theirs {
            return Err(Violation::StreamId);
        }
        let most = if self.end == End::Agent { MAX_STREAMS } else { 1 };
        if self.theirs >= most {
            return Err(Violation::Streams);
        }
        self.newest_theirs = id;
        self.theirs += 1;
        let send_window = FIRST_WINDOW.checked_add(credit).ok_or(Violation::Window)?;
        self.streams.insert(id, Slot::new(send_window, FIRST_WINDOW, true));
        Ok(())
    }

    /// Part of a body has come. A stream that was given up takes nothing.
    pub(crate) fn deliver(&mut self, id: u32, piece: BytesMut) {
        if let Some(slot) = self.streams.get_mut(&id)
            && slot.has_come(piece.len())
        {
            slot.waiting.push(piece);
            slot.wake_reader();
        }
    }

    /// The same, copied: for small ones.
    pub(crate) fn deliver_copy(&mut self, id: u32, piece: &[u8]) {
        if let Some(slot) = self.streams.get_mut(&id)
            && slot.has_come(piece.len())
        {
            slot.waiting.extend(piece);
            slot.wake_reader();
        }
    }

    /// The peer's direction of `id` is complete.
    pub(crate) fn end(&mut self, id: u32) {
        if let Some(slot) = self.streams.get_mut(&id)
            && slot.receiving == Receiving::Open
        {
            slot.receiving = Receiving::Finished;
            slot.wake_reader();
        }
    }

    /// Swaps what is to be sent with `empty`. Nothing there: `waker` is woken when there is.
    pub(crate) fn take_output(&mut self, empty: &mut Vec<u8>, waker: &Waker) {
        if self.out.is_empty() {
            remember(&mut self.driver, waker);
            return;
        }
        debug_assert!(self.is_sound(), "the accounts of a connection do not agree");
        std::mem::swap(&mut self.out, empty);
        self.generation += 1;
        self.pongs = 0;
        for id in std::mem::take(&mut self.crowded) {
            if let Some(slot) = self.streams.get_mut(&id) {
                slot.crowded = false;
                slot.wake_writer();
            }
        }
    }

    /// Whether places and windows that were given out are those that are held.
    fn is_sound(&self) -> bool {
        let theirs = self.streams.keys().filter(|id| !self.is_ours(**id)).count();
        let grown: u64 = self.streams.values().map(|slot| u64::from(slot.window - FIRST_WINDOW)).sum();
        let bounded = |slot: &Slot| slot.held() <= slot.window && slot.window <= STREAM_WINDOW;
        theirs == self.theirs
            && self.streams.len() <= 2 * MAX_STREAMS
            && grown + u64::from(self.reserve) == u64::from(WINDOW_RESERVE)
            && self.streams.values().all(bounded)
    }

    /// The last thing said.
    pub(crate) fn say_goodbye(&mut self) {
        self.say(Header::new(Kind::GoAway, 0, 0, 0));
    }

    /// The connection has ended: whoever waits is told.
    pub(crate) fn vanish(&mut self) {
        self.gone = true;
        for slot in self.streams.values_mut() {
            slot.wake_reader();
            slot.wake_writer();
        }
    }
}

#[cfg(test)]
impl Session {
    pub(crate) fn held_memory(&self) -> usize {
        self.streams.values().map(|slot| slot.waiting.capacity()).sum()
    }

    pub(crate) fn window_of(&self, id: u32) -> u32 {
        self.streams.get(&id).map_or(0, |slot| slot.window)
    }

    pub(crate) fn held_of(&self, id: u32) -> u32 {
        self.streams.get(&id).map_or(0, Slot::held)
    }

    pub(crate) const fn reserve_left(&self) -> u32 {
        self.reserve
    }
}
