//! What several targets share: JSON round trips, splitting inputs, running readers of streams.

use std::{
    cell::{Cell, RefCell},
    future::Future,
};

use serde::{Serialize, de::DeserializeOwned};
use tokio::runtime::{Builder, Runtime};

thread_local! {
    static ACCEPTED: Cell<bool> = const { Cell::new(false) };
}

/// Notes that the input passed its parser: everything behind was reached.
pub(crate) fn accepted() {
    ACCEPTED.set(true);
}

/// Whether an input passed its parser on this thread since the last call. A seed that is meant to be good and no longer
/// passes has gone stale, and what is derived from it fuzzes little.
#[must_use]
pub fn take_accepted() -> bool {
    ACCEPTED.take()
}

/// Decodes a JSON text; what was decoded must survive being written and read again.
pub(crate) fn json<T: Serialize + DeserializeOwned>(data: &[u8]) -> Option<T> {
    let value: T = serde_json::from_slice(data).ok()?;
    let written = serde_json::to_vec(&value).unwrap();
    let again: T = serde_json::from_slice(&written).expect("what we write, we read");
    assert_eq!(written, serde_json::to_vec(&again).unwrap(), "reading what was written changed it");
    Some(value)
}

/// The input as text; bytes that are none are replaced.
pub(crate) fn text(data: &[u8]) -> String {
    String::from_utf8_lossy(data).into_owned()
}

/// Lines without their ends.
pub(crate) fn lines(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    data.split(|byte| *byte == b'\n')
}

/// A few places to cut `length` bytes, the same for the same input.
pub(crate) fn cuts(data: &[u8]) -> Vec<usize> {
    let seed = data.iter().fold(7_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(*byte)));
    let length = data.len();
    let mut cuts = vec![0, 1, length / 2, length.saturating_sub(1), seed % length.max(1)];
    cuts.retain(|cut| *cut <= length);
    cuts.sort_unstable();
    cuts.dedup();
    cuts
}

/// Runs a reader of a stream to its end.
pub(crate) fn run<T>(work: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: RefCell<Runtime> = RefCell::new(Builder::new_current_thread().enable_time().build().unwrap());
    }
    RUNTIME.with_borrow(|runtime| runtime.block_on(work))
}
