//! A peer with the right certificate that means harm, and readers that do not read.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod pair;

use std::time::Duration;

use pair::{BOTH, House, PATIENCE, pair, sockets};
use sluice_connector_mux::{
    Connection, End, MAX_DATAGRAM, STREAM_WINDOW, Stream,
    quic::{CONNECTION_WINDOW, GATEWAY_STREAMS, Marks},
};
use sluice_connector_wire::Transport;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

const SYN: u8 = 1;
const WINDOW_UPDATE: u8 = 1;
const PING: u8 = 2;

fn frame(kind: u8, flags: u8, stream: u32, length: u32) -> Vec<u8> {
    [&[0, kind, 0, flags][..], &stream.to_be_bytes(), &length.to_be_bytes()].concat()
}

/// Our end, and a raw line to it.
async fn besieged(end: End) -> (Connection, TcpStream) {
    let (near, far) = sockets().await;
    (Connection::over_tcp(near, end), far)
}

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    status.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Writes until nothing more is taken for a while. Gives how much was.
async fn pour(stream: &mut Stream) -> usize {
    let (mut poured, bytes) = (0, vec![7; 64 * 1024]);
    while let Ok(written) = timeout(Duration::from_millis(300), stream.write(&bytes)).await {
        poured += written.unwrap();
        assert!(poured < 1 << 30, "there is no end");
    }
    poured
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_do_not_read_stall_nobody_else_and_take_bounded_memory() {
    for transport in BOTH {
        let (mut agent, gateway) = pair(transport).await;
        let mut stalled = Vec::new();
        for _ in 0..8 {
            let mut near = gateway.opener().open().await.unwrap();
            let poured = pour(&mut near).await;
            // The first window.
            assert_eq!(poured, 256 * 1024, "{transport}");
            stalled.push((near, agent.next().await.unwrap().unwrap()));
        }
        let mut near = gateway.opener().open().await.unwrap();
        let sending = tokio::spawn(async move {
            near.write_all(&vec![1; 20_000_000]).await.unwrap();
            near.shutdown().await.unwrap();
        });
        let mut far = timeout(PATIENCE, agent.next()).await.unwrap().unwrap().unwrap();
        let mut got = Vec::new();
        timeout(PATIENCE, far.read_to_end(&mut got)).await.expect("not stalled").unwrap();
        assert_eq!(got.len(), 20_000_000, "{transport}");
        sending.await.unwrap();
        // And those who come to read at last find everything.
        for (mut near, mut far) in stalled {
            near.shutdown().await.unwrap();
            let mut bytes = Vec::new();
            timeout(PATIENCE, far.read_to_end(&mut bytes)).await.unwrap().unwrap();
            assert!(bytes.iter().all(|byte| *byte == 7) && bytes.len() > 100_000, "{transport}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_streams_than_may_be_are_not_opened() {
    for transport in BOTH {
        let (_agent, gateway) = pair(transport).await;
        let mut held = Vec::new();
        let full = loop {
            match gateway.opener().open().await {
                Ok(stream) => held.push(stream),
                Err(error) => break error,
            }
            assert!(held.len() <= 1000);
        };
        assert_eq!(full.kind(), std::io::ErrorKind::WouldBlock, "{transport}");
        assert!(held.len() >= GATEWAY_STREAMS as usize, "{transport}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_frames_end_the_connection_and_take_little_memory() {
    let open: Vec<u8> = (1..=600_u32).flat_map(|n| frame(WINDOW_UPDATE, SYN, 2 * n, 0)).collect();
    let jump = [frame(WINDOW_UPDATE, SYN, 1 << 20, 0), frame(WINDOW_UPDATE, SYN, 2, 0)].concat();
    let one = frame(WINDOW_UPDATE, SYN, 2, 0);
    let floods = [
        ("streams", open, Vec::new()),
        ("numbers that go back", jump, Vec::new()),
        ("pings", Vec::new(), frame(PING, SYN, 0, 1).repeat(1000)),
        ("windows", one.clone(), frame(WINDOW_UPDATE, 0, 2, 0).repeat(1000)),
        ("empty frames", one.clone(), frame(0, 0, 2, 0).repeat(1000)),
        ("tiny frames", one.clone(), [frame(0, 0, 2, 1), vec![1]].concat().repeat(1000)),
        ("a body beyond the window", one, frame(0, 0, 2, u32::MAX)),
    ];
    for (what, first, again) in floods {
        let (mut connection, mut line) = besieged(End::Agent).await;
        let before = resident();
        let flooding = tokio::spawn(async move {
            drop(line.write_all(&first).await);
            for _ in 0..1000 {
                if line.write_all(&again).await.is_err() {
                    break;
                }
            }
            sleep(PATIENCE).await;
        });
        let mut streams = Vec::new();
        let ended = async {
            loop {
                match connection.next().await {
                    Some(Ok(stream)) => streams.push(stream),
                    ended => break ended,
                }
            }
        };
        let ended = timeout(PATIENCE, ended).await.expect(what);
        let error = ended.expect(what).expect_err(what);
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidData, "{what}: {error}");
        let grown = resident().saturating_sub(before);
        assert!(grown < 16 * 1024 * 1024, "{what}: {grown}");
        flooding.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_ends_in_the_middle_of_a_frame_is_broken_and_not_closed() {
    for (bytes, clean) in [(frame(PING, SYN, 0, 1), true), (frame(PING, SYN, 0, 1)[..7].to_vec(), false)] {
        let (mut connection, mut line) = besieged(End::Agent).await;
        line.write_all(&bytes).await.unwrap();
        line.shutdown().await.unwrap();
        let ended = timeout(PATIENCE, connection.next()).await.unwrap();
        assert_eq!(ended.is_none(), clean);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn datagrams_that_nobody_takes_make_room_for_newer_ones() {
    for transport in BOTH {
        let (mut agent, gateway) = pair(transport).await;
        let mut near = gateway.opener().open().await.unwrap();
        near.write_all(b"!").await.unwrap();
        let mut far = agent.next().await.unwrap().unwrap();
        far.read_u8().await.unwrap();
        let (near, far) = (near.into_datagrams(), far.into_datagrams());
        let before = resident();
        let filling = vec![0; 9000];
        for n in 0..20_000_u32 {
            near.send(&filling).unwrap();
            near.send(&n.to_be_bytes()).unwrap();
            if n % 100 == 0 {
                tokio::task::yield_now().await;
            }
        }
        sleep(Duration::from_millis(500)).await;
        let grown = resident().saturating_sub(before);
        assert!(grown < 64 * 1024 * 1024, "{transport}: {grown}");
        let mut got = 0;
        while let Ok(taken) = timeout(Duration::from_millis(300), far.recv()).await {
            assert!(taken.unwrap().unwrap().len() <= 9000);
            got += 1;
        }
        assert!((1..2000).contains(&got), "{transport}: {got}");
        near.send(b"still alive").unwrap();
        assert_eq!(&timeout(PATIENCE, far.recv()).await.unwrap().unwrap().unwrap()[..], b"still alive");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_giant_datagram_in_a_stream_ends_its_flow_and_no_other() {
    for transport in BOTH {
        let (mut agent, gateway) = pair(transport).await;
        let mut near = gateway.opener().open().await.unwrap();
        near.write_all(&u16::MAX.to_be_bytes()).await.unwrap();
        near.write_all(&vec![0; usize::from(u16::MAX)]).await.unwrap();
        let far = agent.next().await.unwrap().unwrap().into_datagrams();
        assert!(usize::from(u16::MAX) > MAX_DATAGRAM);
        assert!(timeout(PATIENCE, far.recv()).await.unwrap().is_err(), "{transport}");
        let mut other = gateway.opener().open().await.unwrap();
        other.write_all(b"x").await.unwrap();
        assert_eq!(timeout(PATIENCE, agent.next()).await.unwrap().unwrap().unwrap().read_u8().await.unwrap(), b'x');
    }
}

/// An agent that breaks QUIC's rules as far as its stack lets it.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_has_one_stream_over_quic_and_no_other_kind() {
    let house = House::new();
    let (dialled, accepted) = house.quic(&house.gateway(&[7; 32], Marks::default())).await;
    let mut gateway = Connection::over_quic(accepted.connection, End::Gateway);
    let (mut line, _) = dialled.open_bi().await.unwrap();
    line.write_all(b"x").await.unwrap();
    let _line = timeout(PATIENCE, gateway.next()).await.unwrap().unwrap().unwrap();
    assert!(timeout(Duration::from_millis(500), dialled.open_bi()).await.is_err());
    let mut credit = dialled.open_uni().await.unwrap();
    assert!(timeout(Duration::from_millis(500), dialled.open_uni()).await.is_err());
    // Credit for streams that are not there, then half a word.
    credit.write_all(&[0xff; 16 * 1000 + 7]).await.unwrap();
    credit.finish().unwrap();
    // Tags of flows that are not there, and tags that are none.
    for bytes in [&b""[..], b"abc", b"\xff\xff\xff\xffdata", &[0; 1100]] {
        dialled.send_datagram(bytes.to_vec().into()).unwrap();
    }
    assert!(timeout(Duration::from_millis(300), gateway.next()).await.is_err(), "the connection lives");
    assert_eq!(gateway.transport(), Transport::Quic);
}

/// A gateway that sends on every stream as much as QUIC lets it, whatever credit it was given.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_heeds_no_credit_takes_bounded_memory() {
    let house = House::new();
    let (dialled, accepted) = house.quic(&house.gateway(&[7; 32], Marks::default())).await;
    let _agent = Connection::over_quic(dialled, End::Agent);
    let (mut poured, mut held, bytes) = (0, Vec::new(), vec![7; 64 * 1024]);
    for _ in 0..12 {
        let (mut stream, other_way) = accepted.connection.open_bi().await.unwrap();
        let before = poured;
        while let Ok(written) = timeout(Duration::from_millis(500), stream.write(&bytes)).await {
            poured += written.unwrap();
            assert!(poured - before <= STREAM_WINDOW as usize, "one stream");
        }
        held.push((stream, other_way));
    }
    assert!(poured <= CONNECTION_WINDOW as usize, "{poured}");
    assert!(poured > CONNECTION_WINDOW as usize / 2, "the bound was not tried: {poured}");
}
