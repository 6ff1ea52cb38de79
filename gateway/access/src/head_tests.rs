//! Heads that are taken, heads that are refused, and bytes that are neither.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use proptest::prelude::*;

use super::*;

fn read(bytes: &[u8]) -> Result<Option<Head>, HeadError> {
    HeadReader::default().feed(bytes)
}

fn with(fields: &str) -> Result<Option<Head>, HeadError> {
    read(format!("POST /a?b=c HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n").as_bytes())
}

#[test]
fn plain_heads_pass() {
    let head = b"GET / HTTP/1.1\r\nHost: a.test\r\nAccept: */*\r\n\r\n";
    assert_eq!(read(head), Ok(Some(Head { length: head.len() })));
    let both = [head.as_slice(), b"body\n\0"].concat();
    assert_eq!(read(&both), Ok(Some(Head { length: head.len() })));
    assert!(with("Content-Length: 12\r\n").unwrap().is_some());
    assert!(with("Transfer-Encoding: Chunked\r\n").unwrap().is_some());
    assert!(with("Upgrade: websocket\r\nConnection: Upgrade\r\n").unwrap().is_some());
    assert!(with("Upgrade: h2c\r\nContent-Length: 0\r\n").unwrap().is_some());
    assert!(with("Name: caf\u{e9}\r\n").unwrap().is_some());
}

#[test]
fn g1_smuggling_shapes_are_refused() {
    for (fields, error) in [
        ("Content-Length: 1\r\nContent-Length: 1\r\n", HeadError::Length),
        ("Content-Length: 1\r\nContent-Length: 2\r\n", HeadError::Length),
        ("Content-Length: 1, 1\r\n", HeadError::Length),
        ("Content-Length: +1\r\n", HeadError::Length),
        ("Content-Length: -0\r\n", HeadError::Length),
        ("Content-Length: 0x1\r\n", HeadError::Length),
        ("Content-Length: \r\n", HeadError::Length),
        ("Content-Length: 99999999999999999999\r\n", HeadError::Length),
        ("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", HeadError::Length),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", HeadError::Length),
        ("Transfer-Encoding: gzip, chunked\r\n", HeadError::Length),
        ("Transfer-Encoding: chunked, identity\r\n", HeadError::Length),
        ("Transfer-Encoding: identity\r\n", HeadError::Length),
        ("Transfer-Encoding: \"chunked\"\r\n", HeadError::Length),
        ("Transfer-Encoding: xchunked\r\n", HeadError::Length),
        ("Transfer-Encoding:\x0bchunked\r\n", HeadError::Control),
        ("Transfer_Encoding: chunked\r\n", HeadError::Length),
        ("content_length: 3\r\n", HeadError::Length),
        ("Transfer-Encoding : chunked\r\n", HeadError::Field),
        ("Transfer-Encoding\r\n", HeadError::Field),
        (" Transfer-Encoding: chunked\r\n", HeadError::Field),
        ("X: a\r\n folded\r\n", HeadError::Field),
        ("X: a\nTransfer-Encoding: chunked\r\n", HeadError::Control),
        ("X: a\rTransfer-Encoding: chunked\r\n", HeadError::Control),
        ("X: a\0b\r\n", HeadError::Control),
        (": x\r\n", HeadError::Field),
        ("Host: b.test\r\n", HeadError::Host),
        ("Upgrade: websocket\r\nContent-Length: 4\r\n", HeadError::Length),
        ("Upgrade: websocket\r\nTransfer-Encoding: chunked\r\n", HeadError::Length),
    ] {
        assert_eq!(with(fields), Err(error), "{fields:?}");
    }
}

