//! The one writer: a thread that puts many change sets into one durable transaction and answers after the fsync.

use aws_lc_rs::hmac;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use sluice_control_domain::{ChangeSet, Commit, StoreError};
use sluice_node_identity::UnixTime;
use tokio::sync::{mpsc, oneshot, watch};

use crate::{apply, readers::failed};

/// Jobs waiting for the writer; more make their callers wait.
const QUEUE: usize = 1_024;
/// Jobs in one transaction.
const GROUP: usize = 256;

enum Job {
    Commit(Box<ChangeSet>, oneshot::Sender<Result<Commit, StoreError>>),
    Lease { job: String, holder: String, now: UnixTime, until: UnixTime, answer: LeaseAnswer },
}

type LeaseAnswer = oneshot::Sender<Result<Option<u64>, StoreError>>;

/// An outcome that is told once the transaction is on disk.
enum Told {
    Commit(Result<Commit, StoreError>, oneshot::Sender<Result<Commit, StoreError>>),
    Lease(Result<Option<u64>, StoreError>, LeaseAnswer),
}

pub(crate) struct Writer {
    queue: Option<mpsc::Sender<Job>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Writer {
    pub(crate) fn start(
        connection: Connection,
        audit_key: hmac::Key,
        commits: watch::Sender<u64>,
    ) -> anyhow::Result<Self> {
        let (queue, jobs) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || run(connection, &audit_key, &commits, jobs))?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    pub(crate) async fn commit(&self, set: ChangeSet) -> Result<Commit, StoreError> {
        let (answer, outcome) = oneshot::channel();
        self.send(Job::Commit(Box::new(set), answer)).await?;
        outcome.await.map_err(failed)?
    }

    pub(crate) async fn lease(
        &self,
        job: String,
        holder: String,
        now: UnixTime,
        until: UnixTime,
    ) -> Result<Option<u64>, StoreError> {
        let (answer, outcome) = oneshot::channel();
        self.send(Job::Lease { job, holder, now, until, answer }).await?;
        outcome.await.map_err(failed)?
    }

    async fn send(&self, job: Job) -> Result<(), StoreError> {
        let queue = self.queue.as_ref().ok_or_else(|| failed("the writer has stopped"))?;
        queue.send(job).await.map_err(|_| failed("the writer has stopped"))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the store's writer panicked");
        }
    }
}

fn run(mut connection: Connection, key: &hmac::Key, commits: &watch::Sender<u64>, mut jobs: mpsc::Receiver<Job>) {
    let mut group = Vec::with_capacity(GROUP);
    while let Some(first) = jobs.blocking_recv() {
        group.push(first);
        while group.len() < GROUP
            && let Ok(next) = jobs.try_recv()
        {
            group.push(next);
        }
        match write_group(&mut connection, key, &mut group) {
            Ok((told, number)) => {
                commits.send_if_modified(|newest| std::mem::replace(newest, number) != number);
                told.into_iter().for_each(tell);
            }
            Err((error, told)) => {
                tracing::error!(%error, "a group of change sets could not be written");
                let text = error.to_string();
                told.into_iter().for_each(|told| tell(told.failed(&text)));
                for job in group.drain(..) {
                    refuse(job, &text);
                }
            }
        }
    }
}

type GroupFailed = (rusqlite::Error, Vec<Told>);

fn write_group(
    connection: &mut Connection,
    key: &hmac::Key,
    group: &mut Vec<Job>,
) -> Result<(Vec<Told>, u64), GroupFailed> {
    let begin = |error| (error, Vec::new());
    let mut transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(begin)?;
    let mut told = Vec::with_capacity(group.len());
    let mut written = 0_u64;
    for job in group.drain(..) {
        match job {
            Job::Commit(set, answer) => {
                let outcome = in_savepoint(&mut transaction, |inner| apply::change_set(inner, key, &set));
                written += u64::from(matches!(outcome, Ok(Commit::Done)));
                told.push(Told::Commit(outcome.map_err(failed), answer));
            }
            Job::Lease { job, holder, now, until, answer } => {
                let outcome = lease(&transaction, &job, &holder, now, until);
                told.push(Told::Lease(outcome.map_err(failed), answer));
            }
        }
    }
    let number = transaction
        .execute("UPDATE commits SET number = number + ?1", params![written])
        .and_then(|_| transaction.query_row("SELECT number FROM commits", [], |row| row.get(0)))
        .and_then(|number| transaction.commit().map(|()| number));
    match number {
        Ok(number) => Ok((told, number)),
        Err(error) => Err((error, told)),
    }
}

/// Runs `work` so that a conflict or failure undoes only what `work` wrote.
fn in_savepoint(
    transaction: &mut Transaction<'_>,
    work: impl FnOnce(&rusqlite::Savepoint<'_>) -> rusqlite::Result<Commit>,
) -> rusqlite::Result<Commit> {
    let mut savepoint = transaction.savepoint()?;
    match work(&savepoint) {
        Ok(Commit::Done) => savepoint.commit().map(|()| Commit::Done),
        other => {
            savepoint.rollback()?;
            savepoint.commit()?;
            other
        }
    }
}

fn lease(
    transaction: &Transaction<'_>,
    job: &str,
    holder: &str,
    now: UnixTime,
    until: UnixTime,
) -> rusqlite::Result<Option<u64>> {
    let held: Option<(String, u64, u64)> = transaction
        .query_row("SELECT holder, until, token FROM leases WHERE job = ?1", [job], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    let token = match held {
        None => 1,
        Some((owner, end, token)) if end > now.0 => {
            if owner != holder {
                return Ok(None);
            }
            token
        }
        // Run out: whoever takes it now, the former holder included, must not be confused with the former term.
        Some((_, _, token)) => token.saturating_add(1),
    };
    transaction
        .execute("INSERT OR REPLACE INTO leases VALUES (?1, ?2, ?3, ?4)", params![job, holder, until.0, token])?;
    Ok(Some(token))
}

impl Told {
    fn failed(self, why: &str) -> Self {
        match self {
            Self::Commit(_, answer) => Self::Commit(Err(failed(why)), answer),
            Self::Lease(_, answer) => Self::Lease(Err(failed(why)), answer),
        }
    }
}

fn refuse(job: Job, why: &str) {
    tell(match job {
        Job::Commit(_, answer) => Told::Commit(Err(failed(why)), answer),
        Job::Lease { answer, .. } => Told::Lease(Err(failed(why)), answer),
    });
}

fn tell(told: Told) {
    // A caller that no longer listens has given up; what was written stays written.
    match told {
        Told::Commit(outcome, answer) => drop(answer.send(outcome)),
        Told::Lease(outcome, answer) => drop(answer.send(outcome)),
    }
}
