//! Wrong bytes, late bytes and wrong peers at both ends of a tunnel.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod house;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use house::{
    CONNECTOR, GATEWAY, House, PATIENCE, Up, connector_name, echo, evil::Evil, exchange, gateway_name, peer_leaf,
    run_gateway,
};
use proptest::{prelude::*, test_runner::TestRunner};
use rustls::{pki_types::ServerName, sign::CertifiedKey};
use sluice_connector_agent::Limits;
use sluice_connector_mux::{Connection, End, read_frame, write_frame};
use sluice_connector_wire::{ALPN_TUNNEL, AgentHello, ClassPair, NodeVerifier, OpenReply, OpenRequest};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// As an agent with this certificate would connect.
async fn connect(house: &House, gateway: SocketAddr, shown: &Arc<CertifiedKey>) -> TlsStream<TcpStream> {
    let mut config = (*house.authority.client(shown)).clone();
    let verifier = NodeVerifier::new(house.authority.root(), gateway_name()).unwrap();
    config.dangerous().set_certificate_verifier(verifier);
    config.alpn_protocols = vec![ALPN_TUNNEL.to_vec()];
    let tcp = TcpStream::connect(gateway).await.unwrap();
    let name = ServerName::try_from("gw.acme.test").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap()
}

/// Waits until the other end has closed.
async fn closed(io: &mut (impl tokio::io::AsyncRead + Unpin)) {
    let mut rest = Vec::new();
    let _end = timeout(PATIENCE, io.take(1 << 20).read_to_end(&mut rest)).await.expect("closed in time");
}

