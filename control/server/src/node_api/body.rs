//! Request bodies: JSON, whole, short, and in time.

use axum::{
    body::to_bytes,
    extract::{FromRequest, Request},
    http::StatusCode,
};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::refusal::Refusal;
use crate::connection::DEADLINE;

/// Longest body: a gateway's thousand tunnels fit.
const MAX_BODY: usize = 256 * 1024;

/// A body of type `T`, at most `MAX` bytes long.
pub(super) struct Body<T, const MAX: usize = MAX_BODY>(pub(super) T);

impl<T: DeserializeOwned, S: Sync, const MAX: usize> FromRequest<S> for Body<T, MAX> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        let slow = |_| Refusal::new(StatusCode::REQUEST_TIMEOUT, "too_slow", "the body did not arrive in time");
        let bytes = timeout(DEADLINE, to_bytes(request.into_body(), MAX)).await.map_err(slow)?;
        let bytes = bytes.map_err(|_| {
            Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "too_long", format!("a body has at most {MAX} bytes"))
        })?;
        let parsed = serde_json::from_slice(&bytes);
        parsed.map(Self).map_err(|error| Refusal::invalid(format!("the body is not what this call takes: {error}")))
    }
}
