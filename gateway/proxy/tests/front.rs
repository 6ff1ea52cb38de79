//! The port itself: what is closed, what is refused, what is passed on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::{process::Command, sync::Arc, time::Duration};

use rustls::pki_types::ServerName;
use sluice_gateway_proxy::Limits;
use support::{
    LOGIN, MAIL, PATIENCE, Rig, WIKI,
    browser::{Browser, read},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

#[tokio::test(flavor = "multi_thread")]
async fn g1_smuggling_shapes_are_refused_before_any_app_sees_them() {
    let rig = Rig::start().await;
    let bob = Browser::signed_in(&rig, WIKI, "bob").await;
    let cookie = bob.cookies(WIKI);
    for (shape, status) in [
        ("POST / HTTP/1.1\r\nHost: H\r\nC\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
        ("POST / HTTP/1.1\r\nHost: H\r\nC\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (
            "POST / HTTP/1.1\r\nHost: H\r\nC\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
            400,
        ),
        ("POST / HTTP/1.1\r\nHost: H\r\nC\r\nContent-Length: +1\r\n\r\na", 400),
        ("GET / HTTP/1.1\nHost: H\nC\n\n", 400),
        ("GET / HTTP/1.1\r\nHost: H\r\nC\r\nX: a\nY: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: H\r\nHost: H\r\nC\r\n\r\n", 400),
        ("GET https://mail.acme.test/ HTTP/1.1\r\nHost: H\r\nC\r\n\r\n", 400),
        ("CONNECT mail.acme.test:443 HTTP/1.1\r\nHost: H\r\nC\r\n\r\n", 400),
        ("POST / HTTP/1.0\r\nHost: H\r\nC\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: mail.acme.test\r\nC\r\n\r\n", 421),
        ("GET / HTTP/1.1\r\nHost: wiki.acme.test@mail.acme.test\r\nC\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: \r\nC\r\n\r\n", 400),
    ] {
        let bytes = shape
            .replace("Host: H\r\n", &format!("Host: {WIKI}\r\n"))
            .replace("C\r\n", &format!("Cookie: {cookie}\r\n"));
        let bytes = bytes.replacen("\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1);
        let answer = read(&bob.raw(WIKI, bytes.as_bytes()).await);
        assert_eq!(answer.status, status, "{shape:?}: {} {}", answer.head, answer.body);
        assert!(!answer.body.contains("Sluice-Identity"), "{shape:?} reached the app");
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g1_broken_chunks_never_become_a_second_request() {
    let rig = Rig::start().await;
    let bob = Browser::signed_in(&rig, WIKI, "bob").await;
    for chunks in [
        "ffffffffffffffff1\r\na\r\n0\r\n\r\n",
        "10000000000000000\r\na\r\n0\r\n\r\n",
        "1\na\n0\n\n",
        "1\r\nab\r\n0\r\n\r\n",
        "-1\r\na\r\n0\r\n\r\n",
        "0x1\r\na\r\n0\r\n\r\n",
        "zz\r\na\r\n0\r\n\r\n",
    ] {
        let smuggled = "GET /smuggled HTTP/1.1\r\nHost: wiki.acme.test\r\n\r\n";
        let request = format!(
            "POST /first HTTP/1.1\r\nHost: {WIKI}\r\nCookie: {}\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}{smuggled}",
            bob.cookies(WIKI)
        );
        let all = bob.raw(WIKI, request.as_bytes()).await;
        assert!(!all.contains("GET /smuggled"), "{chunks:?}: {all}");
        assert!(!all.starts_with("HTTP/1.1 200"), "{chunks:?}: {all}");
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_and_truncated_bytes_change_nothing() {
    let rig = Rig::start().await;
    let hello = {
        let config = rustls::ClientConfig::builder().with_root_certificates(rig.roots.clone()).with_no_client_auth();
        let mut client = rustls::ClientConnection::new(Arc::new(config), ServerName::try_from(WIKI).unwrap()).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    };
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for round in 0..120usize {
        let bytes: Vec<u8> = match round % 3 {
            0 => (0..next() % 400).map(|_| next().to_le_bytes()[0]).collect(),
            1 => hello[..usize::try_from(next()).unwrap() % hello.len()].to_vec(),
            _ => {
                let mut bent = hello.clone();
                let at = usize::try_from(next()).unwrap() % bent.len();
                bent[at] ^= next().to_le_bytes()[0] | 1;
                bent
            }
        };
        let mut stream = TcpStream::connect(rig.address).await.unwrap();
        let _reset = stream.write_all(&bytes).await;
        let _reset = stream.shutdown().await;
        let mut answer = Vec::new();
        let _reset = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the gateway ends it");
        assert!(!answer.starts_with(b"HTTP"), "no plain text on this port");
    }
    assert_eq!(Browser::signed_in(&rig, WIKI, "bob").await.get(WIKI, "/").await.status, 200);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_and_idle_clients_are_closed() {
    let limits =
        Limits { handshake: Duration::from_millis(300), idle: Duration::from_millis(300), ..Limits::default() };
    let rig = Rig::with(limits).await;
    let browser = Browser::new(&rig);
    // Nothing at all, then half a ClientHello.
    for first in [b"".as_slice(), b"\x16\x03\x01\x02\x00\x01"] {
        let mut stream = TcpStream::connect(rig.address).await.unwrap();
        stream.write_all(first).await.unwrap();
        let mut buffer = [0; 64];
        assert!(matches!(timeout(PATIENCE, stream.read(&mut buffer)).await.unwrap(), Ok(0) | Err(_)));
    }
    // A head that drips, although every single read is quick.
    let mut tls = browser.connect(LOGIN).await;
    let drip = async {
        for byte in b"GET / HTTP/1.1\r\nHost: login.acme.test\r\nX: ".iter().chain(std::iter::repeat(&b'a')) {
            tokio::time::sleep(Duration::from_millis(50)).await;
            if tls.write_all(&[*byte]).await.is_err() || tls.flush().await.is_err() {
                return;
            }
        }
    };
    timeout(PATIENCE, drip).await.expect("closed");
    // A kept connection without a second request.
    let mut tls = browser.connect(LOGIN).await;
    tls.write_all(b"GET /.sluice/style.css HTTP/1.1\r\nHost: login.acme.test\r\n\r\n").await.unwrap();
    let mut all = Vec::new();
    let _reset = timeout(PATIENCE, tls.read_to_end(&mut all)).await.expect("closed");
    assert!(all.starts_with(b"HTTP/1.1 200"));
    rig.stop().await;
}

/// One HTTP/2 frame (RFC 9113 §4.1).
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http2_client_that_takes_or_sends_nothing_is_closed() {
    const HEADERS: u8 = 1;
    const SETTINGS: u8 = 4;
    let short = Duration::from_millis(300);
    let rig = Rig::with(Limits { handshake: short, idle: short, write: short, ..Limits::default() }).await;
    let config = {
        let mut config =
            rustls::ClientConfig::builder().with_root_certificates(rig.roots.clone()).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Arc::new(config)
    };
    // HPACK (RFC 7541 Appendix A): 0x82 GET, 0x83 POST, 0x84 the path "/", 0x87 https, 0x01 names the authority.
    let host = |first: u8| [&[first, 0x84, 0x87, 0x01, 15], LOGIN.as_bytes()].concat();
    for (what, request) in [
        // END_STREAM and END_HEADERS, but no room is granted for the page that answers.
        ("takes nothing", frame(HEADERS, 5, 1, &host(0x82))),
        // END_HEADERS only: a body is announced and never comes.
        ("sends nothing", frame(HEADERS, 4, 1, &host(0x83))),
    ] {
        let stream = TcpStream::connect(rig.address).await.unwrap();
        let name = ServerName::try_from(LOGIN).unwrap();
        let mut tls = TlsConnector::from(config.clone()).connect(name, stream).await.unwrap();
        let no_window = frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
        let all = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &no_window, &request].concat();
        tls.write_all(&all).await.unwrap();
        let mut answer = Vec::new();
        let _reset = timeout(PATIENCE, tls.read_to_end(&mut answer)).await.unwrap_or_else(|_| panic!("{what}"));
        // Our side of the settings, then at least a head: the request was understood.
        assert!(answer.len() > 60, "{what}: {answer:?}");
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_connections_of_one_address_are_closed() {
    let rig = Rig::with(Limits { connections_per_address: 3, ..Limits::default() }).await;
    let browser = Browser::new(&rig);
    let mut kept = vec![];
    for _ in 0..3 {
        kept.push(browser.connect(LOGIN).await);
    }
    let mut extra = TcpStream::connect(rig.address).await.unwrap();
    let mut buffer = [0; 1];
    assert!(matches!(timeout(PATIENCE, extra.read(&mut buffer)).await.unwrap(), Ok(0) | Err(_)));
    drop(kept);
    let again = async {
        loop {
            if Browser::new(&rig).try_get(LOGIN).await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, again).await.expect("a place is free again");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_not_served_get_no_answer() {
    let rig = Rig::start().await;
    let before_any_plan = rig.plan.borrow().clone();
    for (name, plan) in [("other.acme.test", true), (WIKI, false)] {
        rig.plan.send(before_any_plan.clone().filter(|_| plan)).unwrap();
        let config = rustls::ClientConfig::builder().with_root_certificates(rig.roots.clone()).with_no_client_auth();
        let stream = TcpStream::connect(rig.address).await.unwrap();
        let connecting = TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(name).unwrap(), stream);
        assert!(timeout(PATIENCE, connecting).await.unwrap().is_err(), "{name}");
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn spliced_names_are_passed_on_unread_with_the_clients_address() {
    let rig = Rig::start().await;
    let config = rustls::ClientConfig::builder().with_root_certificates(rig.roots.clone()).with_no_client_auth();
    let name = ServerName::try_from("node.sluice.test").unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    stream.write_all(&hello).await.unwrap();
    let mut text = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut text)).await.unwrap().unwrap();
    let port = stream.local_addr().unwrap().port();
    let mine = rig.address.port();
    let header = format!("0d0a0d0a000d0a515549540a2111000c7f0000017f000001{port:04x}{mine:04x}");
    assert!(text.starts_with(&header), "{text} is not {header}");
    let sent: String = hello[..36].iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(text[header.len()..], sent, "the ClientHello follows, unchanged");
    rig.stop().await;
}

fn curl(rig: &Rig, arguments: &[&str]) -> String {
    let port = rig.address.port();
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "30", "--cacert"])
        .arg(rig.folder.path().join("root.pem"))
        .args(["--connect-to", &format!("::127.0.0.1:{port}")])
        .args(["--cookie", rig.folder.path().join("jar").to_str().unwrap()])
        .args(["--cookie-jar", rig.folder.path().join("jar").to_str().unwrap()])
        .args(arguments)
        .output()
        .expect("curl is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn g2_curl_signs_in_once_over_http2_and_http1() {
    let rig = Rig::start().await;
    let start = format!("https://{WIKI}/over-h2");
    let page = curl(&rig, &["--http2", "--location", &start]);
    let form = [
        format!("form_token={}", support::browser::hidden(&page, "form_token")),
        format!("return={}", support::browser::hidden(&page, "return")),
        "login=bob".to_owned(),
        "password=bobs secret".to_owned(),
    ];
    let mut arguments = vec!["--http2", "--location"];
    for field in &form {
        arguments.extend(["--data-urlencode", field]);
    }
    let login = format!("https://{LOGIN}/login");
    arguments.push(&login);
    let seen = curl(&rig, &arguments);
    assert!(
        seen.starts_with("GET /over-h2 HTTP/1.1") && seen.to_ascii_lowercase().contains("sluice-identity:"),
        "{seen}"
    );
    let kept = curl(&rig, &["--http2", "--write-out", "version=%{http_version}", &start, &start]);
    assert_eq!(kept.matches("GET /over-h2").count(), 2, "{kept}");
    assert!(kept.contains("version=2"), "{kept}");
    let mail = curl(&rig, &["--http1.1", "--location", &format!("https://{MAIL}/")]);
    assert!(mail.starts_with("GET / HTTP/1.1"), "{mail}");
    // A request for another host on the same connection.
    let wrong =
        ["--http2", "--header", "Host: mail.acme.test", "--output", "/dev/null", "--write-out", "%{http_code}", &start];
    assert_eq!(curl(&rig, &wrong), "421");
    let posted = curl(&rig, &["--http2", "--data", "a=b", &start]);
    assert!(posted.starts_with("POST /over-h2"), "{posted}");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g6_weak_tls_is_refused_and_strong_is_taken() {
    let rig = Rig::start().await;
    let handshake = |arguments: &'static [&'static str]| {
        let output = Command::new("openssl")
            .args(["s_client", "-connect", &rig.address.to_string(), "-servername", LOGIN])
            .args(arguments)
            .stdin(std::process::Stdio::null())
            .output()
            .expect("openssl is installed");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().find(|line| line.contains("Cipher is")).unwrap_or_default().to_owned()
    };
    assert!(handshake(&["-tls1_3"]).contains("TLS_AES_256_GCM_SHA384"));
    assert!(handshake(&["-tls1_2"]).contains("ECDHE-ECDSA-AES256-GCM-SHA384"));
    for weak in [
        ["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"].as_slice(),
        &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"],
        &["-tls1_2", "-cipher", "AES256-GCM-SHA384"],
        &["-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256"],
    ] {
        let text = handshake(weak);
        assert!(text.is_empty() || text.contains("(NONE)"), "{weak:?}: {text}");
    }
    rig.stop().await;
}
