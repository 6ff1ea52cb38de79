//! What a person is told when a job cannot be done. The variants are those of `control/server`'s `ServiceError`.

use sluice_control_domain::{BadRecord, StoreError};
use thiserror::Error;

use crate::{CacheError, CredentialsError, KeyError};

/// A refusal or failure; the text is for the person who asked.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum WorkError {
    /// What was asked does not exist, or not for this person.
    #[error("{0}")]
    NotFound(String),
    /// What was asked cannot be done now; the text says why and what to do.
    #[error("{0}")]
    Refused(String),
    /// Our own fault or a peer's; trying again may help.
    #[error("{0}")]
    Failed(String),
}

macro_rules! failure {
    ($($type:ty),*) => {$(
        impl From<$type> for WorkError {
            fn from(error: $type) -> Self {
                Self::Failed(error.to_string())
            }
        }
    )*};
}
failure!(StoreError, BadRecord, CredentialsError, KeyError);

impl From<CacheError> for WorkError {
    fn from(error: CacheError) -> Self {
        match error {
            CacheError::Incredible { .. } => Self::Refused(error.to_string()),
            CacheError::Overtaken | CacheError::Failed(_) => Self::Failed(error.to_string()),
        }
    }
}
