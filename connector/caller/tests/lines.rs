//! A tunnel's connections at the gateway: which one gets a stream, what their lines say, and when they end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod house;

use std::time::{Duration, Instant};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use house::{CONNECTOR, House, PATIENCE, double::Double};
use sluice_connector_caller::CallError;
use sluice_connector_mux::{Stream, read_frame, write_frame};
use sluice_connector_server::{DirectAsk, DirectStream, OpenError, TunnelServer};
use sluice_connector_wire::{AgentSays, ClassPair, GatewaySays, OpenReply, RelayOpen};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

const SID: &str = "AAAAAAAAAAAAAAAAAAAAAA";

async fn open(server: &TunnelServer, pair: ClassPair) -> Result<DirectStream, OpenError> {
    let ask = DirectAsk {
        connectors: &[CONNECTOR.parse().unwrap()],
        resource: &"roundup".parse().unwrap(),
        target: &"tcp:127.0.0.1:1".parse().unwrap(),
        subject: "user/ada",
        pair,
    };
    timeout(PATIENCE, server.open_direct(&ask, house::now())).await.expect("an answer in time")
}

/// Opens a stream and has `double` answer it; both ends.
async fn through(server: &TunnelServer, double: &mut Double, pair: ClassPair) -> (DirectStream, Stream) {
    let (opened, taken) = tokio::join!(open(server, pair), double.open_next());
    (opened.unwrap(), taken)
}

