//! A connector, or whoever holds its key, that wants to use the gateway up.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod house;

use std::time::Duration;

use house::{CONNECTOR, GATEWAY, House, PATIENCE, double::Double, echo, exchange, run_agent, run_gateway, tunnels};
use sluice_connector_agent::Limits;
use sluice_connector_server::{DirectAsk, DirectStream, OpenError, TunnelServer};
use sluice_connector_wire::ClassPair;
use tokio::time::{sleep, timeout};

/// Ten thousand, or a twentieth of them where time is short.
fn half_open() -> usize {
    if std::env::var_os("SLUICE_LONG").is_some() { 10_000 } else { 500 }
}

const SID: &str = "AAAAAAAAAAAAAAAAAAAAAA";

async fn open(server: &TunnelServer, connector: &str, target: &str) -> Result<DirectStream, OpenError> {
    let ask = DirectAsk {
        connectors: &[connector.parse().unwrap()],
        resource: &"roundup".parse().unwrap(),
        target: &target.parse().unwrap(),
        subject: "user/ada",
        pair: ClassPair::Standard,
    };
    timeout(PATIENCE, server.open_direct(&ask, house::now())).await.expect("an answer in time")
}

/// Resident memory of this process, bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().trim().parse::<usize>().unwrap() * 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn t2_half_open_tunnels_of_one_connector_are_bounded_and_harm_no_other() {
    let house = House::new();
    let limits = sluice_connector_server::Limits { handshake: Duration::from_secs(10), ..Default::default() };
    let server = house.tunnel_server(limits);
    let target = format!("tcp:{}", echo().await);
    let gateway = run_gateway(&house, server.clone()).await;
    let agent = house.agent(Limits::default());
    let rules = vec![House::rule("roundup", &target, &[GATEWAY], &["127.0.0.1/32"])];
    agent.apply(&house.document(gateway, 1, rules)).unwrap();
    let (_stop, _running) = run_agent(&agent);
    tunnels(&server, 1).await;

    let before = resident();
    let greedy = house.authority.issue("spiffe://sluice.test/tenant/acme/connector/dc-9");
    let mut strangers = Vec::new();
    for _ in 0..half_open() {
        strangers.extend(Double::half_open(&house, &server, &greedy).await);
    }
    // What is over the bound is closed at once, long before the time for a hello is up.
    let mut held = 0;
    for double in &mut strangers {
        let next = timeout(Duration::from_millis(20), double.connection.next()).await;
        held += usize::from(next.is_err());
    }
    assert_eq!(held, limits.connections_per_connector);
    let mut stream = open(&server, CONNECTOR, &target).await.unwrap();
    assert_eq!(exchange(&mut stream, b"not disturbed").await.unwrap(), b"not disturbed");
    // Both ends live in this process.
    let grown = resident().saturating_sub(before);
    assert!(grown < half_open() * 256 * 1024, "{grown} bytes for {} half-open connections", half_open());
    // The rest goes when its time for a hello is up, and then there is room again.
    let again = async {
        loop {
            if let Some(mut double) = Double::half_open(&house, &server, &greedy).await {
                let closed = timeout(Duration::from_millis(300), double.connection.next()).await;
                if closed.is_err() {
                    return;
                }
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(PATIENCE, again).await.expect("room again");
}

#[tokio::test(flavor = "multi_thread")]
async fn t2_streams_that_an_agent_never_answers_are_bounded_per_connection() {
    let house = House::new();
    let limits = sluice_connector_server::Limits {
        streams_per_connection: 8,
        answer: Duration::from_secs(4),
        attempts: 1,
        ..Default::default()
    };
    let server = house.tunnel_server(limits);
    let mut hoarder = Double::connect(&house, &server, &house.connector, SID, ClassPair::Standard).await;
    let mut asking = Vec::new();
    for _ in 0..8 {
        let server = server.clone();
        asking.push(tokio::spawn(async move { open(&server, CONNECTOR, "tcp:127.0.0.1:1").await.map(drop) }));
        let (stream, _token) = hoarder.asked().await;
        // Never read again, never answered, never dropped.
        std::mem::forget(stream);
    }
    assert!(matches!(open(&server, CONNECTOR, "tcp:127.0.0.1:1").await, Err(OpenError::Busy)));
    for asked in asking {
        let refused = timeout(PATIENCE, asked).await.unwrap().unwrap().unwrap_err();
        assert!(refused.retry(), "{refused:?}");
    }
    assert!(hoarder.is_closed().await, "an agent that answers nothing loses its connection");
}

#[tokio::test(flavor = "multi_thread")]
async fn t2_new_sessions_without_end_close_the_connectors_own_old_ones() {
    let house = House::new();
    let server = house.tunnel_server(Default::default());
    let other = house.authority.issue("spiffe://sluice.test/tenant/acme/connector/dc-2");
    let _honest = Double::connect(&house, &server, &other, SID, ClassPair::Standard).await;
    let mut held = Vec::new();
    for n in 0..half_open() {
        let double = Double::half_open(&house, &server, &house.connector).await.unwrap();
        let sid = format!("AAAAAAAAAAAAAAAA{n:05}A");
        double.hello(&sid, ClassPair::Standard).await;
        held.push(double);
    }
    let live = server.live();
    let settled = async {
        while live.borrow().len() > 5 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, settled).await.expect("bounded");
    assert!(live.borrow().iter().any(|tunnel| tunnel.sid == SID), "nobody else's went");
}
