//! The one reader of TLS ClientHellos: which server name and which protocols does this client ask for?
//!
//! Pure, and used by whoever must decide before TLS begins: gateway, control, discovery and QoS. It reads a
//! ClientHello that may be cut into several records (RFC 8446 §4.1.2, §5.1), looks at server name (RFC 6066 §3)
//! and ALPN (RFC 7301 §3.1) only, and refuses what is ambiguous instead of guessing.

mod cursor;
mod name;
mod parse;
mod record;

use thiserror::Error;

pub use parse::ClientHello;

/// Longest run of bytes that is looked at, record headers included.
pub const MAX_BYTES: usize = 16 * 1024;
/// Most protocols in an ALPN list.
pub const MAX_PROTOCOLS: usize = 32;

/// How far reading has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress<T> {
    /// Nothing wrong so far: call again with more bytes (at most [`MAX_BYTES`] are ever needed).
    More,
    /// The whole ClientHello has been seen.
    Done(T),
}

/// Why these bytes do not begin a TLS connection that may go on. Close it; answer nothing.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum HelloError {
    /// The first bytes are no TLS handshake record.
    #[error("not a TLS handshake; is the peer speaking plain text to a TLS port?")]
    NotTls,
    /// The handshake begins with something else.
    #[error("the first handshake message is not a ClientHello")]
    NotClientHello,
    /// More than [`MAX_BYTES`].
    #[error("the ClientHello is longer than {MAX_BYTES} bytes")]
    TooLong,
    /// A length contradicts another one.
    #[error("the ClientHello is malformed")]
    Malformed,
    /// An extension, or a server name, is there twice.
    #[error("the ClientHello says something twice")]
    Duplicate,
    /// Not a DNS host name.
    #[error("the server name is not a host name")]
    BadName,
    /// An empty protocol name, or more than [`MAX_PROTOCOLS`].
    #[error("the ALPN list is not usable")]
    BadAlpn,
}

/// Reads a ClientHello from the first `bytes` of a connection. What is behind it is ignored.
///
/// More bytes of the same connection never change an answer other than [`Progress::More`].
///
/// # Errors
/// [`HelloError`]: whatever follows, this is not going to be an acceptable ClientHello.
pub fn read(bytes: &[u8]) -> Result<Progress<ClientHello>, HelloError> {
    match record::message(bytes)? {
        Progress::More => Ok(Progress::More),
        Progress::Done(body) => parse::client_hello(&body).map(Progress::Done),
    }
}
