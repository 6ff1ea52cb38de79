//! One HTTP/1.1 exchange by hand, for EST clients that are fussy about bytes.
//!
//! A stock client (strongSwan 5.9) wants the answer's head whole in one TLS record and the body whole in another, with
//! a Content-Length. A general server promises none of that, so each part is one write here.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Longest head of a request.
const MAX_HEAD: usize = 8 * 1024;
/// Longest body of a request: a request for an RSA-8192 key, in base64 with line ends.
pub(super) const MAX_BODY: usize = 32 * 1024;
const MAX_HEADERS: usize = 64;

/// A request, read whole.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) host: Option<String>,
    pub(super) authorization: Option<String>,
    pub(super) body: Vec<u8>,
}

/// Why there is no request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unread {
    /// The peer closed or the connection broke: nobody is there to be answered.
    Gone,
    /// Malformed or ambiguous: 400.
    Malformed,
    /// Longer than the limits: 413.
    TooLong,
}

/// Reads one request. Chunked bodies, repeated lengths and bytes after the body are refused, not interpreted.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Request, Unread> {
    let mut bytes = Vec::with_capacity(1024);
    loop {
        if let Some((mut request, head, length)) = parse(&bytes)? {
            if length > MAX_BODY {
                return Err(Unread::TooLong);
            }
            let whole = head.saturating_add(length);
            while bytes.len() < whole {
                more(stream, &mut bytes).await?;
            }
            if bytes.len() > whole {
                return Err(Unread::Malformed);
            }
            request.body = bytes.split_off(head);
            return Ok(request);
        }
        if bytes.len() > MAX_HEAD {
            return Err(Unread::TooLong);
        }
        more(stream, &mut bytes).await?;
    }
}

async fn more(stream: &mut (impl AsyncRead + Unpin), bytes: &mut Vec<u8>) -> Result<(), Unread> {
    match stream.read_buf(bytes).await {
        Ok(0) | Err(_) => Err(Unread::Gone),
        Ok(_) => Ok(()),
    }
}

/// The request's head, where it ends, and the length of the body; `None` while the head is incomplete.
fn parse(bytes: &[u8]) -> Result<Option<(Request, usize, usize)>, Unread> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let end = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(end)) if end > MAX_HEAD => return Err(Unread::TooLong),
        Ok(httparse::Status::Complete(end)) => end,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Unread::TooLong),
        Err(_) => return Err(Unread::Malformed),
    };
    let (Some(method), Some(path)) = (parsed.method, parsed.path) else { return Err(Unread::Malformed) };
    let only = |name: &str| -> Result<Option<String>, Unread> {
        let mut values = parsed.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some(header), None) => std::str::from_utf8(header.value)
                .map(|text| Some(text.trim().to_owned()))
                .map_err(|_| Unread::Malformed),
            (Some(_), Some(_)) => Err(Unread::Malformed),
        }
    };
    if only("transfer-encoding")?.is_some() {
        return Err(Unread::Malformed);
    }
    let length = match only("content-length")? {
        None => 0,
        Some(text) if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) => return Err(Unread::Malformed),
        Some(text) => text.parse().map_err(|_| Unread::TooLong)?,
    };
    let (host, authorization) = (only("host")?, only("authorization")?);
    let request = Request { method: method.to_owned(), path: path.to_owned(), host, authorization, body: Vec::new() };
    Ok(Some((request, end, length)))
}

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Response {
    pub(super) status: &'static str,
    /// Further header lines, each with its line end.
    pub(super) headers: &'static str,
    pub(super) body: Vec<u8>,
}

impl Response {
    /// A refusal for people.
    pub(super) fn refusal(status: &'static str, text: &str) -> Self {
        Self { status, headers: "Content-Type: text/plain\r\n", body: format!("{text}\n").into_bytes() }
    }

    /// Writes it in two pieces and ends the connection.
    pub(super) async fn write(self, stream: &mut (impl AsyncWrite + Unpin)) -> std::io::Result<()> {
        let Self { status, headers, body } = self;
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await?;
        stream.flush().await?;
        if !body.is_empty() {
            stream.write_all(&body).await?;
            stream.flush().await?;
        }
        stream.shutdown().await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    fn run(bytes: &[u8], chunk: usize) -> Result<Request, Unread> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (mut near, mut far) = tokio::io::duplex(chunk.max(1));
            let bytes = bytes.to_vec();
            let writer = tokio::spawn(async move {
                if far.write_all(&bytes).await.is_ok() {
                    drop(far);
                }
            });
            let read = read(&mut near).await;
            drop(near);
            writer.await.unwrap();
            read
        })
    }

    #[test]
    fn a_request_is_read_however_it_is_cut() {
        let text = b"POST /x HTTP/1.1\r\nHost: est.test\r\nContent-Length: 4\r\nAuthorization: Basic eA==\r\n\r\nbody";
        for chunk in 1..text.len() {
            let request = run(text, chunk).unwrap();
            assert_eq!(
                (request.method.as_str(), request.path.as_str(), request.body.as_slice()),
                ("POST", "/x", &b"body"[..])
            );
            assert_eq!(request.authorization.unwrap(), "Basic eA==");
        }
    }

    #[test]
    fn ambiguous_and_oversized_requests_are_refused() {
        let cases: [(&str, Unread); 9] = [
            ("POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", Unread::Malformed),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\nx", Unread::Malformed),
            ("POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\nx", Unread::Malformed),
            ("POST / HTTP/1.1\r\nContent-Length: \r\n\r\n", Unread::Malformed),
            ("POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\nxGET / HTTP/1.1\r\n\r\n", Unread::Malformed),
            ("POST / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n", Unread::TooLong),
            ("POST / HTTP/1.1\r\nContent-Length: 40000\r\n\r\n", Unread::TooLong),
            ("POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nx", Unread::Gone),
            ("\x16\x03\x01 nonsense\r\n\r\n", Unread::Malformed),
        ];
        for (text, want) in cases {
            assert_eq!(run(text.as_bytes(), 4096).unwrap_err(), want, "{text:?}");
        }
        let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(20_000));
        assert_eq!(run(long.as_bytes(), 4096), Err(Unread::TooLong));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(100));
        assert_eq!(run(many.as_bytes(), 4096), Err(Unread::TooLong));
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), chunk in 1..64_usize) {
            drop(run(&bytes, chunk));
        }
    }
}
