//! Serving: one thread for each socket, which has its grant for life.

use std::{
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use anyhow::Context;
use sluice_control_wallet::{Grant, Request, Response};

use crate::{frame, records::Records};

/// A peer that does not take its answer for so long is dropped.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves the wallet in `dir` until every socket is closed.
///
/// # Errors
/// When the wallet cannot be opened, e.g. because its key file is missing. A socket's own failure ends only it.
pub fn run(dir: &Path, fds: Vec<(OwnedFd, Grant)>) -> anyhow::Result<()> {
    let records = Mutex::new(Records::open(dir).with_context(|| format!("wallet in {}", dir.display()))?);
    thread::scope(|scope| {
        for (fd, grant) in fds {
            let records = &records;
            scope.spawn(move || {
                if let Err(error) = serve(UnixStream::from(fd), grant, records) {
                    tracing::warn!(?grant, "a service's socket ended: {error:#}");
                }
            });
        }
    });
    Ok(())
}

fn serve(stream: UnixStream, grant: Grant, records: &Mutex<Records>) -> anyhow::Result<()> {
    stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
    while let Some(request) = frame::read::<Request>(&stream)? {
        let response = if grant.permits(&request) {
            // A panic while the lock was held leaves no half-done write behind: SQLite rolled it back.
            let answered = records.lock().unwrap_or_else(PoisonError::into_inner).answer(request);
            answered.unwrap_or_else(|error| {
                tracing::error!(?grant, "the wallet failed: {error:#}");
                Response::Failed
            })
        } else {
            tracing::error!(?grant, ?request, "a service asked for more than it may");
            Response::NotGranted
        };
        frame::write(&stream, &response)?;
    }
    Ok(())
}
