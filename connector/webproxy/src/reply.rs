//! A proxy's answer to CONNECT: read strictly, with an end to everything.

use thiserror::Error;

use crate::{
    body::{Body, Chunks},
    challenge::{self, Challenge, ChallengeError, challenges},
};

/// Longest head (with any interim ones before it), bytes.
pub const MAX_HEAD: usize = 16 * 1024;
/// Longest body that is skipped to keep a connection, bytes.
pub const MAX_SKIPPED: usize = 256 * 1024;

/// What a proxy said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Status, 200 to 599.
    pub status: u16,
    /// Why, as far as it can be shown: printable ASCII, at most 100 characters.
    pub reason: String,
    /// What it wants to be answered (407).
    pub challenges: Vec<Challenge>,
    /// What was wrong with the first challenge that was not understood.
    pub malformed: Option<ChallengeError>,
    /// The nonce for next time (`Proxy-Authentication-Info`).
    pub next_nonce: Option<Vec<u8>>,
    /// Whether the connection can be used for another request; its body has been skipped.
    pub keep: bool,
}

impl Reply {
    /// Whether a tunnel is open.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.status >= 200 && self.status < 300
    }
}

/// Why an answer cannot be used. The proxy's fault.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ReplyError {
    /// Not HTTP/1.
    #[error("it does not speak HTTP/1.1 on this port")]
    NotHttp,
    /// [`MAX_HEAD`].
    #[error("its header is longer than {MAX_HEAD} bytes")]
    TooLong,
    /// More than [`MAX_FIELDS`] fields.
    #[error("its header has more than {MAX_FIELDS} fields")]
    TooManyFields,
    /// A malformed field, two lengths, an unknown transfer coding.
    #[error("its header is malformed")]
    Malformed,
    /// A body in chunks that are none.
    #[error("its body is not chunked as announced")]
    Chunk,
    /// The connection ended first.
    #[error("it hung up before its answer was complete")]
    Cut,
    /// Bytes behind the head of a 2xx, before anything was said through the tunnel.
    #[error("it says that the tunnel is open and sends a page of its own into it")]
    Early,
}

/// Reads one reply from pieces of any size.
#[derive(Clone, Debug, Default)]
pub struct ReplyReader {
    head: Vec<u8>,
    skipping: Option<Skipping>,
    seen: usize,
}

#[derive(Clone, Debug)]
struct Skipping {
    reply: Reply,
    body: Body,
    left: usize,
}

impl ReplyReader {
    /// Takes the next bytes. `None` as long as there is more to come; after a reply the reader is spent.
    ///
    /// # Errors
    /// [`ReplyError`]; the connection is of no use then.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Option<Reply>, ReplyError> {
        if self.skipping.is_some() {
            return self.skip(bytes);
        }
        let room = MAX_HEAD.saturating_add(1).saturating_sub(self.seen).saturating_sub(self.head.len());
        let (mine, beyond) = bytes.split_at_checked(room).unwrap_or((bytes, &[]));
        self.head.extend_from_slice(mine);
        loop {
            let Some((head, length)) = read_head(&self.head)? else {
                return if self.seen.saturating_add(self.head.len()) > MAX_HEAD {
                    Err(ReplyError::TooLong)
                } else {
                    Ok(None)
                };
            };
            if self.seen.saturating_add(length) > MAX_HEAD {
                return Err(ReplyError::TooLong);
            }
            let rest = self.head.split_off(length);
            self.seen = self.seen.saturating_add(length);
            // RFC 9110 §15.2: interim replies are passed over.
            if head.reply.status < 200 {
                self.head = rest;
                continue;
            }
            self.head.clear();
            return self.body(head, &rest, beyond);
        }
    }

    /// The connection ended.
    ///
    /// # Errors
    /// [`ReplyError::Cut`] unless a body that ends with the connection was being skipped.
    pub fn end(self) -> Result<Reply, ReplyError> {
        match self.skipping {
            Some(Skipping { mut reply, .. }) => {
                reply.keep = false;
                Ok(reply)
            }
            None => Err(ReplyError::Cut),
        }
    }

    fn body(&mut self, head: Head, rest: &[u8], beyond: &[u8]) -> Result<Option<Reply>, ReplyError> {
        let Head { mut reply, body } = head;
        // RFC 9110 §9.3.6: a 2xx to CONNECT has no body, whatever its header says.
        if reply.is_open() {
            return if rest.is_empty() && beyond.is_empty() { Ok(Some(reply)) } else { Err(ReplyError::Early) };
        }
        // Only a challenge is answered on the same connection.
        if reply.status != 407 || !reply.keep || body == Body::Close {
            reply.keep = false;
            return Ok(Some(reply));
        }
        self.skipping = Some(Skipping { reply, body, left: MAX_SKIPPED });
        match self.skip(rest)? {
            Some(reply) if beyond.is_empty() => Ok(Some(reply)),
            Some(_) => Err(ReplyError::Malformed),
            None => self.skip(beyond),
        }
    }

    fn skip(&mut self, bytes: &[u8]) -> Result<Option<Reply>, ReplyError> {
        let Some(skipping) = &mut self.skipping else { return Ok(None) };
        let (taken, over) = skipping.body.skip(bytes)?;
        if over {
            // Nothing was asked yet that these bytes could answer.
            return if taken == bytes.len() { Ok(self.finish(true)) } else { Err(ReplyError::Malformed) };
        }
        skipping.left = skipping.left.saturating_sub(taken);
        // A longer one is not worth its connection.
        if skipping.left == 0 { Ok(self.finish(false)) } else { Ok(None) }
    }

    fn finish(&mut self, keep: bool) -> Option<Reply> {
        self.skipping.take().map(|skipping| Reply { keep, ..skipping.reply })
    }
}

