//! How the node API says no: a status and an [`ErrorBody`], never what exists.

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use sluice_control_domain::{BadRecord, StoreError};
use sluice_control_enroll::Refused;
use sluice_node_identity::api::{ErrorBody, ErrorDetail};

/// A refusal.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
    retry_after: Option<u64>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), retry_after: None }
    }

    /// No or no good certificate. The same words for unknown, locked, revoked and foreign nodes.
    pub(crate) fn stranger() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "not_accepted",
            "this certificate is not accepted; an administrator can issue a new join code",
        )
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid", message)
    }

    pub(crate) fn too_many(seconds: u64) -> Self {
        let message = format!("too many tries; try again in {seconds} s");
        Self { retry_after: Some(seconds), ..Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many", message) }
    }

    /// Our own fault: logged here, told without detail.
    pub(crate) fn failed(error: impl std::fmt::Display) -> Self {
        tracing::error!("a node's request failed: {error:#}");
        Self {
            retry_after: Some(2),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "failed", "control could not do this now; try again")
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::failed(error)
    }
}

impl From<BadRecord> for Refusal {
    fn from(error: BadRecord) -> Self {
        Self::failed(error)
    }
}

impl From<anyhow::Error> for Refusal {
    fn from(error: anyhow::Error) -> Self {
        Self::failed(error)
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Pki(error) => Self::failed(error),
            other => Self::new(StatusCode::FORBIDDEN, other.code(), other.to_string()),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let detail = ErrorDetail { code: self.code.to_owned(), message: self.message };
        let mut response = (self.status, Json(ErrorBody { error: detail })).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
