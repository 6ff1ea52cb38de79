//! One stream's state.

use std::task::Waker;

use super::queue::Queue;

/// What reading gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// So many bytes, at least one.
    Bytes(usize),
    /// Nothing yet.
    Wait,
    /// The other end has sent all.
    End,
    /// The other end gave up.
    Reset,
    /// The connection went before the end came.
    Gone,
}

/// What writing gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Write {
    /// So many bytes were taken, at least one.
    Bytes(usize),
    /// Not now.
    Wait,
    /// We have said that there is no more.
    Finished,
    /// The other end takes no more.
    Reset,
    /// The connection has gone.
    Gone,
}

/// What the other end may still do in its direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Receiving {
    Open,
    Finished,
    Reset,
}

/// What we may still do in ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sending {
    Open,
    Finished,
    /// The other end takes no more.
    Stopped,
}

#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) sending: Sending,
    pub(crate) receiving: Receiving,
    /// Bytes that the other end still takes.
    pub(crate) send_window: u32,
    /// Bytes that it may still send.
    pub(crate) credit: u32,
    /// Bytes of a body that were announced and are still arriving.
    pub(crate) arriving: u32,
    /// What it may have sent and we not read, at most.
    pub(crate) window: u32,
    /// The reader has taken all there was since the window was last opened.
    pub(crate) drained: bool,
    /// The first frame of ours on a stream of theirs carries ACK.
    pub(crate) owes_ack: bool,
    pub(crate) waiting: Queue,
    /// Bytes of ours in the output of `generation`.
    pub(crate) queued: usize,
    pub(crate) generation: u64,
    /// The writer waits for room in the output, not for the window.
    pub(crate) crowded: bool,
    pub(crate) reader: Option<Waker>,
    pub(crate) writer: Option<Waker>,
}

impl Slot {
    pub(crate) fn new(send_window: u32, window: u32, owes_ack: bool) -> Self {
        Self {
            sending: Sending::Open,
            receiving: Receiving::Open,
            send_window,
            credit: window,
            arriving: 0,
            window,
            drained: false,
            owes_ack,
            waiting: Queue::default(),
            queued: 0,
            generation: 0,
            crowded: false,
            reader: None,
            writer: None,
        }
    }

    /// What of the window is taken: by what waits, what still arrives, and what may still be sent.
    pub(crate) fn held(&self) -> u32 {
        let waiting = u32::try_from(self.waiting.len()).unwrap_or(u32::MAX);
        self.credit.saturating_add(self.arriving).saturating_add(waiting)
    }

    /// Part of a body is here. Whether anybody wants it.
    pub(crate) fn has_come(&mut self, bytes: usize) -> bool {
        self.arriving = self.arriving.saturating_sub(u32::try_from(bytes).unwrap_or(u32::MAX));
        self.receiving == Receiving::Open
    }

    pub(crate) fn wake_reader(&mut self) {
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }

    pub(crate) fn wake_writer(&mut self) {
        if let Some(waker) = self.writer.take() {
            waker.wake();
        }
    }

    /// The other end takes no more, and sends no more unless it has finished.
    pub(crate) fn reset(&mut self) {
        if self.sending == Sending::Open {
            self.sending = Sending::Stopped;
        }
        if self.receiving == Receiving::Open {
            self.receiving = Receiving::Reset;
            self.waiting.clear();
        }
        self.wake_reader();
        self.wake_writer();
    }
}

/// Keeps `waker` without cloning it once more than needed.
pub(crate) fn remember(place: &mut Option<Waker>, waker: &Waker) {
    match place {
        Some(known) if known.will_wake(waker) => {}
        place => *place = Some(waker.clone()),
    }
}
