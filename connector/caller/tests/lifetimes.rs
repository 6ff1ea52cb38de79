//! What ends a tunnel that nobody closes: certificates, silence, revocation, too many of them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod house;

use std::time::Duration;

use house::{CONNECTOR, GATEWAY, House, PATIENCE, Up, connector_name, echo, exchange, peer_leaf};
use sluice_connector_agent::Limits;
use sluice_connector_mux::{Connection, End, read_frame, write_frame};
use sluice_connector_server::{Arrived, DirectAsk, OpenError, TunnelServer};
use sluice_connector_wire::{AgentHello, ClassPair, OpenRequest};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::watch,
    time::timeout,
};

async fn ask(server: &TunnelServer, target: &str) -> Result<(), OpenError> {
    let connectors = [CONNECTOR.parse().unwrap()];
    let (resource, target) = ("roundup".parse().unwrap(), target.parse().unwrap());
    let ask = DirectAsk {
        connectors: &connectors,
        resource: &resource,
        target: &target,
        subject: "user/ada",
        pair: ClassPair::default(),
    };
    timeout(PATIENCE, server.open_direct(&ask, house::now())).await.expect("an answer in time").map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn tunnel_ends_with_its_connectors_certificate() {
    let house = House::new();
    let server = house.tunnel_server(Default::default());
    let short = house.authority.issue_until(&connector_name().to_string(), Duration::from_secs(2));
    let own = house.gateway.cert[0].to_vec();
    let (near, far) = tokio::io::duplex(64 * 1024);
    let mut agent = Connection::over_tcp(near, End::Agent);
    let mut line = agent.opener().open().await.unwrap();
    let hello = AgentHello { sid: sid(0), pair: ClassPair::default() };
    write_frame(&mut line, &hello, PATIENCE).await.unwrap();
    let serving = timeout(PATIENCE, server.serve_tunnel(Arrived::over_tcp(far, short.cert[0].to_vec(), own)));
    let (ended, next) = tokio::join!(serving, agent.next());
    assert!(ended.expect("in time").unwrap_err().to_string().contains("certificate has ended"));
    assert!(next.is_none_or(|next| next.is_err()));
    assert!(server.live().borrow().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn gateway_whose_certificate_changed_during_the_handshake_gets_a_new_tunnel() {
    let house = House::new();
    let target = format!("tcp:{}", echo().await);
    let server = house.tunnel_server(Default::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = listener.local_addr().unwrap();
    let (acceptor, door) = (house.gateway_tls(), server.clone());
    let (stale, right) = (house.connector.cert[0].to_vec(), house.gateway.cert[0].to_vec());
    tokio::spawn(async move {
        for own in [stale, right] {
            let (tcp, _) = listener.accept().await.unwrap();
            let (acceptor, door) = (acceptor.clone(), door.clone());
            tokio::spawn(async move {
                let tls = acceptor.accept(tcp).await.unwrap();
                let leaf = peer_leaf(&tls);
                drop(door.serve_tunnel(Arrived::over_tcp(tls, leaf, own)).await);
            });
        }
    });
    let agent = house.agent(Limits::default());
    let rules = vec![House::rule("roundup", &target, &[GATEWAY], &["127.0.0.1/32"])];
    agent.apply(&house.document(gateway, 1, rules)).unwrap();
    let (_stop, stopped) = watch::channel(false);
    tokio::spawn(async move { agent.run(stopped).await });
    let mut live = server.live();
    let first = timeout(PATIENCE, live.wait_for(|tunnels| tunnels.len() == 1)).await.unwrap().unwrap()[0].sid.clone();
    let refused = ask(&server, &target).await;
    assert!(matches!(refused, Err(OpenError::Refused { code, retry: true, .. }) if code == "token_wrong_certificate"));
    timeout(PATIENCE, live.wait_for(|tunnels| tunnels.iter().any(|tunnel| tunnel.sid != first)))
        .await
        .unwrap()
        .unwrap();
    ask(&server, &target).await.unwrap();
}

/// Connects to `server` as an agent and hands its end over after the hello.
async fn double(house: &House, server: &TunnelServer, sid: &str) -> Connection {
    let (near, far) = tokio::io::duplex(256 * 1024);
    let (door, leaf, own) = (server.clone(), house.connector.cert[0].to_vec(), house.gateway.cert[0].to_vec());
    tokio::spawn(async move { drop(door.serve_tunnel(Arrived::over_tcp(far, leaf, own)).await) });
    let mut connection = Connection::over_tcp(near, End::Agent);
    let mut line = connection.opener().open().await.unwrap();
    let hello = AgentHello { sid: sid.to_owned(), pair: ClassPair::default() };
    let mut live = server.live();
    let said = async {
        write_frame(&mut line, &hello, PATIENCE).await.unwrap();
        live.wait_for(|tunnels| tunnels.iter().any(|tunnel| tunnel.sid == sid)).await.unwrap();
    };
    tokio::select! {
        () = said => {}
        _ = connection.next() => panic!("closed before the hello was taken"),
    }
    tokio::spawn(async move {
        // The line stays open as long as somebody waits on it.
        let _end = line.read_u8().await;
    });
    connection
}

fn sid(n: u8) -> String {
    format!("AAAAAAAAAAAAAAAAAAAA{}A", char::from(b'A' + n))
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_agent_loses_its_tunnel() {
    let house = House::new();
    let limits = sluice_connector_server::Limits { answer: Duration::from_millis(300), ..Default::default() };
    let server = house.tunnel_server(limits);
    let mut agent = double(&house, &server, &sid(0)).await;
    // Takes the stream and never answers.
    let (asked, stream) = tokio::join!(ask(&server, "tcp:127.0.0.1:1"), async {
        let mut stream = agent.next().await.unwrap().unwrap();
        tokio::select! {
            request = read_frame::<OpenRequest>(&mut stream, PATIENCE) => drop(request.unwrap()),
            _ = agent.next() => panic!("closed too early"),
        }
        let _closed = timeout(PATIENCE, agent.next()).await.expect("closed in time");
        stream
    });
    assert!(matches!(asked, Err(OpenError::Broken(_))));
    assert!(server.live().borrow().is_empty());
    drop(stream);
}

#[tokio::test(flavor = "multi_thread")]
async fn connector_has_a_bounded_number_of_tunnels_and_no_two_of_one_session() {
    let house = House::new();
    let limits = sluice_connector_server::Limits { tunnels: 3, tunnels_per_connector: 2, ..Default::default() };
    let server = house.tunnel_server(limits);
    let mut tunnels = Vec::new();
    for n in 0..4 {
        tunnels.push(double(&house, &server, &sid(n)).await);
    }
    let sids = |server: &TunnelServer| -> Vec<String> {
        server.live().borrow().iter().map(|tunnel| tunnel.sid.clone()).collect()
    };
    assert_eq!(sids(&server), [sid(3), sid(2)], "the oldest went");
    for old in tunnels.iter_mut().take(2) {
        let ended = timeout(PATIENCE, old.next()).await.expect("closed in time");
        assert!(ended.is_none_or(|next| next.is_err()));
    }
    // The same session of another connector's is refused; the one that has it stays.
    let (near, far) = tokio::io::duplex(64 * 1024);
    let other = house.authority.issue("spiffe://sluice.test/tenant/acme/connector/dc-2");
    let (leaf, own) = (other.cert[0].to_vec(), house.gateway.cert[0].to_vec());
    let mut connection = Connection::over_tcp(near, End::Agent);
    let mut line = connection.opener().open().await.unwrap();
    let hello = AgentHello { sid: sid(3), pair: ClassPair::default() };
    let agent = async {
        let _sent = write_frame(&mut line, &hello, PATIENCE).await;
        let _end = line.flush().await;
    };
    let (ended, ..) = tokio::join!(
        timeout(PATIENCE, server.serve_tunnel(Arrived::over_tcp(far, leaf, own))),
        agent,
        connection.next()
    );
    assert!(ended.expect("in time").unwrap_err().to_string().contains("session id"));
    assert_eq!(sids(&server), [sid(3), sid(2)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tunnel_of_a_revoked_connector_ends_with_its_streams() {
    let target = format!("tcp:{}", echo().await);
    let up = Up::with(vec![House::rule("roundup", &target, &[GATEWAY], &["127.0.0.1/32"])]).await;
    let mut stream = up.direct("roundup", &target).await.unwrap();
    stream.write_all(b"x").await.unwrap();
    stream.read_u8().await.unwrap();
    assert_eq!(up.server.drop_connector(&"dc-2".parse().unwrap()), 0);
    assert_eq!(up.server.drop_connector(&CONNECTOR.parse().unwrap()), 1);
    assert!(timeout(PATIENCE, stream.read_u8()).await.unwrap().is_err());
    // Whether it may come back is decided by whoever accepts connections; here it may.
    up.tunnels(1).await;
    exchange(&mut up.direct("roundup", &target).await.unwrap(), b"y").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn c2_an_agent_ends_a_connection_with_its_own_certificate_too() {
    let mut house = House::new();
    house.connector = house.authority.issue_until(&connector_name().to_string(), Duration::from_secs(4));
    let evil = house::evil::Evil::run(&house).await;
    let agent = house.agent(Limits::default());
    agent.apply(&house.document(evil.address, 1, Vec::new())).unwrap();
    let (_stop, _running) = house::run_agent(&agent);
    // This gateway looks at no certificate's end; the agent does.
    let lane = |wanted: bool| {
        let agent = agent.clone();
        async move {
            while agent.tunnels().iter().flat_map(|tunnel| &tunnel.lanes).any(|lane| lane.in_use.is_some()) != wanted {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    };
    timeout(PATIENCE, lane(true)).await.expect("up");
    timeout(PATIENCE, lane(false)).await.expect("down with the certificate");
}