fn quick() -> sluice_connector_server::Limits {
    sluice_connector_server::Limits { handshake: Duration::from_millis(300), ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn random_bytes_on_the_tunnel_port_harm_nobody() {
    let target = format!("tcp:{}", echo().await);
    let rules = vec![House::rule("roundup", &target, &[GATEWAY], &["127.0.0.1/32"])];
    let up = Up::with_limits(rules, Limits::default(), quick()).await;
    // Before TLS.
    for length in [0, 1, 5, 300, 20_000] {
        let mut bytes = vec![0; length];
        aws_lc_rs::rand::fill(&mut bytes).unwrap();
        let mut tcp = TcpStream::connect(up.gateway).await.unwrap();
        let _sent = tcp.write_all(&bytes).await;
        let _end = tcp.shutdown().await;
        closed(&mut tcp).await;
    }
    // Inside TLS, from a connector's own certificate: the least trusted who get that far.
    let mut runner = TestRunner::new(ProptestConfig::with_cases(24));
    let bytes = proptest::collection::vec(any::<u8>(), 0..400);
    let valid_start = prop_oneof![Just(Vec::new()), Just(vec![0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 40])];
    runner
        .run(&(valid_start, bytes), |(start, bytes)| {
            let handle = tokio::runtime::Handle::current();
            tokio::task::block_in_place(|| {
                handle.block_on(async {
                    let mut tls = connect(&up.house, up.gateway, &up.house.connector).await;
                    let _sent = tls.write_all(&start).await;
                    let _sent = tls.write_all(&bytes).await;
                    let _end = tls.shutdown().await;
                    closed(&mut tls).await;
                });
            });
            Ok(())
        })
        .unwrap();
    up.tunnels(1).await;
    assert_eq!(exchange(&mut up.direct("roundup", &target).await.unwrap(), b"fine").await.unwrap(), b"fine");
}

#[tokio::test(flavor = "multi_thread")]
async fn tunnel_without_a_right_hello_in_time_is_closed() {
    let house = House::new();
    let server = house.tunnel_server(quick());
    let gateway = run_gateway(&house, server.clone()).await;
    // Says nothing at all.
    closed(&mut connect(&house, gateway, &house.connector).await).await;
    for hello in [b"\x00\x00".to_vec(), b"\xff\xff".to_vec(), b"\x00\x02{}".to_vec(), b"\x00\x05{\"si".to_vec()] {
        let mut tunnel = Connection::over_tcp(connect(&house, gateway, &house.connector).await, End::Agent);
        let mut line = tunnel.opener().open().await.unwrap();
        line.write_all(&hello).await.unwrap();
        let ended = timeout(PATIENCE, tunnel.next()).await.expect("closed in time");
        assert!(ended.is_none_or(|next| next.is_err()), "{hello:?}");
    }
    // A session id that is not 128 bits, and one that is in use.
    for (sid, fine) in [("short", false), ("AAAAAAAAAAAAAAAAAAAAAA", true)] {
        let mut tunnel = Connection::over_tcp(connect(&house, gateway, &house.connector).await, End::Agent);
        let mut line = tunnel.opener().open().await.unwrap();
        write_frame(&mut line, &AgentHello { sid: sid.to_owned(), pair: ClassPair::default() }, PATIENCE)
            .await
            .unwrap();
        let kept = timeout(Duration::from_secs(1), tunnel.next()).await.is_err();
        assert_eq!(kept, fine, "{sid}");
    }
    assert!(!server.live().borrow().iter().any(|tunnel| tunnel.sid == "short"));
}

#[tokio::test(flavor = "multi_thread")]
async fn t2_only_connectors_of_the_gateways_tenant_get_a_tunnel() {
    let house = House::new();
    let server = house.tunnel_server(quick());
    let gateway = run_gateway(&house, server.clone()).await;
    for name in [
        "spiffe://sluice.test/tenant/other/connector/dc-1",
        "spiffe://sluice.test/tenant/acme/gateway/dmz-1",
        "spiffe://sluice.test/tenant/acme/edge/branch-1",
        "spiffe://sluice.test/tenant/acme/hub/dc-1",
        "spiffe://sluice.test/control",
        "spiffe://other.test/tenant/acme/connector/dc-1",
    ] {
        let shown = house.authority.issue(name);
        let mut tunnel = Connection::over_tcp(connect(&house, gateway, &shown).await, End::Agent);
        // The gateway may have gone already.
        if let Ok(mut line) = tunnel.opener().open().await {
            let hello = AgentHello { sid: "AAAAAAAAAAAAAAAAAAAAAA".to_owned(), pair: ClassPair::default() };
            let _sent = write_frame(&mut line, &hello, PATIENCE).await;
        }
        let ended = timeout(PATIENCE, tunnel.next()).await.expect("closed in time");
        assert!(ended.is_none_or(|next| next.is_err()), "{name}");
    }
    assert!(server.live().borrow().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn agent_that_opens_a_stream_itself_loses_its_tunnel() {
    let house = House::new();
    let server = house.tunnel_server(quick());
    let gateway = run_gateway(&house, server.clone()).await;
    let mut tunnel = Connection::over_tcp(connect(&house, gateway, &house.connector).await, End::Agent);
    let mut line = tunnel.opener().open().await.unwrap();
    let hello = AgentHello { sid: "AAAAAAAAAAAAAAAAAAAAAA".to_owned(), pair: ClassPair::default() };
    write_frame(&mut line, &hello, PATIENCE).await.unwrap();
    let mut second = tunnel.opener().open().await.unwrap();
    second.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let ended = timeout(PATIENCE, tunnel.next()).await.expect("closed in time");
    assert!(ended.is_none_or(|next| next.is_err()));
}

/// An agent connected to a gateway that sends it what the test says.
async fn besieged(limits: Limits) -> (House, Evil, watch::Sender<bool>) {
    let house = House::new();
    let evil = Evil::run(&house).await;
    let agent = house.agent(limits);
    agent.apply(&house.document(evil.address, 1, Vec::new())).unwrap();
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move { agent.run(stopped).await });
    evil.sid(CONNECTOR).await;
    (house, evil, stop)
}

async fn code_of(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    match read_frame(stream, PATIENCE).await.unwrap() {
        OpenReply::Refused { code, .. } => code,
        OpenReply::Open => panic!("opened"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_and_garbage_first_frames_are_refused_by_the_agent() {
    let (_house, evil, _stop) = besieged(Limits { handshake: Duration::from_millis(300), ..Default::default() }).await;
    let garbage = [
        b"\x00\x00".to_vec(),
        b"\xff\xff\xff".to_vec(),
        b"\x00\x02{}".to_vec(),
        b"\x00\x11{\"kind\":\"opened\"}".to_vec(),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        // Half a frame, then silence.
        b"\x00\x20{\"kind\"".to_vec(),
        b"\x00".to_vec(),
    ];
    for bytes in garbage {
        let mut stream = evil.open(CONNECTOR).await;
        stream.write_all(&bytes).await.unwrap();
        assert_eq!(code_of(&mut stream).await, "bad_frame", "{bytes:?}");
        closed(&mut stream).await;
    }
    // A sealed handshake that does not come, and one that is noise: closed without a word.
    for bytes in [b"".to_vec(), b"\x16\x03\x01\x00\x05hello noise".to_vec(), vec![0; 4000]] {
        let mut stream = evil.open(CONNECTOR).await;
        write_frame(&mut stream, &OpenRequest::Sealed, PATIENCE).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        closed(&mut stream).await;
    }
    // The tunnel lives on.
    let mut stream = evil.open(CONNECTOR).await;
    write_frame(&mut stream, &OpenRequest::Direct { token: "x".to_owned() }, PATIENCE).await.unwrap();
    assert_eq!(code_of(&mut stream).await, "token_not_trusted");
}

#[tokio::test(flavor = "multi_thread")]
async fn agent_believes_only_the_gateway_its_document_names() {
    let house = House::new();
    for name in [
        "spiffe://sluice.test/tenant/acme/gateway/dmz-2",
        "spiffe://sluice.test/tenant/other/gateway/dmz-1",
        "spiffe://sluice.test/tenant/acme/connector/dmz-1",
        "spiffe://sluice.test/control",
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let shown = house.authority.issue(name);
        let acceptor = tokio_rustls::TlsAcceptor::from(house.authority.server(&shown, &[ALPN_TUNNEL]));
        let agent = house.agent(Limits::default());
        agent.apply(&house.document(listener.local_addr().unwrap(), 1, Vec::new())).unwrap();
        std::fs::remove_file(house.state.path().join("allow-list.json")).unwrap();
        let (stop, stopped) = watch::channel(false);
        let running = tokio::spawn(async move { agent.run(stopped).await });
        let (tcp, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
        let handshake = timeout(PATIENCE, acceptor.accept(tcp)).await.unwrap();
        assert!(handshake.is_err(), "{name}");
        stop.send(true).unwrap();
        timeout(PATIENCE, running).await.unwrap().unwrap();
    }
    // The same with a right certificate works, so the loop above can fail.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let agent = house.agent(Limits::default());
    agent.apply(&house.document(listener.local_addr().unwrap(), 1, Vec::new())).unwrap();
    let (_stop, stopped) = watch::channel(false);
    tokio::spawn(async move { agent.run(stopped).await });
    let (tcp, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    let tls = timeout(PATIENCE, house.gateway_tls().accept(tcp)).await.unwrap().unwrap();
    assert_eq!(sluice_connector_wire::Peer::from_leaf(&peer_leaf(&tls)).unwrap().name, connector_name());
}

#[tokio::test(flavor = "multi_thread")]
async fn relay_with_garbage_or_silence_is_closed() {
    let house = House::new();
    let server = house.tunnel_server(quick());
    for bytes in [b"".to_vec(), b"\x00\x00".to_vec(), b"\x00\x02{}".to_vec(), b"\xff\xff".to_vec()] {
        let (mut near, far) = tokio::io::duplex(1024);
        near.write_all(&bytes).await.unwrap();
        let ended = timeout(PATIENCE, server.serve_relay(far)).await.expect("ends in time");
        assert!(ended.is_err(), "{bytes:?}");
    }
}
