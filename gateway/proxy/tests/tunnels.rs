//! Tunnels and relays at the gateway's door, by TCP and by QUIC.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use rustls::{ClientConfig, pki_types::ServerName};
use serde_json::json;
use sluice_connector_mux::{Connection, End, quic};
use sluice_connector_wire::ClassPair;
use sluice_gateway_proxy::{Limits, RELAY_ALPN, TUNNEL_ALPN};
use support::{PATIENCE, Rig};
use tokio::{io::AsyncReadExt, net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};

const CONNECTOR: &str = "spiffe://sluice.test/tenant/acme/connector/dc-1";
const CONTROL: &str = "spiffe://sluice.test/control";

fn config(rig: &Rig, spiffe: &str, alpn: &[u8]) -> ClientConfig {
    rig.node.peer(rig.node.issue(spiffe), alpn)
}

async fn tls(rig: &Rig, spiffe: &str, alpn: &[u8]) -> Option<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(rig.address).await.unwrap();
    let name = ServerName::try_from("dmz-1.test").unwrap();
    TlsConnector::from(Arc::new(config(rig, spiffe, alpn))).connect(name, stream).await.ok()
}

async fn tcp_connection(rig: &Rig, spiffe: &str) -> Option<Connection> {
    Some(Connection::over_tcp(tls(rig, spiffe, TUNNEL_ALPN).await?, End::Agent))
}

async fn quic_connection(rig: &Rig, config: ClientConfig) -> Option<Connection> {
    Some(Connection::over_quic(quic_dial(rig, config).await?, End::Agent))
}

async fn quic_dial(rig: &Rig, config: ClientConfig) -> Option<quinn::Connection> {
    let socket = quic::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let endpoint = quic::agent_endpoint(socket, ClassPair::Standard).unwrap();
    let config = quic::client_config(config).unwrap();
    let connecting = endpoint.connect_with(config, rig.address, "dmz-1.test").unwrap();
    timeout(PATIENCE, connecting).await.unwrap().ok()
}

/// What the door says on a tunnel's connection.
async fn greeting(connection: Option<Connection>) -> String {
    let Some(mut connection) = connection else { return "no handshake".into() };
    let Some(Ok(mut stream)) = timeout(PATIENCE, connection.next()).await.unwrap() else { return "closed".into() };
    let mut text = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut text)).await.unwrap().unwrap();
    text
}

