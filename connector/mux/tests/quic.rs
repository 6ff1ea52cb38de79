//! What QUIC adds: proved addresses, few handshakes, marks, moving to another address, being told of a restart.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod pair;

use std::{net::UdpSocket, os::fd::AsRawFd, time::Duration};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};
use pair::{House, PATIENCE};
use quinn::{ConnectionError, TransportErrorCode};
use sluice_connector_mux::{
    Connection, End,
    quic::{self, AcceptLimits, Acceptor, Marks},
};
use sluice_connector_wire::ClassPair;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

fn agent(pair: ClassPair) -> quinn::Endpoint {
    quic::agent_endpoint(quic::bind("127.0.0.1:0".parse().unwrap()).unwrap(), pair).unwrap()
}

/// A socket that sees the traffic class of what comes.
fn watcher() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    setsockopt(&socket, sockopt::IpRecvTos, &true).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// The next packet and its traffic class.
fn seen(socket: &UdpSocket) -> (Vec<u8>, u8, std::net::SocketAddr) {
    let mut buffer = vec![0; 2000];
    let mut space = nix::cmsg_space!(u8, u32);
    let mut into = [std::io::IoSliceMut::new(&mut buffer)];
    let got = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut into, Some(&mut space), MsgFlags::empty()).unwrap();
    let class = got.cmsgs().unwrap().find_map(|said| match said {
        ControlMessageOwned::Ipv4Tos(class) => Some(class),
        _ => None,
    });
    let from = got.address.unwrap().as_sockaddr_in().copied().unwrap();
    let (bytes, class) = (got.bytes, class.expect("a traffic class"));
    buffer.truncate(bytes);
    (buffer, class, std::net::SocketAddrV4::from(from).into())
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_packets_carry_their_pairs_mark_beside_the_congestion_bits() {
    let house = House::new();
    for pair in ClassPair::ALL {
        let watcher = watcher();
        let agent = agent(pair);
        let _dialling = house.dial(&agent, watcher.local_addr().unwrap());
        let (_, class, _) = tokio::task::spawn_blocking(move || seen(&watcher)).await.unwrap();
        assert_eq!(class >> 2, pair.dscp(), "{pair}");
        assert_eq!(class & 3, 0b10, "{pair}: ECT(0)");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateways_packets_carry_the_mark_of_each_agent_on_one_socket() {
    let house = House::new();
    let marks = Marks::default();
    let gateway = house.gateway(&[7; 32], marks.clone());
    let at = gateway.local_addr().unwrap();
    let mut acceptor = Acceptor::new(gateway, AcceptLimits::default());
    tokio::spawn(async move { while acceptor.next().await.is_some() {} });
    // Packets go through a relay that looks at the class of those that come back.
    let mut classes = Vec::new();
    for pair in [Some(ClassPair::Interactive), Some(ClassPair::Bulk), None] {
        let (towards_agent, towards_gateway) = (UdpSocket::bind("127.0.0.1:0").unwrap(), watcher());
        if let Some(pair) = pair {
            marks.set(towards_gateway.local_addr().unwrap(), pair);
        }
        let relay = towards_agent.local_addr().unwrap();
        let agent = agent(ClassPair::Standard);
        let _dialling = house.dial(&agent, relay);
        let class = tokio::task::spawn_blocking(move || {
            let mut first = vec![0; 2000];
            let (bytes, _) = towards_agent.recv_from(&mut first).unwrap();
            towards_gateway.send_to(&first[..bytes], at).unwrap();
            seen(&towards_gateway).1
        });
        classes.push(class.await.unwrap() >> 2);
    }
    assert_eq!(classes, [ClassPair::Interactive.dscp(), ClassPair::Bulk.dscp(), 0]);
    assert_ne!(classes[0], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_prove_their_address_before_they_cost_memory() {
    let house = House::new();
    let gateway = house.gateway(&[7; 32], Marks::default());
    let at = gateway.local_addr().unwrap();
    let mut acceptor = Acceptor::new(gateway.clone(), AcceptLimits::default());
    // A first packet as from a forged address: the answer goes to one who says no more.
    let stranger = watcher();
    let forging = agent(ClassPair::Standard);
    let relay = UdpSocket::bind("127.0.0.1:0").unwrap();
    let _dialling = house.dial(&forging, relay.local_addr().unwrap());
    let answering = tokio::task::spawn_blocking(move || {
        let mut first = vec![0; 2000];
        let (bytes, _) = relay.recv_from(&mut first).unwrap();
        for _ in 0..100 {
            stranger.send_to(&first[..bytes], at).unwrap();
        }
        let (answer, ..) = seen(&stranger);
        answer
    });
    let answer = tokio::select! {
        answer = answering => answer.unwrap(),
        _ = acceptor.next() => panic!("accepted"),
    };
    assert_eq!(answer[0] & 0xf0, 0xf0, "a Retry packet (RFC 9000 §17.2.5)");
    assert!(answer.len() < 300, "smaller than what was asked with");
    assert_eq!(gateway.open_connections(), 0);
    // One who answers gets in.
    let honest = agent(ClassPair::Standard);
    let (dialled, accepted) =
        timeout(PATIENCE, async { tokio::join!(house.dial(&honest, at), acceptor.next()) }).await.unwrap();
    dialled.unwrap();
    let accepted = accepted.unwrap();
    assert_eq!(accepted.certificates.as_slice(), std::slice::from_ref(&house.leaf));
    assert_eq!(accepted.remote, honest.local_addr().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_at_a_time_are_bounded_in_all_and_by_address() {
    for limits in [
        AcceptLimits { handshakes: 2, ..AcceptLimits::default() },
        AcceptLimits { per_address: 2, ..AcceptLimits::default() },
    ] {
        let house = House::new();
        let gateway = house.gateway(&[7; 32], Marks::default());
        let at = gateway.local_addr().unwrap();
        let mut acceptor = Acceptor::new(gateway, AcceptLimits { time: Duration::from_secs(2), ..limits });
        // These answer the Retry and then fall silent: what comes back does not reach them.
        let mut silent = Vec::new();
        for _ in 0..2 {
            let (agent, near, far) = (agent(ClassPair::Standard), UdpSocket::bind("127.0.0.1:0").unwrap(), watcher());
            silent.push(house.dial(&agent, near.local_addr().unwrap()));
            let passing = tokio::task::spawn_blocking(move || {
                near.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
                let (mut packet, mut answered) = (vec![0; 2000], false);
                // A first flight is more than one packet.
                while let Ok((bytes, from)) = near.recv_from(&mut packet) {
                    far.send_to(&packet[..bytes], at).unwrap();
                    if !std::mem::replace(&mut answered, true) {
                        near.send_to(&seen(&far).0, from).unwrap();
                    }
                }
            });
            tokio::select! {
                passed = passing => passed.unwrap(),
                _ = acceptor.next() => panic!("accepted"),
            }
        }
        // Their handshakes run now, or will before the next one's.
        let late = agent(ClassPair::Standard);
        let refused = tokio::select! {
            refused = house.dial(&late, at) => refused,
            _ = acceptor.next() => panic!("accepted"),
        };
        assert!(matches!(refused, Err(ConnectionError::ConnectionClosed(close))
            if close.error_code == TransportErrorCode::CONNECTION_REFUSED));
        // When their time is over, there is room again.
        let honest = async {
            loop {
                if let Ok(dialled) = house.dial(&late, at).await {
                    return dialled;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(PATIENCE, async { tokio::join!(honest, acceptor.next()) }).await.unwrap().1.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c2_a_connection_lives_on_at_another_address() {
    let house = House::new();
    let gateway = house.gateway(&[7; 32], Marks::default());
    let agent = agent(ClassPair::Standard);
    let mut acceptor = Acceptor::new(gateway.clone(), AcceptLimits::default());
    let dialled = house.dial(&agent, gateway.local_addr().unwrap());
    let (dialled, accepted) = timeout(PATIENCE, async { tokio::join!(dialled, acceptor.next()) }).await.unwrap();
    let accepted = accepted.unwrap();
    let watched = accepted.connection.clone();
    let mut near = Connection::over_quic(dialled.unwrap(), End::Agent);
    let far = Connection::over_quic(accepted.connection, End::Gateway);
    let mut stream = far.opener().open().await.unwrap();
    stream.write_all(b"before").await.unwrap();
    let mut taken = near.next().await.unwrap().unwrap();
    let mut word = [0; 6];
    taken.read_exact(&mut word).await.unwrap();
    quic::rebind(&agent, quic::bind("127.0.0.1:0".parse().unwrap()).unwrap(), ClassPair::Standard).unwrap();
    taken.write_all(b"after!").await.unwrap();
    timeout(PATIENCE, stream.read_exact(&mut word)).await.unwrap().unwrap();
    assert_eq!(&word, b"after!");
    stream.write_all(b"behind").await.unwrap();
    timeout(PATIENCE, taken.read_exact(&mut word)).await.unwrap().unwrap();
    assert_eq!(&word, b"behind");
    assert_ne!(watched.remote_address(), accepted.remote);
    assert_eq!(watched.remote_address(), agent.local_addr().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn c2_a_restarted_gateway_tells_old_connections_at_once() {
    for same_key in [true, false] {
        let house = House::new();
        let config = quic::server_config(house.server()).unwrap();
        // A process of its own, as far as sockets and tasks go.
        let process = tokio::runtime::Runtime::new().unwrap();
        let (tell, told) = tokio::sync::oneshot::channel();
        let (taken, took) = tokio::sync::oneshot::channel();
        let first = config.clone();
        let running = process.spawn(async move {
            let socket = quic::bind("127.0.0.1:0".parse().unwrap()).unwrap();
            let gateway = quic::gateway_endpoint(socket, first, &[7; 32], Marks::default()).unwrap();
            tell.send(gateway.local_addr().unwrap()).unwrap();
            let mut acceptor = Acceptor::new(gateway, AcceptLimits::default());
            let accepted = acceptor.next().await.unwrap();
            taken.send(()).unwrap();
            std::future::pending::<()>().await;
            drop(accepted);
        });
        let at = told.await.unwrap();
        let agent = agent(ClassPair::Standard);
        let dialled = timeout(PATIENCE, house.dial(&agent, at)).await.unwrap().unwrap();
        took.await.unwrap();
        // The gateway's end of the handshake has been heard, too.
        tokio::time::sleep(Duration::from_millis(100)).await;
        // As `kill -9`: not a word is sent.
        process.shutdown_background();
        timeout(PATIENCE, running).await.unwrap().unwrap_err();
        let key = if same_key { [7; 32] } else { [8; 32] };
        let binding = async {
            loop {
                match quic::bind(at) {
                    Ok(socket) => break socket,
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        };
        let socket = timeout(PATIENCE, binding).await.expect("the old socket is gone");
        let _restarted = quic::gateway_endpoint(socket, config, &key, Marks::default()).unwrap();
        let why = timeout(PATIENCE, dialled.closed()).await.unwrap();
        assert_eq!(matches!(why, ConnectionError::Reset), same_key, "{why}");
    }
}
