//! A pool of reading connections; each read is one transaction on a blocking thread.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use rusqlite::{Connection, Transaction};
use sluice_control_domain::StoreError;
use tokio::sync::Semaphore;

use crate::connect::{self, DatabaseKey};

/// Reads that run at once; more wait.
const READERS: usize = 4;

pub(crate) struct Readers {
    idle: Arc<Mutex<Vec<Connection>>>,
    places: Arc<Semaphore>,
}

impl Readers {
    pub(crate) fn open(path: &Path, key: &DatabaseKey) -> anyhow::Result<Self> {
        let mut idle = Vec::with_capacity(READERS);
        for _ in 0..READERS {
            let connection = connect::open(path, key)?;
            connection.execute_batch("PRAGMA query_only = ON")?;
            idle.push(connection);
        }
        Ok(Self { idle: Arc::new(Mutex::new(idle)), places: Arc::new(Semaphore::new(READERS)) })
    }

    pub(crate) async fn run<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let place = self.places.clone().acquire_owned().await.map_err(failed)?;
        let idle = self.idle.clone();
        let work = move || {
            let mut connection = lock(&idle).pop().ok_or_else(|| StoreError("no reading connection".to_owned()))?;
            let result = connection.transaction().and_then(|transaction| {
                let value = read(&transaction)?;
                transaction.finish()?;
                Ok(value)
            });
            lock(&idle).push(connection);
            drop(place);
            result.map_err(failed)
        };
        tokio::task::spawn_blocking(work).await.map_err(failed)?
    }
}

fn lock(idle: &Mutex<Vec<Connection>>) -> std::sync::MutexGuard<'_, Vec<Connection>> {
    // The vector is whole even if a holder panicked: push and pop are single steps.
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn failed(error: impl std::fmt::Display) -> StoreError {
    StoreError(error.to_string())
}
