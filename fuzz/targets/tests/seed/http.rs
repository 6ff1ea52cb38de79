//! Request heads, cookies, EST requests. The shapes of framing are those of published attacks on proxies.

use super::{Seed, seed as one};

pub(crate) fn seeds() -> Vec<Seed> {
    let mut seeds = heads();
    seeds.extend(cookies());
    seeds.extend(est());
    seeds
}

fn heads() -> Vec<Seed> {
    let head = |name, lines: &str| one("http_head", name, format!("{}\r\n\r\n", lines.replace('|', "\r\n")));
    let get = |name, lines: &str| head(name, &format!("GET / HTTP/1.1|Host: wiki.acme.test|{lines}"));
    let post = |name, lines: &str| head(name, &format!("POST /a?b HTTP/1.1|Host: wiki.acme.test|{lines}"));
    vec![
        head("good-get", "GET / HTTP/1.1|Host: wiki.acme.test"),
        head("good-http-1.0", "GET /x HTTP/1.0|Host: wiki.acme.test"),
        post("good-length", "Content-Length: 5"),
        post("good-chunked", "Transfer-Encoding: chunked"),
        get("good-upgrade", "Connection: Upgrade|Upgrade: websocket"),
        get("good-latin-1", "X: \u{fc}"),
        one(
            "http_head",
            "good-body-behind",
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1",
        ),
        post("bad-cve-2021-32715-plus", "Content-Length: +5"),
        post("bad-two-lengths", "Content-Length: 5|Content-Length: 6"),
        post("bad-length-list", "Content-Length: 5, 5"),
        post("bad-cl-and-te", "Content-Length: 5|Transfer-Encoding: chunked"),
        post("bad-cve-2021-21299-two-codings", "Transfer-Encoding: chunked|Transfer-Encoding: identity"),
        post("bad-cve-2026-2835-coding-list", "Transfer-Encoding: chunked, chunked"),
        post("bad-coding-unknown", "Transfer-Encoding: xchunked"),
        head("bad-coding-http-1.0", "POST / HTTP/1.0|Host: x|Transfer-Encoding: chunked"),
        post("bad-underscore", "Content_Length: 5"),
        post("bad-space-before-colon", "Content-Length : 5"),
        post("bad-cve-2026-2833-upgrade-with-body", "Upgrade: websocket|Content-Length: 5"),
        get("bad-folded", "X: a| b"),
        get("bad-second-host", "Host: evil.test"),
        head("bad-no-host", "GET / HTTP/1.1|X: y"),
        head("bad-host-with-user", "GET / HTTP/1.1|Host: a@wiki.acme.test"),
        head("bad-absolute", "GET http://evil.test/ HTTP/1.1|Host: wiki.acme.test"),
        head("bad-connect", "CONNECT /x HTTP/1.1|Host: wiki.acme.test"),
        head("bad-fragment", "GET /a#b HTTP/1.1|Host: wiki.acme.test"),
        head("bad-version", "GET / HTTP/2.0|Host: wiki.acme.test"),
        head("bad-two-spaces", "GET  / HTTP/1.1|Host: wiki.acme.test"),
        get("bad-nul", "X: a\0b"),
        get("bad-vertical-tab", "Transfer-Encoding:\u{b}chunked"),
        get("bad-empty-name", ": x"),
        get("bad-many-fields", &["A: b"; 101].join("|")),
        one("http_head", "bad-bare-lf", "GET / HTTP/1.1\nHost: x\n\n"),
        one("http_head", "bad-mixed-ends", "GET / HTTP/1.1\r\nHost: x\n\r\n"),
        one("http_head", "bad-bare-cr", "GET / HTTP/1.1\r\nHost: x\rY: z\r\n\r\n"),
        one("http_head", "bad-leading-line", "\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n"),
        one("http_head", "bad-cve-2023-4966-long-host", format!("GET / HTTP/1.1\r\nHost: {}", "a".repeat(4000))),
        one("http_head", "bad-tls", [22, 3, 1, 2, 0, 1, 0]),
    ]
}

