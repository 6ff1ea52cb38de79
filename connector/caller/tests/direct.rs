//! Direct streams over real sockets: agent, gateway, targets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod house;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::{rand::SystemRandom, signature::Ed25519KeyPair};
use house::{GATEWAY, House, PATIENCE, Up, echo, exchange, serve};
use sluice_connector_agent::Limits;
use sluice_connector_server::OpenError;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::watch,
    time::timeout,
};

fn code(error: &OpenError) -> &str {
    match error {
        OpenError::Refused { code, .. } => code,
        other => panic!("not a refusal: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c2_c5_user_reaches_an_allowed_target_through_an_outbound_tunnel() {
    let target = format!("tcp:{}", echo().await);
    let up = Up::with(vec![House::rule("roundup", &target, &[GATEWAY], &["127.0.0.1/32"])]).await;
    let mut stream = up.direct("roundup", &target).await.unwrap();
    let sent: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    assert_eq!(exchange(&mut stream, &sent).await.unwrap(), sent);
    // Streams on one tunnel do not mix.
    let (mut one, mut two) =
        (up.direct("roundup", &target).await.unwrap(), up.direct("roundup", &target).await.unwrap());
    let (a, b) = tokio::join!(exchange(&mut one, b"one"), exchange(&mut two, b"two"));
    assert_eq!((a.unwrap(), b.unwrap()), (b"one".to_vec(), b"two".to_vec()));
}

#[tokio::test(flavor = "multi_thread")]
async fn c5_target_that_resolves_to_loopback_or_metadata_is_refused() {
    let at = echo().await;
    let (by_name, by_address) = (format!("tcp:localhost:{}", at.port()), format!("tcp:{at}"));
    let mapped = format!("tcp:[::ffff:127.0.0.1]:{}", at.port());
    let rules = vec![
        House::rule("by-name", &by_name, &[GATEWAY], &["10.0.0.0/8"]),
        House::rule("by-address", &by_address, &[GATEWAY], &[]),
        // Naming half of all does not name loopback in it.
        House::rule("wide", &by_address, &[GATEWAY], &["0.0.0.0/1", "::/1"]),
        House::rule("mapped", &mapped, &[GATEWAY], &["::/1"]),
        House::rule("metadata", "tcp:169.254.169.254:80", &[GATEWAY], &["128.0.0.0/1"]),
        House::rule("private", "tcp:10.255.255.1:80", &[GATEWAY], &["192.168.0.0/16"]),
    ];
    let up = Up::with(rules).await;
    for (resource, target) in [
        ("by-name", by_name.as_str()),
        ("by-address", &by_address),
        ("wide", &by_address),
        ("mapped", &mapped),
        ("metadata", "tcp:169.254.169.254:80"),
        ("private", "tcp:10.255.255.1:80"),
    ] {
        assert_eq!(code(&up.direct(resource, target).await.unwrap_err()), "target_forbidden", "{resource}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c5_what_is_not_on_the_list_is_refused_and_nothing_is_dialled() {
    let dialled = Arc::new(AtomicUsize::new(0));
    let counter = dialled.clone();
    let at = serve(move |_tcp| {
        counter.fetch_add(1, Ordering::SeqCst);
        async {}
    })
    .await;
    let target = format!("tcp:{at}");
    let up = Up::with(vec![House::rule("directory", &target, &["control"], &["127.0.0.1/32"])]).await;
    for resource in ["directory", "unknown"] {
        assert_eq!(code(&up.direct(resource, &target).await.unwrap_err()), "not_allowed");
    }
    assert_eq!(dialled.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn c5_rule_taken_off_the_list_ends_running_streams() {
    let target = format!("tcp:{}", echo().await);
    let up = Up::with(vec![House::rule("roundup", &target, &[GATEWAY], &["127.0.0.1/32"])]).await;
    let mut stream = up.direct("roundup", &target).await.unwrap();
    stream.write_all(b"x").await.unwrap();
    stream.read_u8().await.unwrap();
    // A list that still has it changes nothing.
    let same = vec![House::rule("roundup", &target, &[GATEWAY], &["127.0.0.1/32"])];
    up.agent.apply(&up.house.document(up.gateway, 2, same)).unwrap();
    stream.write_all(b"y").await.unwrap();
    stream.read_u8().await.unwrap();
    up.agent.apply(&up.house.document(up.gateway, 3, Vec::new())).unwrap();
    let end = timeout(PATIENCE, stream.read_u8()).await.unwrap();
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test(flavor = "multi_thread")]
async fn c5_network_or_key_taken_off_the_list_ends_running_streams() {
    let target = format!("tcp:{}", echo().await);
    let rule = |network: &str| vec![House::rule("roundup", &target, &[GATEWAY], &[network])];
    for what in ["network", "key"] {
        let mut up = Up::with(rule("127.0.0.1/32")).await;
        let mut stream = up.direct("roundup", &target).await.unwrap();
        stream.write_all(b"x").await.unwrap();
        stream.read_u8().await.unwrap();
        let network = if what == "network" { "10.0.0.0/8" } else { "127.0.0.1/32" };
        if what == "key" {
            // The gateway registered another one, after its own was found to be in wrong hands.
            up.house.gateway_key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap().as_ref().to_vec();
        }
        up.agent.apply(&up.house.document(up.gateway, 2, rule(network))).unwrap();
        let end = timeout(PATIENCE, stream.read_u8()).await.unwrap_or_else(|_| panic!("{what}"));
        assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c5_a_gateway_at_an_address_that_nobody_named_is_not_dialled() {
    let house = House::new();
    let [named, unnamed] =
        [TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.2:0").await.unwrap()];
    let mut document = house.document(unnamed.local_addr().unwrap(), 1, Vec::new());
    document.gateways.extend(house.document(named.local_addr().unwrap(), 1, Vec::new()).gateways);
    document.gateways[1].id = "gw-2".parse().unwrap();
    let agent = house.agent(Limits::default());
    agent.apply(&document).unwrap();
    let (_stop, stopped) = watch::channel(false);
    tokio::spawn(async move { agent.run(stopped).await });
    // Both are tried at once; when the named one has been dialled twice, the other has had its turn.
    for _ in 0..2 {
        drop(timeout(PATIENCE, named.accept()).await.unwrap().unwrap());
    }
    let unnamed = unnamed.into_std().unwrap();
    assert_eq!(unnamed.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_document_changes_nothing_and_the_position_survives_a_restart() {
    let target = format!("tcp:{}", echo().await);
    let rules = vec![House::rule("roundup", &target, &[GATEWAY], &["127.0.0.1/32"])];
    let up = Up::with(rules.clone()).await;
    let fifth = up.house.document(up.gateway, 5, rules);
    up.agent.apply(&fifth).unwrap();
    let back = up.house.document(up.gateway, 4, Vec::new());
    assert!(up.agent.apply(&back).unwrap_err().to_string().contains("goes back"));
    exchange(&mut up.direct("roundup", &target).await.unwrap(), b"still").await.unwrap();
    let restarted = up.house.agent(Limits::default());
    assert!(restarted.apply(&back).is_err());
    assert!(restarted.apply(&up.house.document(up.gateway, 5, Vec::new())).is_err(), "one version, two contents");
    restarted.apply(&fifth).unwrap();
    // A damaged file is no reason to start from nothing.
    std::fs::write(up.house.state.path().join("allow-list.json"), b"{").unwrap();
    assert!(sluice_connector_agent::Agent::open(up.house.pieces(Limits::default())).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_ends_a_users_streams_and_nobody_elses() {
    let target = format!("tcp:{}", echo().await);
    let up = Up::with(vec![House::rule("roundup", &target, &[GATEWAY], &["127.0.0.1/32"])]).await;
    let mut stream = up.direct("roundup", &target).await.unwrap();
    assert_eq!(up.server.cut("user/bob"), 0);
    let waiting = tokio::spawn(async move {
        let read = stream.read_u8().await;
        (read.unwrap_err().kind(), stream.write_all(b"x").await.unwrap_err().kind())
    });
    tokio::task::yield_now().await;
    assert_eq!(up.server.cut("user/ada"), 1);
    let aborted = std::io::ErrorKind::ConnectionAborted;
    assert_eq!(timeout(PATIENCE, waiting).await.unwrap().unwrap(), (aborted, aborted));
    assert_eq!(up.server.cut("user/ada"), 0, "a cut stream that was dropped is forgotten");
}

#[tokio::test(flavor = "multi_thread")]
async fn target_that_breaks_off_is_not_taken_for_one_that_ended() {
    let at = serve(|mut tcp| async move {
        tcp.write_all(b"half an ans").await.unwrap();
        tcp.read_u8().await.unwrap();
        socket2::SockRef::from(&tcp).set_linger(Some(Duration::ZERO)).unwrap();
    })
    .await;
    let target = format!("tcp:{at}");
    let up = Up::with(vec![House::rule("roundup", &target, &[GATEWAY], &["127.0.0.1/32"])]).await;
    let mut stream = up.direct("roundup", &target).await.unwrap();
    stream.write_all(b"?").await.unwrap();
    let mut got = Vec::new();
    let end = timeout(PATIENCE, stream.read_to_end(&mut got)).await.unwrap();
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    // Closed ports are told apart from forbidden ones, for those who may ask.
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let gone = format!("tcp:{gone}");
    let rules = vec![House::rule("gone", &gone, &[GATEWAY], &["127.0.0.1/32"])];
    up.agent.apply(&up.house.document(up.gateway, 2, rules)).unwrap();
    assert_eq!(code(&up.direct("gone", &gone).await.unwrap_err()), "target_unreachable");
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_tunnel_comes_back_and_a_stopping_agent_lets_streams_end() {
    let target = format!("tcp:{}", echo().await);
    let up = Up::with(vec![House::rule("roundup", &target, &[GATEWAY], &["127.0.0.1/32"])]).await;
    let before = up.sid();
    // A connection that was being made when its tunnel was dropped keeps the session alive; so again, until all are gone.
    let renewed = async {
        while up.sid() == before {
            up.server.drop_connector(&"dc-1".parse().unwrap());
            up.tunnels(1).await;
        }
    };
    timeout(PATIENCE, renewed).await.expect("a new tunnel has a new session");
    let mut stream = up.direct("roundup", &target).await.unwrap();
    stream.write_all(b"a").await.unwrap();
    stream.read_u8().await.unwrap();
    up.stop.send(true).unwrap();
    up.tunnels(0).await;
    assert!(matches!(up.direct("roundup", &target).await, Err(OpenError::NoTunnel)));
    assert_eq!(exchange(&mut stream, b"the rest").await.unwrap(), b"the rest");
    drop(stream);
    timeout(PATIENCE, up.running).await.expect("the agent ends when its streams have").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_reader_stalls_nobody_and_takes_bounded_memory() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = sent.clone();
    // Sends as much as it can, for ever.
    let flood = serve(move |mut tcp| {
        let counter = counter.clone();
        async move {
            let block = vec![7_u8; 64 * 1024];
            while tcp.write_all(&block).await.is_ok() {
                counter.fetch_add(block.len(), Ordering::SeqCst);
            }
        }
    })
    .await;
    let (flood, echo) = (format!("tcp:{flood}"), format!("tcp:{}", echo().await));
    let up = Up::with(vec![
        House::rule("flood", &flood, &[GATEWAY], &["127.0.0.1/32"]),
        House::rule("roundup", &echo, &[GATEWAY], &["127.0.0.1/32"]),
    ])
    .await;
    let slow = up.direct("flood", &flood).await.unwrap();
    // Wait until nothing moves any more.
    let mut before = usize::MAX;
    let settled = async {
        while before != sent.load(Ordering::SeqCst) || before == 0 {
            before = sent.load(Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    };
    timeout(PATIENCE, settled).await.expect("the flood comes to a stand");
    let data: Vec<u8> = vec![5; 8 * 1024 * 1024];
    let mut quick = up.direct("roundup", &echo).await.unwrap();
    assert_eq!(exchange(&mut quick, &data).await.unwrap().len(), data.len());
    // Socket buffers (a few MiB on loopback) and one stream window; not more and more.
    let stalled = sent.load(Ordering::SeqCst);
    assert!(stalled < 24 * 1024 * 1024, "{stalled} bytes were taken from the target for a reader that never reads");
    drop(slow);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_beyond_the_caps_are_refused_and_the_tunnel_lives() {
    let target = format!("tcp:{}", echo().await);
    let rules = vec![House::rule("roundup", &target, &[GATEWAY], &["127.0.0.1/32"])];
    let server_limits = sluice_connector_server::Limits { streams_per_connection: 4, ..Default::default() };
    let up = Up::with_limits(rules, Limits { streams: 3, ..Default::default() }, server_limits).await;
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(up.direct("roundup", &target).await.unwrap());
    }
    assert_eq!(code(&up.direct("roundup", &target).await.unwrap_err()), "connector_busy");
    open.pop();
    let again = async {
        loop {
            match up.direct("roundup", &target).await {
                Ok(stream) => break stream,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    let mut stream = timeout(PATIENCE, again).await.expect("room again");
    assert_eq!(exchange(&mut stream, b"fine").await.unwrap(), b"fine");
}

#[tokio::test(flavor = "multi_thread")]
async fn c4_a_connector_that_died_before_its_document_was_kept_serves_again_by_the_list_it_used_last() {
    let target = format!("tcp:{}", echo().await);
    let rules = vec![House::rule("roundup", &target, &[GATEWAY], &["127.0.0.1/32"])];
    let up = Up::with(rules.clone()).await;
    let file = up.house.state.path().join("allow-list.json");
    let not_after = house::now().plus(3600);
    let inode = || std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&file).unwrap());
    let second = |rules| up.house.document_until(up.gateway, 2, rules, not_after);
    up.agent.apply(&second(rules.clone())).unwrap();
    let second = second(rules);
    let before = inode();
    // Another signature; then what is there already.
    up.agent.apply(&second).unwrap();
    let written = inode();
    assert_ne!(written, before);
    up.agent.apply(&second).unwrap();
    assert_eq!(inode(), written, "the same is not written again");
    up.stop.send(true).unwrap();
    up.tunnels(0).await;
    // Nobody offers it a document but the node, which has kept an older one.
    let agent = up.house.agent(Limits::default());
    let (_stop, _running) = house::run_agent(&agent);
    assert!(agent.apply(&up.house.document(up.gateway, 1, Vec::new())).is_err());
    up.tunnels(1).await;
    exchange(&mut up.direct("roundup", &target).await.unwrap(), b"back").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn c5_what_this_machines_owner_forbids_no_list_opens() {
    let at = echo().await;
    let (by_name, by_address) = (format!("tcp:localhost:{}", at.port()), format!("tcp:{at}"));
    let mapped = format!("tcp:[::ffff:127.0.0.1]:{}", at.port());
    let rule = |target: &str| House::rule("roundup", target, &[GATEWAY], &["127.0.0.0/8", "::1/128"]);
    let house = House { forbidden: vec!["127.0.0.0/8".parse().unwrap()], ..House::new() };
    let rules = vec![rule(&by_name), rule(&by_address), rule(&mapped)];
    let up = Up::in_house(house, rules, Limits::default(), Default::default()).await;
    for target in [&by_name, &by_address, &mapped] {
        assert_eq!(code(&up.direct("roundup", target).await.unwrap_err()), "target_forbidden", "{target}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c4_a_connector_that_control_has_long_been_silent_to_opens_nothing_new() {
    let target = format!("tcp:{}", echo().await);
    let up = Up::with(vec![House::rule("roundup", &target, &[GATEWAY], &["127.0.0.1/32"])]).await;
    let mut stream = up.direct("roundup", &target).await.unwrap();
    up.house.stale.store(true, Ordering::SeqCst);
    let refused = up.direct("roundup", &target).await.unwrap_err();
    assert_eq!((code(&refused), refused.retry()), ("connector_stale", true));
    assert_eq!(exchange(&mut stream, b"what runs goes on").await.unwrap(), b"what runs goes on");
    up.house.stale.store(false, Ordering::SeqCst);
    exchange(&mut up.direct("roundup", &target).await.unwrap(), b"control is back").await.unwrap();
}
