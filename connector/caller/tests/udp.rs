//! Datagrams to UDP targets, direct and sealed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod house;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use house::{CONNECTOR, GATEWAY, House, PATIENCE, Up, dns::Dnsmasq};
use sluice_connector_agent::Limits;
use sluice_connector_caller::SealedAsk;
use sluice_connector_mux::{Datagrams, MAX_DATAGRAM};
use sluice_connector_server::{DirectDatagrams, OpenError};
use sluice_connector_wire::ClassPair;
use tokio::{net::UdpSocket, process::Command, time::timeout};

const HERE: &[&str] = &["127.0.0.1/32"];

async fn up_for(target: &str) -> Up {
    up_with(target, Limits::default()).await
}

async fn up_with(target: &str, limits: Limits) -> Up {
    let rules = vec![House::rule("udp", target, &[GATEWAY, "control"], HERE)];
    Up::with_limits(rules, limits, Default::default()).await
}

async fn flow(up: &Up, target: &str) -> DirectDatagrams {
    up.direct("udp", target).await.unwrap().into_datagrams()
}

async fn sealed_flow(up: &Up, target: &str) -> Datagrams {
    let ask = SealedAsk {
        tenant: &"acme".parse().unwrap(),
        connector: &CONNECTOR.parse().unwrap(),
        sid: &up.sid(),
        resource: &"udp".parse().unwrap(),
        target: &target.parse().unwrap(),
        subject: "service/sync",
        pair: ClassPair::default(),
    };
    let caller = up.house.caller();
    let opened = timeout(PATIENCE, caller.open(&up.gateway_for_control(), &ask)).await.expect("in time");
    Datagrams::framed(opened.unwrap())
}

/// Sends back every datagram.
async fn echo() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = vec![0; MAX_DATAGRAM];
        while let Ok((length, sender)) = socket.recv_from(&mut buffer).await {
            socket.send_to(&buffer[..length], sender).await.unwrap();
        }
    });
    address
}

/// Asks until an answer comes: datagrams may be lost.
async fn exchange(flow: &DirectDatagrams, datagram: &[u8]) {
    let asking = async {
        loop {
            flow.send(datagram).unwrap();
            let heard = timeout(Duration::from_secs(2), async {
                while flow.recv().await.unwrap().expect("the flow goes on") != datagram {}
            });
            if heard.await.is_ok() {
                return;
            }
        }
    };
    timeout(PATIENCE, asking).await.expect("an echo in time");
}

