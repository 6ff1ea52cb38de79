//! Who may send how much ahead of its reader, within what QUIC itself allows.
//!
//! QUIC gives every stream of a connection the same window. One that suits a long line is too much for hundreds of
//! streams that nobody reads: together they would take all memory, or all of the connection's window and so stall the
//! others. So each stream begins with 256 KiB, as over TCP, and gets more while its reader keeps up. Each end says so on
//! one unidirectional stream of its own: pairs of a stream's number and the bytes that may be sent on it in all, as two
//! `u64`, big endian. A peer that does not care is held by QUIC's windows and harms its own connection.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::Context,
};

use futures::task::AtomicWaker;
use tokio::sync::Notify;

use crate::{STREAM_WINDOW, WINDOW_RESERVE, yamux::FIRST_WINDOW};

/// A stream's number and how many bytes in all.
const WORD: usize = 16;
/// By how many times itself a window grows at once: on a long line each step takes a round trip.
const GROWTH: u32 = 3;
/// What is said goes before the bytes of other streams.
const FIRST: i32 = 1;

/// The accounts of one connection.
#[derive(Clone, Debug)]
pub(crate) struct Ledger(Arc<Books>);

#[derive(Debug)]
struct Books {
    /// What we may send.
    accounts: Mutex<HashMap<u64, Arc<Account>>>,
    /// What the peer may send and has still to be told; one entry for each stream.
    due: Mutex<HashMap<u64, u64>>,
    told: Notify,
    /// What windows may still grow by.
    reserve: Mutex<u32>,
}

/// What we may send on one stream.
#[derive(Debug)]
pub(super) struct Account {
    limit: AtomicU64,
    waiting: AtomicWaker,
}

impl Account {
    /// How much is left after `sent` bytes; whoever gets nothing is woken when there is more.
    pub(super) fn left(&self, sent: u64, cx: &Context<'_>) -> usize {
        let left = || usize::try_from(self.limit.load(Relaxed).saturating_sub(sent)).unwrap_or(usize::MAX);
        if left() == 0 {
            self.waiting.register(cx.waker());
        }
        left()
    }
}

/// What the peer may send on one stream.
#[derive(Debug)]
pub(super) struct Allowance {
    ledger: Ledger,
    stream: u64,
    read: u64,
    granted: u64,
    window: u32,
    /// The reader has taken all there was since the last grant.
    drained: bool,
}

impl Ledger {
    pub(super) fn new() -> Self {
        let told = Notify::new();
        Self(Arc::new(Books {
            accounts: Mutex::default(),
            due: Mutex::default(),
            told,
            reserve: Mutex::new(WINDOW_RESERVE),
        }))
    }

    pub(super) fn open(&self, stream: u64) -> (Arc<Account>, Allowance) {
        let limit = AtomicU64::new(FIRST_WINDOW.into());
        let account = Arc::new(Account { limit, waiting: AtomicWaker::new() });
        held(&self.0.accounts).insert(stream, account.clone());
        let (granted, window) = (FIRST_WINDOW.into(), FIRST_WINDOW);
        (account, Allowance { ledger: self.clone(), stream, read: 0, granted, window, drained: false })
    }

    /// Says what is due until the connection ends.
    pub(super) async fn tell(self, connection: quinn::Connection) -> io::Result<()> {
        let mut line = None;
        loop {
            self.0.told.notified().await;
            let due = std::mem::take(&mut *held(&self.0.due));
            let words: Vec<u8> =
                due.iter().flat_map(|(id, most)| [id.to_be_bytes(), most.to_be_bytes()]).flatten().collect();
            let line = match &mut line {
                Some(line) => line,
                none => {
                    let opened = connection.open_uni().await?;
                    opened.set_priority(FIRST)?;
                    none.insert(opened)
                }
            };
            line.write_all(&words).await?;
        }
    }

    /// Hears what the peer says until it stops.
    pub(super) async fn hear(self, mut line: quinn::RecvStream) {
        let mut word = [0; WORD];
        while line.read_exact(&mut word).await.is_ok() {
            let [stream, most] =
                [0, 8].map(|at| word.get(at..).and_then(<[u8]>::first_chunk).copied().map_or(0, u64::from_be_bytes));
            // One for a stream that has gone is late.
            let account = held(&self.0.accounts).get(&stream).cloned();
            if let Some(account) = account {
                account.limit.fetch_max(most, Relaxed);
                account.waiting.wake();
            }
        }
    }
}

impl Allowance {
    /// The reader has taken so many bytes; `all` when no more were there.
    pub(super) fn took(&mut self, bytes: usize, all: bool) {
        self.read += bytes as u64;
        self.drained |= all;
        let left = self.granted.saturating_sub(self.read);
        if bytes == 0 || left > u64::from(self.window / 2) {
            return;
        }
        if std::mem::take(&mut self.drained) {
            let mut reserve = held(&self.ledger.0.reserve);
            let more = (GROWTH * self.window).min(STREAM_WINDOW - self.window).min(*reserve);
            self.window += more;
            *reserve -= more;
        }
        self.granted = self.read + u64::from(self.window);
        held(&self.ledger.0.due).insert(self.stream, self.granted);
        self.ledger.0.told.notify_one();
    }
}

impl Drop for Allowance {
    fn drop(&mut self) {
        *held(&self.ledger.0.reserve) += self.window - FIRST_WINDOW;
        held(&self.ledger.0.due).remove(&self.stream);
        held(&self.ledger.0.accounts).remove(&self.stream);
    }
}

fn held<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is complete before the guard goes.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_grow_with_readers_that_keep_up_and_only_with_them() {
        let ledger = Ledger::new();
        let mut streams: Vec<Allowance> = (0..16).map(|n| ledger.open(4 * n).1).collect();
        for _ in 0..100_000 {
            for (n, stream) in streams.iter_mut().enumerate() {
                stream.took(10_000, n > 0);
            }
        }
        let windows: Vec<u32> = streams.iter().map(|stream| stream.window).collect();
        assert_eq!(windows.first(), Some(&FIRST_WINDOW), "the first one's reader is always behind");
        assert!(windows.iter().all(|window| *window <= STREAM_WINDOW), "{windows:?}");
        assert_eq!(windows.iter().map(|window| window - FIRST_WINDOW).sum::<u32>(), WINDOW_RESERVE);
        assert_eq!(held(&ledger.0.due).len(), 16);
        drop(streams);
        assert_eq!(*held(&ledger.0.reserve), WINDOW_RESERVE);
        assert!(held(&ledger.0.due).is_empty() && held(&ledger.0.accounts).is_empty());
    }
}
