//! Web proxies, their scripts, keytabs.

use super::{Seed, seed as one};

const OFFERS: &str = "Proxy-Authenticate: Negotiate\r\nProxy-Authenticate: NTLM\r\nProxy-Authenticate: Digest \
                      realm=\"corp\", nonce=\"bm9uY2U=\", qop=\"auth,auth-int\", algorithm=SHA-256, stale=false, \
                      opaque=\"o\"\r\nProxy-Authenticate: Basic realm=\"corp\"\r\n";

pub(crate) fn seeds() -> Vec<Seed> {
    let mut seeds = replies();
    seeds.extend(challenges());
    seeds.extend(rules());
    seeds.extend(scripts());
    seeds.extend(keytabs());
    seeds.extend(ntlm());
    seeds
}

fn replies() -> Vec<Seed> {
    let refusal = |more: &str| format!("HTTP/1.1 407 Proxy Authentication Required\r\n{OFFERS}{more}");
    vec![
        one("proxy_reply", "good-open", "HTTP/1.1 200 Connection established\r\n\r\n"),
        one("proxy_reply", "good-interim", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n"),
        one("proxy_reply", "good-length", refusal("Content-Length: 5\r\n\r\n<html")),
        one(
            "proxy_reply",
            "good-chunked",
            refusal("Transfer-Encoding: chunked\r\n\r\n5;a=b\r\n<html\r\n0\r\nT: u\r\n\r\n"),
        ),
        one("proxy_reply", "good-close", refusal("Connection: close\r\n\r\n<html>")),
        one("proxy_reply", "good-old", "HTTP/1.0 407 No\r\nProxy-Connection: keep-alive\r\nContent-Length: 0\r\n\r\n"),
        one("proxy_reply", "good-forbidden", "HTTP/1.1 403 Forbidden\r\nX-Squid-Error: ERR_ACCESS_DENIED 0\r\n\r\n"),
        one(
            "proxy_reply",
            "good-quotes",
            refusal(
                "Proxy-Authenticate: Digest realm=\"a\\\"\\\\\", nonce=\"\\\"\", qop=auth\r\nContent-Length: 0\r\n\r\n",
            ),
        ),
        one(
            "proxy_reply",
            "good-basic-then-refused",
            "HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n\u{1e}\
             HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n",
        ),
        one(
            "proxy_reply",
            "good-digest-then-basic",
            "HTTP/1.1 407 No\r\nProxy-Authenticate: Digest realm=\"x\", nonce=\"a\", qop=\"auth\"\r\nContent-Length: 0\r\n\r\n\u{1e}\
             HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n\u{1e}HTTP/1.1 200 OK\r\n\r\n",
        ),
        one(
            "proxy_reply",
            "good-ticket-refused-with-token",
            format!(
                "{}\u{1e}HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate oQcwBaADCgEC\r\nContent-Length: 0\r\n\r\n\u{1e}{}\u{1e}\
                 HTTP/1.1 407 No\r\nProxy-Authenticate: NTLM TlRMTVNTUAAC\r\nContent-Length: 0\r\n\r\n\u{1e}HTTP/1.1 200 OK\r\n\r\n",
                refusal("Content-Length: 0\r\n\r\n"),
                refusal("Content-Length: 0\r\n\r\n")
            ),
        ),
        one("proxy_reply", "bad-early", "HTTP/1.1 200 OK\r\n\r\n<html>"),
        one(
            "proxy_reply",
            "bad-both-lengths",
            refusal("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ),
        one("proxy_reply", "bad-two-lengths", refusal("Content-Length: 5\r\nContent-Length: 6\r\n\r\n<html>")),
        one("proxy_reply", "bad-chunk", refusal("Transfer-Encoding: chunked\r\n\r\n-1\r\n")),
        one("proxy_reply", "bad-folded", "HTTP/1.1 407 No\r\nProxy-Authenticate: Basic\r\n realm=x\r\n\r\n"),
        one("proxy_reply", "bad-greeting", "SSH-2.0-OpenSSH_9.2p1\r\n"),
    ]
}

fn challenges() -> Vec<Seed> {
    vec![
        one(
            "proxy_challenge",
            "good-each",
            "Basic realm=\"corp\"\nNTLM\nNegotiate YIIB==\nDigest realm=x, nonce = \"y\"",
        ),
        one("proxy_challenge", "good-together", "Negotiate, NTLM TlRMTVNTUAAC=, Basic realm=\"a, b=\\\"c\\\"\",,"),
        one("proxy_challenge", "bad-open-quote", "Basic realm=\"corp"),
        one("proxy_challenge", "bad-parameter-first", "realm=\"corp\", Basic"),
        one("proxy_challenge", "bad-twice", "Digest nonce=a, nonce=b"),
        one("proxy_challenge", "bad-token-and-more", "Negotiate abc def"),
    ]
}

fn rules() -> Vec<Seed> {
    let hosts = "gw.acme.test:443\nnotacme.test:443\n10.1.2.3:443\n[fd00::1]:8443\nlocalhost:1";
    vec![
        one(
            "no_proxy",
            "good-all-kinds",
            format!("localhost,.acme.test *.corp.test,10.0.0.0/8,[fd00::1]:8443,a:80\n{hosts}"),
        ),
        one("no_proxy", "good-star", format!("*\n{hosts}")),
        one("no_proxy", "bad-network", "10.0.0.0/33\nx:1"),
        one("no_proxy", "bad-port", "x:99999\nx:1"),
    ]
}

fn scripts() -> Vec<Seed> {
    vec![
        one("pac", "good-list", "PROXY p.corp.test:8080; HTTPS s.corp.test:443;SOCKS x:1; DIRECT"),
        one("pac", "good-nothing", ""),
        one("pac", "good-six", "PROXY [2001:db8::1]:3128"),
        one("pac", "bad-kind", "QUIC p:1"),
        one("pac", "bad-line-end", "PROXY p:1\r\nX: y:2"),
        one("pac", "bad-login", "PROXY u:p@h:1; DIRECT"),
        one("pac", "bad-only-socks", "SOCKS5 p:1"),
    ]
}

fn keytabs() -> Vec<Seed> {
    let text = |text: &str| [&u16::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat();
    let entry = |version: u8, kind: u16, length: usize| {
        let key = [&u16::try_from(length).unwrap().to_be_bytes()[..], &vec![0x5a; length]].concat();
        let body = [
            &1_u16.to_be_bytes()[..],
            &text("CORP.TEST"),
            &text("svc"),
            &[0; 8],
            &[version],
            &kind.to_be_bytes(),
            &key,
        ]
        .concat();
        [&i32::try_from(body.len()).unwrap().to_be_bytes()[..], &body].concat()
    };
    let good = [&[5, 2][..], &entry(1, 17, 16), &entry(2, 18, 32)].concat();
    let hole = [&good[..], &(-4_i32).to_be_bytes(), &[0; 4], &entry(3, 18, 32)].concat();
    vec![
        one("keytab", "good-two", good.clone()),
        one("keytab", "good-hole", hole),
        one("keytab", "bad-cut", &good[..good.len() - 1]),
        one("keytab", "bad-version", [&[5, 1][..], &good[2..]].concat()),
        one("keytab", "bad-huge", [&[5, 2][..], &i32::MAX.to_be_bytes()].concat()),
        one("keytab", "bad-smallest", [&[5, 2][..], &i32::MIN.to_be_bytes()].concat()),
    ]
}

fn ntlm() -> Vec<Seed> {
    let challenge = |info: &[u8]| {
        let length = u16::try_from(info.len()).unwrap().to_le_bytes();
        [
            b"NTLMSSP\0\x02\0\0\0\0\0\0\0\x30\0\0\0\x07\x82\x88\xa0".as_slice(),
            &[0x11; 8],
            &[0; 8],
            &length,
            &length,
            &48_u32.to_le_bytes(),
            info,
        ]
        .concat()
    };
    let pairs = b"\x02\0\x04\0C\0O\0\x07\0\x08\0\x01\x02\x03\x04\x05\x06\x07\x08\x06\0\x04\0\0\0\0\0\0\0\0\0";
    vec![
        one("ntlm", "good-timed", challenge(pairs)),
        one("ntlm", "good-plain", challenge(b"\x02\0\x04\0C\0O\0\0\0\0\0")),
        one("ntlm", "good-old", &challenge(b"")[..40]),
        one("ntlm", "bad-cut-pair", challenge(b"\x02\0\xff\0C\0")),
        one("ntlm", "bad-kind", b"NTLMSSP\0\x01\0\0\0\x07\x82\x88\xa0".as_slice()),
    ]
}
