//! Keeps an old key from being used after its successor: control would take that for a clone and lock the node.

use tokio::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, watch};

/// Who may talk to control while the key changes.
///
/// Every exchange with control uses a connection of its own and passes here, so that when [`Gate::close`] returns no
/// request made with the old key is under way. The long poll has its own door: it may take half a minute, and other
/// calls do not wait for it. The state feed never ends by itself, so it is told to.
#[derive(Debug)]
pub(crate) struct Gate {
    polls: Mutex<()>,
    feed: Mutex<()>,
    calls: RwLock<()>,
    closing: watch::Sender<bool>,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            polls: Mutex::default(),
            feed: Mutex::default(),
            calls: RwLock::default(),
            closing: watch::Sender::new(false),
        }
    }
}

/// As long as it lives, nobody talks to control.
pub(crate) struct Closed<'a> {
    closing: &'a watch::Sender<bool>,
    _polls: MutexGuard<'a, ()>,
    _feed: MutexGuard<'a, ()>,
    _calls: RwLockWriteGuard<'a, ()>,
}

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        self.closing.send_replace(false);
    }
}

impl Gate {
    /// Held during a short exchange.
    pub(crate) async fn call(&self) -> RwLockReadGuard<'_, ()> {
        self.calls.read().await
    }

    /// Held during a long poll.
    pub(crate) async fn poll(&self) -> MutexGuard<'_, ()> {
        self.polls.lock().await
    }

    /// Held as long as the state feed is connected.
    pub(crate) async fn feed(&self) -> MutexGuard<'_, ()> {
        self.feed.lock().await
    }

    /// Resolves when the state feed must be let go.
    pub(crate) async fn closing(&self) {
        let mut closing = self.closing.subscribe();
        // We hold the sender: it cannot be gone.
        drop(closing.wait_for(|closing| *closing).await);
    }

    /// Waits until nothing is under way and holds everything off.
    pub(crate) async fn close(&self) -> Closed<'_> {
        // The poll may take half a minute; only then the others are held up.
        let polls = self.polls.lock().await;
        self.closing.send_replace(true);
        let feed = self.feed.lock().await;
        Closed { closing: &self.closing, _polls: polls, _feed: feed, _calls: self.calls.write().await }
    }
}