struct Head {
    reply: Reply,
    body: Body,
}

/// A head and its length, when it is whole.
fn read_head(bytes: &[u8]) -> Result<Option<(Head, usize)>, ReplyError> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    let length = match response.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(ReplyError::TooManyFields),
        Err(httparse::Error::Version | httparse::Error::Status | httparse::Error::Token) => {
            return Err(ReplyError::NotHttp);
        }
        Err(_) => return Err(ReplyError::Malformed),
    };
    let status = response.code.filter(|code| (100..600).contains(code)).ok_or(ReplyError::NotHttp)?;
    let reason = shown(response.reason.unwrap_or_default());
    let reply = Reply { status, reason, challenges: Vec::new(), malformed: None, next_nonce: None, keep: false };
    let mut head = Fields { reply, length: None, chunked: false, close: false, alive: false };
    // RFC 9110 §9.3.6: in a 2xx to CONNECT they mean nothing, and are to be ignored.
    let open = head.reply.is_open();
    let framing = |name: &str| FRAMING.iter().any(|framing| name.eq_ignore_ascii_case(framing));
    for field in response.headers.iter().filter(|field| !(open && framing(field.name))) {
        head.take(field.name, field.value)?;
    }
    head.finish(response.version == Some(1)).map(|head| Some((head, length)))
}

struct Fields {
    reply: Reply,
    length: Option<u64>,
    chunked: bool,
    close: bool,
    alive: bool,
}

impl Fields {
    fn take(&mut self, name: &str, value: &[u8]) -> Result<(), ReplyError> {
        // Realms may be in any encoding; what is compared is ASCII.
        let raw = value;
        let value = String::from_utf8_lossy(raw);
        let has = |word: &str| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(word));
        match name.to_ascii_lowercase().as_str() {
            "proxy-authenticate" if self.reply.challenges.len() < MAX_CHALLENGES_IN_ALL => match challenges(raw) {
                Ok(more) => self.reply.challenges.extend(more),
                Err(error) => self.reply.malformed = self.reply.malformed.or(Some(error)),
            },
            "proxy-authentication-info" => self.reply.next_nonce = challenge::info(raw, "nextnonce"),
            "connection" | "proxy-connection" => {
                self.close |= has("close");
                self.alive |= has("keep-alive");
            }
            "content-length" => {
                let digits = !value.is_empty() && value.len() <= 15 && value.bytes().all(|b| b.is_ascii_digit());
                let length = value.parse().ok().filter(|_| digits).ok_or(ReplyError::Malformed)?;
                if self.length.replace(length).is_some_and(|before| before != length) {
                    return Err(ReplyError::Malformed);
                }
            }
            "transfer-encoding" => {
                if self.chunked || !value.trim().eq_ignore_ascii_case("chunked") {
                    return Err(ReplyError::Malformed);
                }
                self.chunked = true;
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(self, http_1_1: bool) -> Result<Head, ReplyError> {
        let Self { mut reply, length, chunked, close, alive } = self;
        // RFC 9112 §6.3: both together is how replies are smuggled.
        if chunked && (length.is_some() || !http_1_1) {
            return Err(ReplyError::Malformed);
        }
        reply.keep = !close && (http_1_1 || alive);
        let body = match (chunked, length) {
            (true, _) => Body::Chunked(Chunks::Size(Vec::new())),
            (false, Some(length)) => Body::Length(length),
            (false, None) => Body::Close,
        };
        Ok(Head { reply, body })
    }
}

fn shown(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(MAX_REASON).collect()
}

/// What says how long a body is.
const FRAMING: [&str; 2] = ["content-length", "transfer-encoding"];
/// Most fields of a head.
const MAX_FIELDS: usize = 100;
/// Most challenges in all fields together.
const MAX_CHALLENGES_IN_ALL: usize = 64;
/// How much of a reason is shown, characters.
const MAX_REASON: usize = 100;
