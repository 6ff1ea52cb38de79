//! Skipping the body of a refusal, so that the connection can be used for the answer.

use crate::reply::ReplyError;

/// How a body ends (RFC 9112 §6.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// So many bytes are still to come.
    Length(u64),
    /// In chunks.
    Chunked(Chunks),
    /// With the connection.
    Close,
}

/// Where in a chunked body we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Chunks {
    /// In the line with a chunk's size; what has come of it.
    Size(Vec<u8>),
    /// In a chunk; bytes left, its line end included.
    Data(u64),
    /// Behind the last chunk: in the trailer, length of the line so far.
    Trailer(usize),
}

impl Body {
    /// Skips what belongs to the body: how many of `bytes`, and whether the body is over.
    pub(crate) fn skip(&mut self, bytes: &[u8]) -> Result<(usize, bool), ReplyError> {
        match self {
            Self::Length(left) => {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left = left.saturating_sub(taken as u64);
                Ok((taken, *left == 0))
            }
            Self::Close => Ok((bytes.len(), false)),
            Self::Chunked(chunks) => {
                for (at, byte) in bytes.iter().enumerate() {
                    if chunks.feed(*byte)? {
                        return Ok((at.saturating_add(1), true));
                    }
                }
                Ok((bytes.len(), false))
            }
        }
    }
}

impl Chunks {
    /// True with the body's last byte.
    fn feed(&mut self, byte: u8) -> Result<bool, ReplyError> {
        match self {
            Self::Size(line) => {
                line.push(byte);
                if line.len() > MAX_SIZE_LINE {
                    return Err(ReplyError::Chunk);
                }
                if byte == b'\n' {
                    let size = chunk_size(line)?;
                    *self = if size == 0 { Self::Trailer(0) } else { Self::Data(size.saturating_add(2)) };
                }
            }
            Self::Data(left) => {
                *left = left.saturating_sub(1);
                let expected = match *left {
                    1 => Some(b'\r'),
                    0 => Some(b'\n'),
                    _ => None,
                };
                if expected.is_some_and(|end| end != byte) {
                    return Err(ReplyError::Chunk);
                }
                if *left == 0 {
                    *self = Self::Size(Vec::new());
                }
            }
            Self::Trailer(length) => match byte {
                b'\n' if *length == 0 => return Ok(true),
                b'\n' => *length = 0,
                b'\r' => {}
                _ => *length = length.saturating_add(1),
            },
        }
        Ok(false)
    }
}

/// RFC 9112 §7.1: hexadecimal digits, an extension perhaps, CRLF.
fn chunk_size(line: &[u8]) -> Result<u64, ReplyError> {
    let line = line.strip_suffix(b"\r\n").ok_or(ReplyError::Chunk)?;
    let digits = line.split(|b| matches!(b, b';' | b' ' | b'\t')).next().unwrap_or_default();
    let well = !digits.is_empty() && digits.len() <= MAX_SIZE_DIGITS && digits.iter().all(u8::is_ascii_hexdigit);
    let text = std::str::from_utf8(digits).ok().filter(|_| well).ok_or(ReplyError::Chunk)?;
    u64::from_str_radix(text, 16).map_err(|_| ReplyError::Chunk)
}

/// Longest line with a chunk's size, bytes.
const MAX_SIZE_LINE: usize = 256;
/// Most digits of a chunk's size.
const MAX_SIZE_DIGITS: usize = 8;
