//! Keeps an old key from being used after its successor: control would take that for a clone and lock the node.

use tokio::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Who may talk to control while the key changes.
///
/// Every exchange with control uses a connection of its own and passes here, so that when [`Gate::close`] returns no
/// request made with the old key is under way. The long poll has its own door: it may take half a minute, and other
/// calls do not wait for it.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    polls: Mutex<()>,
    calls: RwLock<()>,
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

    /// Waits until nothing is under way and holds everything off.
    pub(crate) async fn close(&self) -> (MutexGuard<'_, ()>, RwLockWriteGuard<'_, ()>) {
        let polls = self.polls.lock().await;
        (polls, self.calls.write().await)
    }
}
