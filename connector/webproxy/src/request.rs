//! What is sent to a proxy.

use crate::place::Target;

/// A CONNECT request (RFC 9110 §9.3.6), with `Proxy-Authorization` when `authorization` is given.
pub(crate) fn connect(target: &Target, authorization: Option<&[u8]>) -> Vec<u8> {
    let mut head = format!(
        "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nUser-Agent: sluice\r\nProxy-Connection: keep-alive\r\n"
    )
    .into_bytes();
    // Values are made of base64 or of quoted text without control characters; this is the last line of defence.
    if let Some(value) = authorization.filter(|value| !value.iter().any(u8::is_ascii_control)) {
        head.extend_from_slice(b"Proxy-Authorization: ");
        head.extend_from_slice(value);
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}
