//! The TLS port: doors by name, PROXY v2, deadlines, noise.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod world;

use std::{net::SocketAddr, time::Duration};

use sluice_node_identity::Role;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use world::{PER_ADDRESS, World, random};

const UNRECOGNIZED_NAME: [u8; 7] = [0x15, 3, 1, 0, 2, 2, 112];

/// A real ClientHello.
fn hello(name: &str) -> Vec<u8> {
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let name = name.to_owned().try_into().unwrap();
    let mut client = rustls::ClientConnection::new(config.into(), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// What comes back for `bytes` until the connection ends, which must be soon.
async fn answer(address: SocketAddr, bytes: &[u8], within: u64) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    drop(stream.write_all(bytes).await);
    let mut back = Vec::new();
    drop(timeout(Duration::from_secs(within), stream.read_to_end(&mut back)).await.expect("the connection stays open"));
    back
}

fn proxy_header() -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    bytes.extend([198, 51, 100, 7, 192, 0, 2, 10, 0x12, 0x67, 0x01, 0xbb]);
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_and_missing_names_get_an_alert_and_nothing_else() {
    let world = World::start().await;
    for name in ["other.test", "acme.test", "192.0.2.1", "est.globex.test"] {
        assert_eq!(answer(world.address, &hello(name), 20).await, UNRECOGNIZED_NAME, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_name_has_its_own_door() {
    let world = World::start().await;
    assert_eq!(world.curl("console.sluice.test").get("/").await, (200, "console".into()));
    assert_eq!(world.curl("node.sluice.test").get("/").await.0, 404);
    assert_eq!(world.curl("pages.sluice.test").get("/").await.0, 0, "no handshake without a certificate");
    let (gateway, edge) = (world.joined("gw-1", Role::Gateway).await, world.joined("edge-1", Role::Edge).await);
    let pages = || world.curl("pages.sluice.test");
    assert_eq!(pages().cert(&gateway).get("/").await, (200, "pages for gw-1".into()));
    assert_eq!(pages().cert(&edge).get("/").await.0, 403, "only gateways publish the pages");
}

async fn first_byte(address: SocketAddr, bytes: &[u8]) -> u8 {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut first = [0];
    timeout(Duration::from_secs(20), stream.read_exact(&mut first)).await.unwrap().unwrap();
    first[0]
}

#[tokio::test(flavor = "multi_thread")]
async fn named_peers_speak_for_others_or_for_themselves_and_nothing_else() {
    let world = World::start_with(&["127.0.0.0/8"]).await;
    let own = hello("console.sluice.test");
    assert_eq!(first_byte(world.address, &[proxy_header(), own.clone()].concat()).await, 0x16, "a ServerHello");
    assert_eq!(first_byte(world.address, &own).await, 0x16, "a gateway's own call");
    let twice = [proxy_header(), proxy_header(), own.clone()].concat();
    assert_ne!(answer(world.address, &twice, 20).await.first(), Some(&0x16));
    let mut broken = proxy_header();
    broken[12] = 0x11;
    broken.extend(own);
    assert_eq!(answer(world.address, &broken, 20).await, b"");
}

#[tokio::test(flavor = "multi_thread")]
async fn proxy_headers_are_refused_from_everybody_else() {
    let world = World::start_with(&["203.0.113.0/24"]).await;
    let with = [proxy_header(), hello("console.sluice.test")].concat();
    assert_ne!(answer(world.address, &with, 20).await.first(), Some(&0x16));
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_and_slow_connections_end_by_themselves() {
    let world = World::start().await;
    let half = hello("console.sluice.test")[..40].to_vec();
    let (silent, slow) = tokio::join!(answer(world.address, b"", 50), answer(world.address, &half, 50));
    assert_eq!((silent, slow), (vec![], vec![]));
}

/// TLS to `host` without a client certificate.
async fn tls(world: &World, host: &str) -> tokio_rustls::client::TlsStream<TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(world.keys.node_root().der().to_vec().into()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(world.address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    connector.connect(host.to_owned().try_into().unwrap(), stream).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_trickle_end_by_themselves() {
    let world = World::start().await;
    for host in ["console.sluice.test", "node.sluice.test"] {
        let (mut back, mut front) = tokio::io::split(tls(&world, host).await);
        let head = format!("POST /echo HTTP/1.1\r\nHost: {host}\r\nContent-Length: 10000\r\n\r\n");
        front.write_all(head.as_bytes()).await.unwrap();
        let trickle = tokio::spawn(async move {
            while front.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
        let mut answer = Vec::new();
        drop(timeout(Duration::from_secs(60), back.read_to_end(&mut answer)).await.expect("held for ever"));
        trickle.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn random_and_truncated_bytes_change_nothing() {
    let world = World::start().await;
    let whole = hello("node.sluice.test");
    let mut shapes: Vec<Vec<u8>> = (0..60).map(|_| random::<300>()[..random::<1>()[0] as usize + 1].to_vec()).collect();
    shapes.extend((1..whole.len()).step_by(23).map(|end| whole[..end].to_vec()));
    for at in (0..whole.len()).step_by(29) {
        let mut changed = whole.clone();
        changed[at] ^= 0x41;
        shapes.push(changed);
    }
    for bytes in shapes {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        drop(stream.write_all(&bytes).await);
        drop(stream.shutdown().await);
        let mut back = Vec::new();
        drop(timeout(Duration::from_secs(60), stream.read_to_end(&mut back)).await.expect("still open"));
    }
    assert_eq!(world.curl("console.sluice.test").get("/").await.0, 200, "still serving");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_cannot_take_all_connections_and_others_still_get_in() {
    let world = World::start_with(&["127.0.0.0/8"]).await;
    let own = hello("console.sluice.test");
    let mut held = Vec::new();
    for _ in 0..PER_ADDRESS {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        stream.write_all(&[proxy_header(), own.clone()].concat()).await.unwrap();
        let mut first = [0];
        timeout(Duration::from_secs(20), stream.read_exact(&mut first)).await.unwrap().unwrap();
        held.push(stream);
    }
    let more = answer(world.address, &[proxy_header(), own.clone()].concat(), 20).await;
    assert_eq!(more, b"", "one too many");
    assert_eq!(first_byte(world.address, &own).await, 0x16, "another address");
}
