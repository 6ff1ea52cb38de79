//! Refusals of the admin API: a status, a stable code, and a sentence that says what to do.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use sluice_control_domain::{BadRecord, StoreError};
use sluice_node_identity::{
    BadName,
    api::{ErrorBody, ErrorDetail},
};

use crate::ServiceError;

/// One refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// HTTP status.
    pub status: StatusCode,
    /// Stable, snake_case.
    pub code: &'static str,
    /// For people.
    pub message: String,
}

impl ApiError {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    /// Nothing here, or nothing for this caller: the two look the same.
    pub fn not_found() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not_found",
            "there is nothing here for you; check the path and your token's tenant",
        )
    }

    /// A stream that is not there any more. Asked only about connectors that the caller may touch.
    pub fn ended() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "ended",
            "this stream has ended already, or its connector has not told of it yet; look at the list again",
        )
    }

    /// Wrong method.
    pub fn method() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "this path does not answer this method; see /api/v1/openapi.json",
        )
    }

    /// No token, or one that is wrong, expired or revoked.
    pub fn unauthorized() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "send Authorization: Bearer with a token that has not expired",
        )
    }

    /// The token is good but gives too little right.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    /// The request says something impossible.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", message)
    }

    /// The name is taken.
    pub fn exists(what: &str) -> Self {
        Self::new(
            StatusCode::CONFLICT,
            "exists",
            format!("this {what} exists already; choose another name or use the existing one"),
        )
    }

    /// Somebody else changed it meanwhile.
    pub fn conflict() -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", "this was changed by somebody else just now; look again and repeat")
    }

    /// Something else needs it.
    pub fn in_use(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "in_use", message)
    }

    /// Too much at once.
    pub fn busy(message: impl Into<String>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many", message)
    }

    /// A signed list that is not, byte for byte, the one that waits, or that no agent would take.
    pub fn not_taken(why: &sluice_control_domain::policy::NotTaken) -> Self {
        Self::new(StatusCode::CONFLICT, "not_the_list", why.to_string())
    }

    /// Our own fault; the cause is logged, not sent.
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        tracing::error!(%cause, "admin request failed");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "failed",
            "control could not do this now; try again, then look into its log",
        )
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::internal(error)
    }
}

impl From<BadRecord> for ApiError {
    fn from(error: BadRecord) -> Self {
        Self::internal(error)
    }
}

impl From<BadName> for ApiError {
    fn from(error: BadName) -> Self {
        Self::invalid(error.to_string())
    }
}

impl From<ServiceError> for ApiError {
    fn from(error: ServiceError) -> Self {
        match error {
            ServiceError::NotFound(message) => Self::new(StatusCode::NOT_FOUND, "not_found", message),
            ServiceError::Refused(message) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "refused", message),
            ServiceError::Failed(message) => Self::new(StatusCode::BAD_GATEWAY, "failed", message),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = ErrorBody { error: ErrorDetail { code: self.code.to_owned(), message: self.message } };
        let mut response = (self.status, Json(body)).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
