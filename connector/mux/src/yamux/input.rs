//! From bytes to frames.

use bytes::BytesMut;

use super::{
    header::{FIN, HEADER, Header},
    session::{Body, Session, Violation},
};

/// Shorter pieces are copied out of their block, so that they do not keep the whole of it.
const WORTH_KEEPING: usize = 8 * 1024;

/// Bytes that came and have not been handed over, and what is known of them.
#[derive(Debug, Default)]
pub(crate) struct Input {
    pub(crate) bytes: BytesMut,
    body: Option<Incoming>,
}

/// What is left of a body.
#[derive(Clone, Copy, Debug)]
struct Incoming {
    stream: u32,
    left: usize,
    last: bool,
}

impl Input {
    /// Nothing is half there.
    pub(crate) fn is_whole(&self) -> bool {
        self.bytes.is_empty() && self.body.is_none()
    }

    /// Hands over what has come, and says which streams were opened. True after the peer's goodbye.
    pub(crate) fn hand_over(&mut self, session: &mut Session, opened: &mut Vec<u32>) -> Result<bool, Violation> {
        loop {
            if let Some(body) = &mut self.body {
                let now = body.left.min(self.bytes.len());
                if now == 0 {
                    return Ok(false);
                }
                let piece = self.bytes.split_to(now);
                if now >= WORTH_KEEPING {
                    session.deliver(body.stream, piece);
                } else {
                    session.deliver_copy(body.stream, &piece);
                }
                body.left -= now;
                if body.left > 0 {
                    continue;
                }
                if body.last {
                    session.end(body.stream);
                }
                self.body = None;
            }
            let Some(header) = self.bytes.first_chunk::<HEADER>().copied() else { return Ok(false) };
            drop(self.bytes.split_to(HEADER));
            let header = Header::decode(header).ok_or(Violation::Frame)?;
            let (stream, left) = match session.receive(header)? {
                Body::None => continue,
                Body::Goodbye => return Ok(true),
                Body::Data(stream, length) => (stream, length),
                Body::New(stream, length) => {
                    opened.push(stream);
                    (stream, length)
                }
            };
            if left > 0 {
                self.body = Some(Incoming { stream, left: left as usize, last: header.has(FIN) });
            }
        }
    }
}
