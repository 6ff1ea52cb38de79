//! What passes to apps and back: connections kept apart, large bodies, IPv6, and what goes on while control is silent.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::{process::Command, sync::atomic::Ordering, time::Duration};

use rustls::pki_types::ServerName;
use sluice_gateway_proxy::Limits;
use support::{
    MAIL, PATIENCE, Rig, TOOL, WIKI,
    browser::{Browser, read},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

fn connection(body: &str) -> &str {
    body.lines().find_map(|line| line.strip_prefix("connection: ")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn apps_never_share_a_connection_even_at_one_address() {
    let rig = Rig::start().await;
    let mut bob = Browser::signed_in(&rig, WIKI, "bob").await;
    bob.open(MAIL, "/").await;
    bob.open(TOOL, "/").await;
    let mut by_app: Vec<Vec<String>> = vec![vec![]; 3];
    for _ in 0..6 {
        for (app, host) in [WIKI, MAIL, TOOL].into_iter().enumerate() {
            by_app[app].push(connection(&bob.get(host, "/").await.body).to_owned());
        }
    }
    for (app, seen) in by_app.iter().enumerate() {
        for other in by_app.iter().skip(app + 1) {
            assert!(seen.iter().all(|one| !other.contains(one)), "{by_app:?}");
        }
    }
    assert!(by_app[0].windows(2).any(|two| two[0] == two[1]), "connections of one app are kept: {by_app:?}");
    let tool = &by_app[2];
    assert!((1..tool.len()).all(|at| !tool[..at].contains(&tool[at])), "a stream through a tunnel serves one request");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_requests_on_one_connection_are_judged_each() {
    let rig = Rig::start().await;
    let bob = Browser::signed_in(&rig, WIKI, "bob").await;
    let mut tls = bob.connect(WIKI).await;
    let ask = |host: &str, cookies: &str| format!("GET / HTTP/1.1\r\nHost: {host}\r\nCookie: {cookies}\r\n\r\n");
    let mut statuses = vec![];
    for (host, cookies) in
        [(WIKI, bob.cookies(WIKI)), (WIKI, String::new()), (WIKI, bob.cookies(WIKI)), (MAIL, bob.cookies(WIKI))]
    {
        tls.write_all(ask(host, &cookies).as_bytes()).await.unwrap();
        let mut text = String::new();
        loop {
            let mut buffer = [0; 4096];
            let some = timeout(PATIENCE, tls.read(&mut buffer)).await.unwrap().unwrap();
            assert_ne!(some, 0, "kept");
            text.push_str(std::str::from_utf8(&buffer[..some]).unwrap());
            let answer = read(&text);
            if text.contains("\r\n\r\n") && answer.one("content-length").parse() == Ok(answer.body.len()) {
                statuses.push(answer.status);
                break;
            }
        }
    }
    assert_eq!(statuses, [200, 303, 200, 421]);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ipv6_users_are_served_and_named_to_the_app() {
    let rig = Rig::start().await;
    let mut bob = Browser::signed_in(&rig, WIKI, "bob").await.over_ipv6(&rig);
    let seen = bob.get(WIKI, "/").await;
    assert!(seen.body.to_ascii_lowercase().contains("x-forwarded-for: ::1\r\n"), "{}", seen.body);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_pass_by_http1_and_http2() {
    const SIZE: usize = 3_000_000;
    let rig = Rig::start().await;
    let bob = Browser::signed_in(&rig, WIKI, "bob").await;
    let file = rig.folder.path().join("large");
    std::fs::write(&file, vec![b'x'; SIZE]).unwrap();
    for version in ["--http1.1", "--http2"] {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "30", version, "--cacert"])
            .arg(rig.folder.path().join("root.pem"))
            .args(["--connect-to", &format!("::127.0.0.1:{}", rig.address.port())])
            .args(["--header", &format!("Cookie: {}", bob.cookies(WIKI)), "--data-binary"])
            .arg(format!("@{}", file.display()))
            .arg(format!("https://{WIKI}/upload"))
            .output()
            .expect("curl is installed");
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            text.contains(&format!("body: {SIZE}\n")),
            "{version}: {text} {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_control_is_silent_too_long_sessions_go_on_and_nothing_new_begins() {
    let rig = Rig::start().await;
    let mut bob = Browser::signed_in(&rig, WIKI, "bob").await;
    let mut late = Browser::new(&rig);
    let form = late.open(WIKI, "/").await;
    rig.factors.stale.store(true, Ordering::SeqCst);
    assert_eq!(bob.get(WIKI, "/").await.status, 200, "what runs goes on");
    assert_eq!(bob.open(MAIL, "/").await.status, 503, "no session on another host");
    assert_eq!(late.sign_in(&form, "bob", "bobs secret").await.status, 503);
    rig.factors.stale.store(false, Ordering::SeqCst);
    assert_eq!(late.sign_in(&form, "bob", "bobs secret").await.status, 200);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http2_client_that_asks_for_nothing_is_closed() {
    let limits =
        Limits { handshake: Duration::from_millis(300), idle: Duration::from_millis(300), ..Limits::default() };
    let rig = Rig::with(limits).await;
    for preface in [b"".as_slice(), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"] {
        let mut config =
            rustls::ClientConfig::builder().with_root_certificates(rig.roots.clone()).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let stream = TcpStream::connect(rig.address).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
        let mut tls = connector.connect(ServerName::try_from(WIKI).unwrap(), stream).await.unwrap();
        tls.write_all(preface).await.unwrap();
        let mut all = Vec::new();
        let _reset = timeout(PATIENCE, tls.read_to_end(&mut all)).await.expect("closed");
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_lets_a_running_request_end() {
    let rig = Rig::with(Limits { drain: Duration::from_secs(5), ..Limits::default() }).await;
    let bob = Browser::signed_in(&rig, WIKI, "bob").await;
    let mut tls = bob.connect(WIKI).await;
    let head =
        format!("POST / HTTP/1.1\r\nHost: {WIKI}\r\nCookie: {}\r\nContent-Length: 4\r\n\r\nab", bob.cookies(WIKI));
    tls.write_all(head.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let stopping = tokio::spawn(rig.stop());
    tokio::time::sleep(Duration::from_millis(200)).await;
    tls.write_all(b"cd").await.unwrap();
    let mut all = Vec::new();
    let ended = timeout(PATIENCE, tls.read_to_end(&mut all)).await.expect("an end");
    let text = String::from_utf8_lossy(&all);
    assert!(ended.is_ok(), "an end, not a cut: {ended:?}");
    assert!(text.starts_with("HTTP/1.1 200") && text.contains("body: 4\n"), "{text}");
    stopping.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_lets_whoever_was_let_in_before_ask_once() {
    let rig = Rig::with(Limits { drain: Duration::from_secs(5), ..Limits::default() }).await;
    let bob = Browser::signed_in(&rig, WIKI, "bob").await;
    let mut tls = bob.connect(WIKI).await;
    let stopping = tokio::spawn(rig.stop());
    tokio::time::sleep(Duration::from_millis(200)).await;
    let request = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: {WIKI}\r\nCookie: {}\r\n\r\n", bob.cookies(WIKI));
    tls.write_all(request("/first").as_bytes()).await.unwrap();
    let mut all = Vec::new();
    let ended = timeout(PATIENCE, tls.read_to_end(&mut all)).await.expect("an end");
    let text = String::from_utf8_lossy(&all);
    assert!(ended.is_ok(), "an end, not a cut: {ended:?}");
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    stopping.await.unwrap();
}