async fn relay(rig: &Rig, spiffe: &str) -> String {
    let Some(mut tls) = tls(rig, spiffe, RELAY_ALPN).await else { return "no handshake".into() };
    let mut text = String::new();
    match timeout(PATIENCE, tls.read_to_string(&mut text)).await.unwrap() {
        Ok(0) | Err(_) => "closed".into(),
        Ok(_) => text,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c2_tunnels_are_for_connectors_of_this_tenant_by_either_transport() {
    let rig = Rig::start().await;
    assert_eq!(greeting(tcp_connection(&rig, CONNECTOR).await).await, "tunnel dc-1 over tcp");
    assert_eq!(
        greeting(quic_connection(&rig, config(&rig, CONNECTOR, TUNNEL_ALPN)).await).await,
        "tunnel dc-1 over quic"
    );
    for spiffe in [
        "spiffe://sluice.test/tenant/evil/connector/dc-1",
        "spiffe://sluice.test/tenant/acme/gateway/dc-1",
        "spiffe://sluice.test/tenant/acme/edge/dc-1",
        "spiffe://other.test/tenant/acme/connector/dc-1",
        CONTROL,
    ] {
        assert_eq!(greeting(tcp_connection(&rig, spiffe).await).await, "closed", "{spiffe}");
        let config = config(&rig, spiffe, TUNNEL_ALPN);
        assert_eq!(greeting(quic_connection(&rig, config).await).await, "closed", "{spiffe} by QUIC");
    }
    rig.set_state("node/dc-1", json!({"revoked": 1}));
    assert_eq!(greeting(tcp_connection(&rig, CONNECTOR).await).await, "closed", "revoked");
    let config = config(&rig, CONNECTOR, TUNNEL_ALPN);
    assert_eq!(greeting(quic_connection(&rig, config).await).await, "closed", "revoked, by QUIC");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn relays_are_for_control() {
    let rig = Rig::start().await;
    assert_eq!(relay(&rig, CONTROL).await, format!("relay {CONTROL}"));
    for spiffe in [CONNECTOR, "spiffe://other.test/control"] {
        assert_eq!(relay(&rig, spiffe).await, "closed", "{spiffe}");
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_certificate_does_not_get_through_either_handshake() {
    let rig = Rig::start().await;
    let stranger = || support::node::TestNode::new().issue(CONNECTOR);
    let stream = TcpStream::connect(rig.address).await.unwrap();
    let name = ServerName::try_from("dmz-1.test").unwrap();
    let config = Arc::new(rig.node.peer(stranger(), TUNNEL_ALPN));
    if let Ok(mut tls) = TlsConnector::from(config).connect(name, stream).await {
        let mut buffer = [0; 16];
        assert!(timeout(PATIENCE, tls.read(&mut buffer)).await.unwrap().is_err());
    }
    let connection = quic_connection(&rig, rig.node.peer(stranger(), TUNNEL_ALPN)).await;
    assert!(matches!(greeting(connection).await.as_str(), "closed" | "no handshake"));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn quic_connections_count_among_an_addresss_connections() {
    let rig = Rig::with(Limits { connections_per_address: 1, ..Limits::default() }).await;
    let first = quic_connection(&rig, config(&rig, CONNECTOR, TUNNEL_ALPN)).await;
    let mut first = first.unwrap();
    let stream = timeout(PATIENCE, first.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(greeting(quic_connection(&rig, config(&rig, CONNECTOR, TUNNEL_ALPN)).await).await, "closed");
    drop((stream, first));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_gateway_tells_its_tunnels_and_does_not_wait_for_idle_ones() {
    let drain = PATIENCE;
    let rig = Rig::with(Limits { drain, ..Limits::default() }).await;
    let mut idle = Vec::new();
    for mut connection in [
        tcp_connection(&rig, CONNECTOR).await.unwrap(),
        quic_connection(&rig, config(&rig, CONNECTOR, TUNNEL_ALPN)).await.unwrap(),
    ] {
        let stream = timeout(PATIENCE, connection.next()).await.unwrap().unwrap().unwrap();
        idle.push((connection, stream));
    }
    let (door, began) = (rig.door.clone(), Instant::now());
    rig.stop().await;
    assert!(door.left.load(Ordering::SeqCst));
    assert!(began.elapsed() < drain / 4, "{:?}", began.elapsed());
    for (mut connection, _stream) in idle {
        let ended = timeout(Duration::from_secs(10), connection.next()).await.expect("closed");
        assert!(ended.is_none_or(|next| next.is_err()));
    }
}

/// How a connection ends whose gateway was killed and started again.
fn end_of_a_killed_gateways_connection() -> quinn::ConnectionError {
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (killed, agents, restarted) = (runtime(), runtime(), runtime());
    let rig = killed.block_on(Rig::start());
    let config = config(&rig, CONNECTOR, TUNNEL_ALPN);
    let connection = agents.block_on(quic_dial(&rig, config)).unwrap();
    // Nothing of the first one runs any more, and nothing was said.
    let (addresses, folder) = (vec![rig.address, rig.address_v6], rig.folder);
    killed.shutdown_timeout(PATIENCE);
    let _second = restarted.block_on(Rig::at(folder, Limits::default(), addresses));
    agents.block_on(async { timeout(PATIENCE, connection.closed()).await }).expect("the agent learns of it")
}

#[test]
fn c2_a_gateway_that_was_killed_and_is_back_tells_its_old_quic_peers_at_once() {
    // On a busy machine it may be back too late: then the agent has found its connection dead already, in three seconds.
    let mut ends = (0..10).map(|_| end_of_a_killed_gateways_connection());
    assert!(ends.any(|end| end == quinn::ConnectionError::Reset));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_without_its_udp_port_takes_tunnels_by_tcp() {
    // Found free for TCP, then taken for UDP.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let _taken = std::net::UdpSocket::bind(port).unwrap();
    let listen = vec![port, "[::1]:0".parse().unwrap()];
    let rig = Rig::at(tempfile::tempdir().unwrap(), Limits::default(), listen).await;
    assert_eq!(greeting(tcp_connection(&rig, CONNECTOR).await).await, "tunnel dc-1 over tcp");
    rig.stop().await;
}
