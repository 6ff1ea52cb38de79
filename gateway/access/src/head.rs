//! The strict reader of an HTTP/1.1 request head (RFC 9112 §2–§6): what two readers could understand differently is
//! refused, never repaired.

use thiserror::Error;

/// Longest head, in bytes.
pub const MAX_HEAD: usize = 32 * 1024;
/// Most header fields of one request, over HTTP/1.1 and HTTP/2.
pub const MAX_HEADERS: usize = 100;
const MAX_METHOD: usize = 32;
const MAX_TARGET: usize = 8 * 1024;

/// Why a head is refused. The client's fault; the connection ends.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum HeadError {
    /// More than [`MAX_HEAD`] bytes.
    #[error("the request head is longer than {MAX_HEAD} bytes")]
    TooLong,
    /// More than [`MAX_HEADERS`] fields.
    #[error("the request has more than {MAX_HEADERS} header fields")]
    TooMany,
    /// A line that does not end in CR LF, or a control character.
    #[error("the request head holds a bare line break or a control character")]
    Control,
    /// Not `METHOD /path HTTP/1.1`.
    #[error("the request line is not METHOD /path HTTP/1.1")]
    RequestLine,
    /// Not `Name: value`.
    #[error("a header field is malformed")]
    Field,
    /// None, several, or not a host.
    #[error("the request needs exactly one host field that names a host")]
    Host,
    /// Lengths that contradict each other or cannot be trusted.
    #[error("the length of the request body is ambiguous")]
    Length,
}

/// A whole head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Bytes up to and including the empty line; what follows is body.
    pub length: usize,
}

/// Collects the bytes of one head.
#[derive(Debug, Default)]
pub struct HeadReader {
    bytes: Vec<u8>,
    scanned: usize,
}

impl HeadReader {
    /// Whether not a single byte has come.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// All bytes so far, the body's first ones included.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Takes more bytes; gives the head once it is whole.
    ///
    /// # Errors
    /// [`HeadError`]; the connection must end then.
    pub fn feed(&mut self, more: &[u8]) -> Result<Option<Head>, HeadError> {
        self.bytes.extend_from_slice(more);
        while let Some(byte) = self.bytes.get(self.scanned).copied() {
            let before = self.scanned.checked_sub(1).and_then(|at| self.bytes.get(at)).copied();
            match (before, byte) {
                (Some(b'\r'), b'\n') => {
                    let length = self.scanned.saturating_add(1);
                    let head = self.bytes.get(..length).unwrap_or_default();
                    if head.ends_with(b"\r\n\r\n") {
                        check(head)?;
                        return Ok(Some(Head { length }));
                    }
                    if length == 2 {
                        return Err(HeadError::RequestLine);
                    }
                }
                (Some(b'\r'), _) | (_, b'\n') => return Err(HeadError::Control),
                (_, b'\r' | b'\t') => {}
                (_, 0..0x20 | 0x7f) => return Err(HeadError::Control),
                _ => {}
            }
            self.scanned = self.scanned.saturating_add(1);
            if self.scanned >= MAX_HEAD {
                return Err(HeadError::TooLong);
            }
        }
        Ok(None)
    }
}

/// `head` ends with an empty line and has no bare CR or LF.
fn check(head: &[u8]) -> Result<(), HeadError> {
    let text = head.strip_suffix(b"\r\n\r\n").ok_or(HeadError::Control)?;
    let mut lines = text.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let is_http_1_0 = check_request_line(lines.next().ok_or(HeadError::RequestLine)?)?;
    let mut seen = Seen::default();
    for (index, line) in lines.enumerate() {
        if index >= MAX_HEADERS {
            return Err(HeadError::TooMany);
        }
        let colon = line.iter().position(|byte| *byte == b':').ok_or(HeadError::Field)?;
        let (name, value) =
            (line.get(..colon).unwrap_or_default(), line.get(colon.saturating_add(1)..).unwrap_or_default());
        // White space in or before a name, an empty name and a folded line all fail here.
        if name.is_empty() || !name.iter().copied().all(is_token) {
            return Err(HeadError::Field);
        }
        seen.note(name, value.trim_ascii());
    }
    seen.judge(is_http_1_0)
}