#[test]
fn g1_ambiguous_request_lines_are_refused() {
    for line in [
        "GET http://b.test/ HTTP/1.1",
        "CONNECT b.test:443 HTTP/1.1",
        "CONNECT / HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "GET  / HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET / HTTP/1.2",
        "GET / HTTP/2.0",
        "GET / http/1.1",
        "GET /",
        "GET /#a HTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET //\u{e9} HTTP/1.1",
        " GET / HTTP/1.1",
        "G(T / HTTP/1.1",
        "",
    ] {
        let got = read(format!("{line}\r\nHost: a.test\r\n\r\n").as_bytes());
        assert_eq!(got, Err(HeadError::RequestLine), "{line:?}");
    }
    assert_eq!(read(b"GET / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"), Err(HeadError::Length));
    assert_eq!(read(b"GET / HTTP/1.1\r\n\r\n"), Err(HeadError::Host));
    for host in ["", "a@b.test", "a.test, b.test", "a.test/b", "a b"] {
        let got = read(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
        assert_eq!(got, Err(HeadError::Host), "{host:?}");
    }
    assert_eq!(read(b"GET / HTTP/1.1\nHost: a\n\n"), Err(HeadError::Control));
}

#[test]
fn long_heads_and_many_fields_are_refused() {
    let many: String = (0..=MAX_HEADERS).map(|n| format!("a{n}: b\r\n")).collect();
    assert_eq!(with(&many), Err(HeadError::TooMany));
    assert_eq!(read(&[b'A'; MAX_HEAD + 1]), Err(HeadError::TooLong));
    assert_eq!(with(&format!("a: {}\r\n", "b".repeat(MAX_HEAD))), Err(HeadError::TooLong));
}

#[test]
fn http2_fields_meet_the_same_judgement() {
    let judge =
        |fields: &[(&str, &str)]| header_ambiguity(fields.iter().map(|(name, value)| (*name, value.as_bytes())));
    assert_eq!(judge(&[("accept", "x"), ("content-length", "3")]), None);
    assert_eq!(judge(&[("transfer-encoding", "chunked")]), Some(HeadError::Length));
    assert_eq!(judge(&[("content-length", "3"), ("content-length", "3")]), Some(HeadError::Length));
    assert_eq!(judge(&[("content_length", "3")]), Some(HeadError::Length));
    assert_eq!(judge(&vec![("a", "b"); MAX_HEADERS + 1]), Some(HeadError::TooMany));
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _read = read(&bytes);
    }

    /// Cut anywhere, the verdict is the same as in one piece.
    #[test]
    fn cuts_do_not_matter(
        pieces in proptest::collection::vec(prop_oneof![
            Just("GET / HTTP/1.1\r\n"), Just("Host: a\r\n"), Just("\r\n"), Just("X: y\r\n"), Just("\n"), Just("\r"),
            Just("Content-Length: 1\r\n"), Just("Transfer-Encoding: chunked\r\n"), Just("\0"), Just(" "),
        ], 0..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let whole = pieces.concat();
        let at = cut.index(whole.len() + 1);
        let (first, second) = whole.as_bytes().split_at(at);
        let mut reader = HeadReader::default();
        let in_two = match reader.feed(first) {
            Ok(None) => reader.feed(second),
            done => done,
        };
        prop_assert_eq!(in_two, read(whole.as_bytes()));
    }

    /// What we take, an independent reading (split at CR LF, first colon) takes too, with one clear length.
    #[test]
    fn taken_heads_are_unambiguous(
        fields in proptest::collection::vec(("(?i)host|content-length|transfer-encoding|x", "[ -~]{0,10}"), 0..5),
    ) {
        let fields: String = fields.iter().map(|(name, value)| format!("{name}:{value}\r\n")).collect();
        let text = format!("GET / HTTP/1.1\r\n{fields}\r\n");
        if let Ok(Some(head)) = read(text.as_bytes()) {
            prop_assert_eq!(head.length, text.len());
            let count = |name: &str| text.lines().filter(|l| l.to_ascii_lowercase().starts_with(&format!("{name}:"))).count();
            prop_assert_eq!(count("host"), 1);
            prop_assert!(count("content-length") + count("transfer-encoding") <= 1);
        }
    }
}