fn cookies() -> Vec<Seed> {
    let set = |name, field: &str| one("set_cookie", name, field);
    vec![
        one("cookies", "good-session", "a=1; __Host-sluice=secret; b=2"),
        one("cookies", "good-split", "__Host-sluice-nonce=n;c=3\n__Host-sluice-login=l\nd=4"),
        one("cookies", "good-empty-value", "__Host-sluice="),
        one("cookies", "good-equals-in-value", "__Host-sluice=a=b=="),
        one("cookies", "bad-twice", "__Host-sluice=a; __Host-sluice=b"),
        one("cookies", "bad-case", "__host-sluice=a; __HOST-SLUICE=b"),
        one("cookies", "bad-nameless", "=__Host-sluice=x; ==__Host-sluice=y; __Host-sluice"),
        one("cookies", "bad-tab", "\t__Host-sluicer=x;;; ;=;"),
        one("cookies", "bad-quoted", "a=\"x; __Host-sluice-y=z\""),
        one("cookies", "bad-empty", ""),
        set("good-plain", "JSESSIONID=1; Path=/; HttpOnly\nAccept"),
        set("good-value", "a=__Host-sluice\nX-Remote-Addr"),
        set("bad-ours", "__Host-sluice=x; Path=/; Secure\nSluice-Identity"),
        set("bad-case", "__host-SLUICE-nonce=x\nSLUICE_IDENTITY"),
        set("bad-nameless", "=__Host-sluice=x\nsluice.identity"),
        set("bad-twice-nameless", "==__Host-sluice=x\nx_forwarded_user"),
        set("bad-space", " \t__Host-sluice=x\nX-Forwarded_For"),
        set("bad-no-equals", "__Host-sluice\nX_Remote-User"),
        set("bad-control", "\u{1f}__Host-sluice=x\nX.Remote.User"),
    ]
}

fn est() -> Vec<Seed> {
    let head = "POST /.well-known/est/simpleenroll HTTP/1.1\r\nHost: est.acme.test\r\n";
    let post = |name, more: &str| one("est_request", name, format!("{head}{more}"));
    vec![
        one("est_request", "good-cacerts", "GET /.well-known/est/cacerts HTTP/1.1\r\nHost: est.acme.test\r\n\r\n"),
        one(
            "est_request",
            "good-http-1.0",
            "GET /.well-known/est/a/cacerts HTTP/1.0\r\nUser-Agent: strongSwan\r\n\r\n",
        ),
        post(
            "good-enroll",
            "Authorization: Basic aDE6QUFB\r\nContent-Type: application/pkcs10\r\nContent-Length: 8\r\n\r\nMIIBAA==\n"
                [..]
                .trim_end(),
        ),
        post("good-empty", "Content-Length: 0\r\n\r\n"),
        post("bad-two-lengths", "Content-Length: 4\r\nContent-Length: 4\r\n\r\nbody"),
        post("bad-chunked", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        post("bad-plus", "Content-Length: +4\r\n\r\nbody"),
        post("bad-huge", "Content-Length: 99999999999999999999\r\n\r\n"),
        post("bad-too-long", "Content-Length: 40000\r\n\r\n"),
        post("bad-short-body", "Content-Length: 9\r\n\r\nbody"),
        post("bad-smuggled", "Content-Length: 4\r\n\r\nbodyGET / HTTP/1.1\r\n\r\n"),
        post("bad-two-hosts", "Host: other.test\r\n\r\n"),
        post("bad-two-authorizations", "Authorization: a\r\nAuthorization: b\r\n\r\n"),
        post("bad-many-fields", &format!("{}\r\n", "a: b\r\n".repeat(100))),
        one("est_request", "bad-tls", [22, 3, 1, 2, 0, 1, 0]),
        one("est_request", "bad-empty", ""),
    ]
}