fn check_request_line(line: &[u8]) -> Result<bool, HeadError> {
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(HeadError::RequestLine);
    };
    let method_ok =
        (1..=MAX_METHOD).contains(&method.len()) && method.iter().copied().all(is_token) && method != b"CONNECT";
    // Only the origin form: an absolute form could name another host than the host field does.
    let target_ok = target.len() <= MAX_TARGET
        && target.starts_with(b"/")
        && target.iter().all(|byte| (0x21..0x7f).contains(byte) && *byte != b'#');
    match version {
        b"HTTP/1.1" if method_ok && target_ok => Ok(false),
        b"HTTP/1.0" if method_ok && target_ok => Ok(true),
        _ => Err(HeadError::RequestLine),
    }
}

#[derive(Default)]
struct Seen {
    hosts: u32,
    lengths: u32,
    codings: u32,
    upgrade: bool,
    bad: bool,
    length: bool,
}

impl Seen {
    fn note(&mut self, name: &[u8], value: &[u8]) {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if is("host") {
            let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']');
            let usable = !value.is_empty() && value.iter().all(plain);
            self.hosts = self.hosts.saturating_add(if usable { 1 } else { 2 });
        } else if is("content-length") {
            self.lengths = self.lengths.saturating_add(1);
            self.bad |= !is_length(value);
            self.length |= value != b"0";
        } else if is("transfer-encoding") {
            self.codings = self.codings.saturating_add(1);
            self.bad |= !value.eq_ignore_ascii_case(b"chunked");
        } else if is("upgrade") {
            self.upgrade = true;
        } else if lookalike(name) {
            self.bad = true;
        }
    }

    fn judge(&self, is_http_1_0: bool) -> Result<(), HeadError> {
        if self.hosts != 1 {
            return Err(HeadError::Host);
        }
        let both = self.lengths > 0 && self.codings > 0;
        let body = self.codings > 0 || self.length;
        if self.bad
            || both
            || self.lengths > 1
            || self.codings > 1
            || (is_http_1_0 && self.codings > 0)
            || (self.upgrade && body)
        {
            return Err(HeadError::Length);
        }
        Ok(())
    }
}

/// Digits only, and few enough for every reader's integer.
fn is_length(value: &[u8]) -> bool {
    (1..=18).contains(&value.len()) && value.iter().all(u8::is_ascii_digit)
}

/// `Content_Length`, `Transfer_Encoding`: the same to a CGI program, not to us.
fn lookalike(name: &[u8]) -> bool {
    let same = |known: &[u8]| {
        name.len() == known.len()
            && name
                .iter()
                .zip(known)
                .all(|(a, b)| a.eq_ignore_ascii_case(b) || (*b == b'-' && !a.is_ascii_alphanumeric()))
    };
    same(b"content-length") || same(b"transfer-encoding")
}

const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        )
}

/// The same judgement for a request whose fields are already apart (HTTP/2): what is wrong with it, if anything.
#[must_use]
pub fn header_ambiguity<'a>(fields: impl Iterator<Item = (&'a str, &'a [u8])>) -> Option<HeadError> {
    let mut seen = Seen { hosts: 1, ..Seen::default() };
    for (index, (name, value)) in fields.enumerate() {
        if index >= MAX_HEADERS {
            return Some(HeadError::TooMany);
        }
        if !name.eq_ignore_ascii_case("host") {
            seen.note(name.as_bytes(), value);
        }
    }
    // HTTP/2 has its own framing: a coding field there is an attempt at request smuggling (RFC 9113 §8.2.2).
    if seen.codings > 0 {
        return Some(HeadError::Length);
    }
    seen.judge(false).err()
}

#[cfg(test)]
#[path = "head_tests.rs"]
mod tests;