/// A byte gets there and another one back.
async fn passes(near: &mut DirectStream, far: &mut Stream) {
    let there_and_back = async {
        near.write_all(b"x").await.unwrap();
        near.flush().await.unwrap();
        assert_eq!(far.read_u8().await.unwrap(), b'x');
        far.write_all(b"y").await.unwrap();
        far.flush().await.unwrap();
        assert_eq!(near.read_u8().await.unwrap(), b'y');
    };
    timeout(PATIENCE, there_and_back).await.expect("in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn c2_newest_connection_of_a_pair_gets_new_streams_and_the_old_one_finishes() {
    let house = House::new();
    let server = house.tunnel_server(Default::default());
    let connect = || Double::connect(&house, &server, &house.connector, SID, ClassPair::Bulk);
    let mut old = connect().await;
    let (mut first, mut first_far) = through(&server, &mut old, ClassPair::Bulk).await;
    let mut new = connect().await;
    assert_eq!(server.live().borrow().len(), 1, "one tunnel, two connections");
    let (mut second, mut second_far) = through(&server, &mut new, ClassPair::Bulk).await;
    passes(&mut first, &mut first_far).await;
    passes(&mut second, &mut second_far).await;
    // The new one goes as well, as if QUIC had failed: the old one serves again.
    drop(new);
    let (mut third, mut third_far) = through(&server, &mut old, ClassPair::Bulk).await;
    passes(&mut third, &mut third_far).await;
    passes(&mut first, &mut first_far).await;
    assert!(timeout(PATIENCE, second.read_u8()).await.unwrap().is_err(), "what was on it is broken off");
}

#[tokio::test(flavor = "multi_thread")]
async fn c2_retired_connection_finishes_its_streams_and_gets_no_new_ones() {
    let house = House::new();
    let server = house.tunnel_server(Default::default());
    let mut standard = Double::connect(&house, &server, &house.connector, SID, ClassPair::Standard).await;
    let mut bulk = Double::connect(&house, &server, &house.connector, SID, ClassPair::Bulk).await;
    let (mut first, mut first_far) = through(&server, &mut bulk, ClassPair::Bulk).await;
    bulk.say(AgentSays::Retire).await;
    bulk.ping(None, 1, 100).await;
    let (mut second, mut second_far) = through(&server, &mut standard, ClassPair::Bulk).await;
    passes(&mut first, &mut first_far).await;
    passes(&mut second, &mut second_far).await;
    standard.say(AgentSays::Retire).await;
    standard.ping(None, 2, 100).await;
    assert!(server.live().borrow().is_empty(), "control is told of no tunnel that takes no streams");
    assert!(matches!(open(&server, ClassPair::Standard).await, Err(OpenError::NoTunnel)));
    passes(&mut first, &mut first_far).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c2_an_agent_that_falls_silent_is_dead_after_three_seconds() {
    let house = House::new();
    let server = house.tunnel_server(Default::default());
    let mut silent = Double::connect_silent(&house, &server, &house.connector, SID, ClassPair::Standard).await;
    let mut speaking = Double::connect(&house, &server, &house.connector, SID, ClassPair::Bulk).await;
    let began = Instant::now();
    assert!(silent.is_closed().await);
    assert!(began.elapsed() >= Duration::from_secs(2), "not before its time: {:?}", began.elapsed());
    let (mut near, mut far) = through(&server, &mut speaking, ClassPair::Standard).await;
    passes(&mut near, &mut far).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn line_that_says_rubbish_or_too_much_ends_its_connection() {
    let house = House::new();
    let server = house.tunnel_server(Default::default());
    let connect = || Double::connect(&house, &server, &house.connector, SID, ClassPair::Standard);
    for rubbish in [&b"\x00\x00"[..], b"\xff\xff", b"\x00\x02{}", b"\x00\x12{\"say\":\"pong\"    }"] {
        let mut double = connect().await;
        double.line.lock().await.write_all(rubbish).await.unwrap();
        double.line.lock().await.flush().await.unwrap();
        assert!(double.is_closed().await, "{rubbish:?}");
    }
    // A million tiny frames.
    let mut double = connect().await;
    let flood = async {
        let mut line = double.line.lock().await;
        for number in 0..1_000_000 {
            let ping = AgentSays::Ping { number, rtt_micros: None, streams: 0, room: 1 };
            if write_frame(&mut *line, &ping, PATIENCE).await.is_err() {
                return number;
            }
        }
        panic!("a million pings were taken");
    };
    let taken = tokio::select! {
        taken = flood => taken,
        next = double.connection.next() => {
            assert!(next.is_none_or(|next| next.is_err()));
            0
        }
    };
    assert!(taken < 100_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn c2_stopping_gateway_says_so_on_every_line_and_sends_control_elsewhere() {
    let house = House::new();
    let server = house.tunnel_server(Default::default());
    let mut one = Double::connect(&house, &server, &house.connector, SID, ClassPair::Standard).await;
    let mut two = Double::connect(&house, &server, &house.connector, SID, ClassPair::Interactive).await;
    let (mut running, mut far) = through(&server, &mut one, ClassPair::Standard).await;
    server.leave();
    assert_eq!(one.hear().await, GatewaySays::Leaving);
    assert_eq!(two.hear().await, GatewaySays::Leaving);
    assert!(server.live().borrow().is_empty(), "control is told that no tunnel is here any more");
    passes(&mut running, &mut far).await;
    one.ping(None, 1, 10).await;
    // What a user asked for before may still open its stream.
    let (mut late, mut late_far) = through(&server, &mut one, ClassPair::Standard).await;
    passes(&mut late, &mut late_far).await;
    // Control's relays get a code by which it tries another gateway.
    let (mut control, door) = tokio::io::duplex(64 * 1024);
    let wanted = RelayOpen { connector: CONNECTOR.parse().unwrap(), sid: SID.to_owned(), pair: ClassPair::Standard };
    let relaying = async {
        write_frame(&mut control, &wanted, PATIENCE).await.unwrap();
        read_frame::<OpenReply>(&mut control, PATIENCE).await.unwrap()
    };
    let (served, reply) = tokio::join!(server.serve_relay(door), relaying);
    served.unwrap();
    let OpenReply::Refused { code, message, retry: true } = reply else { panic!("{reply:?}") };
    assert_eq!(code, "relay_leaving");
    assert!(CallError::Relay { code, message }.retry());
    // And nobody begins a tunnel here.
    let mut late = Double::half_open(&house, &server, &house.connector).await.unwrap();
    late.hello(SID, ClassPair::Bulk).await;
    assert!(late.is_closed().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn c4_a_gateways_token_is_good_for_seconds_only() {
    let house = House::new();
    let server = house.tunnel_server(Default::default());
    let mut agent = Double::connect(&house, &server, &house.connector, SID, ClassPair::Standard).await;
    let asking = tokio::spawn(async move { open(&server, ClassPair::Standard).await.map(drop) });
    let (_stream, token) = agent.asked().await;
    asking.abort();
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 5);
}