/// A UDP port in front of a flow, for one client.
async fn front(flow: DirectDatagrams) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut buffer, mut client) = (vec![0; MAX_DATAGRAM], None);
        loop {
            tokio::select! {
                Ok((length, from)) = socket.recv_from(&mut buffer) => {
                    client = Some(from);
                    flow.send(&buffer[..length]).unwrap();
                }
                Ok(Some(datagram)) = flow.recv() => drop(socket.send_to(&datagram, client.unwrap()).await),
            }
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn c2_c5_a_real_resolver_asks_a_real_dns_server_through_the_tunnel() {
    let many: Vec<String> = (1..=100).map(|n| format!("many.corp.test,192.0.2.{n}")).collect();
    let hosts: Vec<&str> = ["ad.corp.test,192.0.2.7"].into_iter().chain(many.iter().map(String::as_str)).collect();
    let server = Dnsmasq::with(&hosts).await;
    let target = format!("udp:{}", server.address);
    let up = up_for(&target).await;
    let front = front(flow(&up, &target).await).await;
    let dig = async |words: &[&str]| {
        let port = front.port().to_string();
        let always = ["@127.0.0.1", "-p", &port, "+short", "+ignore", "+time=5", "+tries=3"];
        let asked = Command::new("dig").args(always).args(words).output();
        let answer = timeout(PATIENCE, asked).await.unwrap().expect("dig (bind9-dnsutils)");
        String::from_utf8(answer.stdout).unwrap()
    };
    assert_eq!(dig(&["ad.corp.test", "A"]).await, "192.0.2.7\n");
    // Too long for one packet of most paths, still one datagram.
    assert_eq!(dig(&["many.corp.test", "A", "+bufsize=4096"]).await.lines().count(), 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn c5_datagrams_of_every_size_arrive_whole_direct_and_sealed() {
    let target = format!("udp:{}", echo().await);
    let up = up_for(&target).await;
    let direct = flow(&up, &target).await;
    let sealed = sealed_flow(&up, &target).await;
    for length in [0, 1, 1199, 1472, 9000, MAX_DATAGRAM] {
        let datagram: Vec<u8> = (0..length).map(|n| n.to_le_bytes()[0]).collect();
        exchange(&direct, &datagram).await;
        sealed.send(&datagram).unwrap();
        assert_eq!(timeout(PATIENCE, sealed.recv()).await.unwrap().unwrap().unwrap(), datagram, "{length}");
    }
    assert!(direct.send(&vec![0; MAX_DATAGRAM + 1]).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn c5_a_flood_of_datagrams_takes_bounded_memory_and_the_newest_arrive() {
    // Answers the first datagram with 64 MiB, then says so with a short one now and then.
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let target = format!("udp:{}", socket.local_addr().unwrap());
    let (flooded, done) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let (_, to) = socket.recv_from(&mut [0; 64]).await.unwrap();
        for _ in 0..64 * 1024 {
            socket.send_to(&[7; 1024], to).await.unwrap();
        }
        flooded.send(()).unwrap();
        while socket.send_to(b"newest", to).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let up = up_for(&target).await;
    let slow = flow(&up, &target).await;
    slow.send(b"go").unwrap();
    timeout(PATIENCE, done).await.unwrap().unwrap();
    let mut backlog = 0;
    let newest = async {
        loop {
            let datagram = slow.recv().await.unwrap().unwrap();
            if datagram == b"newest"[..] {
                return;
            }
            backlog += datagram.len();
        }
    };
    timeout(PATIENCE, newest).await.expect("the newest in time");
    assert!(backlog < 4 * 1024 * 1024, "{backlog} bytes were kept for a reader that did not read");
    // The other way, into an echo that cannot keep up either.
    let target = format!("udp:{}", echo().await);
    let rules = vec![House::rule("udp", &target, &[GATEWAY], HERE)];
    up.agent.apply(&up.house.document(up.gateway, 2, rules)).unwrap();
    let flow = flow(&up, &target).await;
    for _ in 0..64 * 1024 {
        flow.send(&[7; 1024]).unwrap();
    }
    exchange(&flow, b"still there").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c5_a_closed_port_a_silent_flow_and_a_withdrawn_rule_end_the_flow() {
    let closed = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let target = format!("udp:{closed}");
    let up = up_for(&target).await;
    let refused = flow(&up, &target).await;
    refused.send(b"anybody?").unwrap();
    let end = timeout(PATIENCE, refused.recv()).await.expect("ICMP ends it");
    assert!(!matches!(end, Ok(Some(_))), "{end:?}");

    let target = format!("udp:{}", echo().await);
    let up = up_with(&target, Limits { udp_idle: Duration::from_secs(2), ..Default::default() }).await;
    let (busy, silent) = (flow(&up, &target).await, flow(&up, &target).await);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(4) {
        exchange(&busy, b"alive").await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let end = timeout(PATIENCE, silent.recv()).await.expect("idleness ends it");
    assert!(!matches!(end, Ok(Some(_))), "{end:?}");
    exchange(&busy, b"alive").await;
    up.agent.apply(&up.house.document(up.gateway, 2, Vec::new())).unwrap();
    let end = timeout(PATIENCE, busy.recv()).await.expect("the list ends it");
    assert!(!matches!(end, Ok(Some(_))), "{end:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn c5_udp_is_as_little_allowed_by_default_as_tcp() {
    let at = echo().await;
    let (udp, tcp) = (format!("udp:{at}"), format!("tcp:{at}"));
    let rules = vec![
        House::rule("tcp-only", &tcp, &[GATEWAY], HERE),
        House::rule("unnamed", &udp, &[GATEWAY], &["10.0.0.0/8"]),
        House::rule("every", "udp:255.255.255.255:67", &[GATEWAY], &["128.0.0.0/1"]),
    ];
    let up = Up::with(rules).await;
    for (resource, target, code) in [
        ("tcp-only", udp.as_str(), "not_allowed"),
        ("unnamed", &udp, "target_forbidden"),
        ("every", "udp:255.255.255.255:67", "target_forbidden"),
    ] {
        match up.direct(resource, target).await {
            Err(OpenError::Refused { code: said, .. }) => assert_eq!(said, code, "{resource}"),
            other => panic!("{other:?}"),
        }
    }
}
