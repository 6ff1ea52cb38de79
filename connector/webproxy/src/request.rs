//! What is sent to a proxy.

use std::{fmt, ops::Deref};

use zeroize::Zeroizing;

use crate::place::Target;

/// A request, which may hold a login: wiped when dropped, and never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Head(Zeroizing<Vec<u8>>);

impl Head {
    /// A CONNECT request (RFC 9110 §9.3.6), with `Proxy-Authorization` when `authorization` is given.
    pub(crate) fn connect(target: &Target, authorization: Option<&[u8]>) -> Self {
        let first = format!(
            "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nUser-Agent: sluice\r\nProxy-Connection: keep-alive\r\n"
        );
        // Values are made of base64 or of quoted text without control characters; this is the last line of defence.
        let login = authorization.filter(|value| !value.iter().any(u8::is_ascii_control));
        let name: &[u8] = if login.is_some() { b"Proxy-Authorization: " } else { b"" };
        let end: &[u8] = if login.is_some() { b"\r\n\r\n" } else { b"\r\n" };
        // Made in one piece: what outgrows its place leaves a copy behind.
        Self(Zeroizing::new([first.as_bytes(), name, login.unwrap_or_default(), end].concat()))
    }
}

impl Deref for Head {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Head(… {} bytes)", self.0.len())
    }
}
