//! What is sent to a proxy.

use crate::place::Target;

/// A CONNECT request (RFC 9110 §9.3.6), with `Proxy-Authorization` when `authorization` is given.
pub(crate) fn connect(target: &Target, authorization: Option<&str>) -> Vec<u8> {
    let mut head = format!(
        "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nUser-Agent: sluice\r\nProxy-Connection: keep-alive\r\n"
    );
    // Values are made of base64 or of quoted text without control characters; this is the last line of defence.
    if let Some(value) = authorization.filter(|value| !value.chars().any(char::is_control)) {
        head.push_str("Proxy-Authorization: ");
        head.push_str(value);
        head.push_str("\r\n");
    }
    head.push_str("\r\n");
    head.into_bytes()
}
