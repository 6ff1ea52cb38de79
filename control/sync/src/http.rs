//! Requests and responses as values.

use serde::{Deserialize, Serialize};

/// Method of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// Reads.
    Get,
    /// Creates, or runs a verb of the system's own.
    Post,
    /// Replaces.
    Put,
    /// Changes.
    Patch,
    /// Removes.
    Delete,
}

impl Method {
    /// As on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

/// What to send. Holds no credential: the shell adds `Authorization` at the last moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Method.
    pub method: Method,
    /// Path and query, as on the wire.
    pub target: String,
    /// Headers, `Host` among them.
    pub headers: Vec<(String, String)>,
    /// Body, JSON.
    pub body: Option<Vec<u8>>,
}

/// What came back. The shell bounds its size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Headers.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
}

impl Response {
    /// First header of that name (any case).
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(have, _)| have.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Seconds to wait before asking again, when this response means "not now" (429, 502, 503, 504).
    #[must_use]
    pub fn retry_after(&self) -> Option<u32> {
        matches!(self.status, 429 | 502 | 503 | 504)
            .then(|| self.header("retry-after").and_then(|text| text.trim().parse().ok()).unwrap_or(2))
    }
}
