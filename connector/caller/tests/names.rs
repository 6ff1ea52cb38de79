//! Names are resolved at the connector, by servers it was told of, and what was judged is what is dialled.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod house;

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use hickory_proto::rr::RecordType;
use house::{
    GATEWAY, House, PATIENCE, Up,
    dns::{Dnsmasq, double},
    exchange,
};
use sluice_connector_agent::{DnsServer, DnsSettings, DnsSuffix, Limits, Resolver};
use sluice_connector_server::OpenError;
use sluice_connector_wire::Refusal;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::timeout,
};

const LIMIT: Duration = Duration::from_secs(5);

fn resolver(settings: &DnsSettings) -> Resolver {
    Resolver::new(settings, 64, LIMIT).unwrap()
}

fn all_by(servers: &[SocketAddr]) -> DnsSettings {
    let servers = servers.iter().map(|server| server.to_string().parse().unwrap()).collect();
    DnsSettings { servers, suffixes: Vec::new() }
}

fn below(name: &str, server: DnsServer) -> DnsSuffix {
    DnsSuffix { name: name.to_owned(), servers: vec![server] }
}

fn ips(all: &[&str]) -> Vec<IpAddr> {
    all.iter().map(|ip| ip.parse().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn c5_each_suffix_is_asked_of_its_own_servers() {
    let site = Dnsmasq::with(&["app.site.test,192.0.2.1,2001:db8::1", "pc.lab.corp.test,192.0.2.9"]).await;
    let corp = Dnsmasq::with(&["ad.corp.test,192.0.2.2"]).await;
    let lab = Dnsmasq::with(&["pc.lab.corp.test,192.0.2.3"]).await;
    let over_tcp: DnsServer = format!("tcp:{}", lab.address).parse().unwrap();
    let corp: DnsServer = corp.address.to_string().parse().unwrap();
    let suffixes = vec![below("corp.test", corp), below("lab.corp.test", over_tcp)];
    let resolver = resolver(&DnsSettings { suffixes, ..all_by(&[site.address]) });
    assert_eq!(resolver.resolve("app.site.test").await, Ok(ips(&["2001:db8::1", "192.0.2.1"])));
    assert_eq!(resolver.resolve("ad.corp.test").await, Ok(ips(&["192.0.2.2"])));
    assert_eq!(resolver.resolve("pc.lab.corp.test").await, Ok(ips(&["192.0.2.3"])));
    // Nobody else is asked about a suffix, nor is a file.
    assert_eq!(resolver.resolve("app.corp.test").await, Err(Refusal::Unresolved));
    assert_eq!(resolver.resolve("notcorp.test").await, Err(Refusal::Unresolved));
    assert_eq!(resolver.resolve("192.0.2.77").await, Ok(ips(&["192.0.2.77"])));
}

#[tokio::test(flavor = "multi_thread")]
async fn c5_answers_too_long_for_a_datagram_come_over_tcp_and_are_bounded() {
    let many: Vec<String> = (1..=200).map(|n| format!("many.site.test,192.0.2.{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let server = Dnsmasq::with(&many).await;
    let found = resolver(&all_by(&[server.address])).resolve("many.site.test").await.unwrap();
    assert_eq!(found.len(), sluice_node_reach::MAX_ADDRESSES);
}

#[tokio::test(flavor = "multi_thread")]
async fn c5_a_silent_server_a_silent_family_and_a_lost_datagram_are_got_over() {
    let silent = double(|_, _| None).await;
    let no_six = double(|_, family| (family == RecordType::A).then(|| (ips(&["192.0.2.1"]), 60))).await;
    assert_eq!(resolver(&all_by(&[no_six])).resolve("a.test").await, Ok(ips(&["192.0.2.1"])));
    assert_eq!(resolver(&all_by(&[silent, no_six])).resolve("a.test").await, Ok(ips(&["192.0.2.1"])));
    let mut asked = 0;
    let second_time = double(move |_, family| {
        asked += usize::from(family == RecordType::A);
        (asked > 1).then(|| (ips(&["192.0.2.1"]), 60))
    });
    assert_eq!(resolver(&all_by(&[second_time.await])).resolve("a.test").await, Ok(ips(&["192.0.2.1"])));
}

#[tokio::test(flavor = "multi_thread")]
async fn c5_names_that_nobody_answers_for_are_bounded_in_time_and_number() {
    let (heard, mut names) = tokio::sync::mpsc::channel(64);
    let silent = double(move |name, family| {
        if family == RecordType::A {
            heard.try_send(name.to_owned()).unwrap();
        }
        None
    });
    let resolver = Arc::new(Resolver::new(&all_by(&[silent.await]), 3, Duration::from_secs(1)).unwrap());
    let began = Instant::now();
    let mut asking = Vec::new();
    for n in 0..3 {
        let (resolver, name) = (resolver.clone(), format!("h{n}.test"));
        asking.push(tokio::spawn(async move { resolver.resolve(&name).await }));
        names.recv().await.unwrap();
    }
    assert_eq!(resolver.resolve("one-more.test").await, Err(Refusal::Busy));
    for asked in asking {
        assert_eq!(asked.await.unwrap(), Err(Refusal::Unresolved));
    }
    assert!(began.elapsed() < PATIENCE);
    assert_eq!(resolver.resolve("room-again.test").await, Err(Refusal::Unresolved));
}

#[tokio::test(flavor = "multi_thread")]
async fn c5_answers_are_kept_for_their_ttl_and_no_longer() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    let server = double(move |name, family| {
        counter.fetch_add(usize::from(family == RecordType::A), Ordering::SeqCst);
        Some((ips(&["192.0.2.1"]), if name == "long.test" { 86_400 } else { 1 }))
    });
    let resolver = resolver(&all_by(&[server.await]));
    for _ in 0..50 {
        resolver.resolve("long.test").await.unwrap();
    }
    assert_eq!(asked.swap(0, Ordering::SeqCst), 1);
    resolver.resolve("short.test").await.unwrap();
    tokio::time::sleep(Duration::from_millis(1200)).await;
    resolver.resolve("short.test").await.unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

/// Two listeners on one port: what may be reached, and what must never be.
async fn twins() -> (u16, Arc<AtomicUsize>) {
    let (good, bad) = loop {
        let good = TcpListener::bind("127.0.0.2:0").await.unwrap();
        let port = good.local_addr().unwrap().port();
        if let Ok(bad) = TcpListener::bind(("127.0.0.1", port)).await {
            break (good, bad);
        }
    };
    let port = good.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = good.accept().await {
            tcp.write_all(b"good").await.unwrap();
        }
    });
    let caught = Arc::new(AtomicUsize::new(0));
    let counter = caught.clone();
    tokio::spawn(async move {
        while bad.accept().await.is_ok() {
            counter.fetch_add(1, Ordering::SeqCst);
        }
    });
    (port, caught)
}

#[tokio::test(flavor = "multi_thread")]
async fn c5_name_that_answers_otherwise_each_time_never_leads_past_the_dial_guard() {
    let (port, caught) = twins().await;
    let mut turn = 0;
    // First what may be dialled, then this machine itself, then both in either order; never kept.
    let server = double(move |_, family| {
        turn += usize::from(family == RecordType::A);
        let answers: [&[&str]; 4] =
            [&["127.0.0.2"], &["127.0.0.1"], &["127.0.0.1", "127.0.0.2"], &["127.0.0.2", "127.0.0.1", "::1"]];
        Some((ips(answers[turn % 4]), 0))
    })
    .await;
    let mut house = House::new();
    house.dns = all_by(&[server]);
    let target = format!("tcp:rebind.test:{port}");
    let rules = vec![House::rule("web", &target, &[GATEWAY], &["127.0.0.2/32"])];
    let up = Up::in_house(house, rules, Limits::default(), Default::default()).await;
    let (mut opened, mut refused) = (0, 0);
    for _ in 0..40 {
        match up.direct("web", &target).await {
            Ok(mut stream) => {
                let mut got = [0; 4];
                timeout(PATIENCE, stream.read_exact(&mut got)).await.unwrap().unwrap();
                assert_eq!(&got, b"good");
                opened += 1;
            }
            Err(OpenError::Refused { code, .. }) => {
                assert_eq!(code, "target_forbidden");
                refused += 1;
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(opened >= 20 && refused >= 5, "{opened} opened, {refused} refused");
    assert_eq!(caught.load(Ordering::SeqCst), 0, "a name led to the connector's own machine");
}

#[tokio::test(flavor = "multi_thread")]
async fn c5_target_with_one_dead_address_is_reached_by_its_other_one() {
    let echo = house::echo().await;
    // A listener whose queue is full answers no more: as dead as an address gets on loopback.
    let dead = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    dead.bind(&SocketAddr::from(([127, 0, 0, 3], echo.port())).into()).unwrap();
    dead.listen(0).unwrap();
    let filler: Vec<_> = (0..4)
        .map(|_| tokio::spawn(tokio::net::TcpStream::connect(SocketAddr::from(([127, 0, 0, 3], echo.port())))))
        .collect();
    let answer = ips(&["127.0.0.3", "127.0.0.1"]);
    let mut house = House::new();
    house.dns = all_by(&[double(move |_, _| Some((answer.clone(), 60))).await]);
    let target = format!("tcp:two.test:{}", echo.port());
    let rules = vec![House::rule("web", &target, &[GATEWAY], &["127.0.0.0/8"])];
    // Longer than any test waits: the dead address alone would fail it.
    let limits = Limits { connect: PATIENCE * 3, ..Default::default() };
    let up = Up::in_house(house, rules, limits, Default::default()).await;
    let mut stream = up.direct("web", &target).await.unwrap();
    assert_eq!(exchange(&mut stream, b"through").await.unwrap(), b"through");
    drop(filler);
}

/// Answers with this machine's address once it is let; says how often it was asked.
async fn held_back() -> (SocketAddr, Arc<AtomicUsize>, Arc<AtomicBool>) {
    let (asked, let_go) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let (count, answers) = (asked.clone(), let_go.clone());
    let server = double(move |_, _| {
        count.fetch_add(1, Ordering::SeqCst);
        answers.load(Ordering::SeqCst).then(|| (ips(&["127.0.0.1"]), 0))
    });
    (server.await, asked, let_go)
}

async fn asked_for(asked: &AtomicUsize) {
    let asking = async {
        while asked.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, asking).await.expect("asked in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn c5_a_right_that_is_withdrawn_while_the_target_is_dialled_opens_nothing() {
    let (server, asked, let_go) = held_back().await;
    let mut house = House::new();
    house.dns = all_by(&[server]);
    let target = format!("tcp:web.test:{}", house::echo().await.port());
    let rules = vec![House::rule("web", &target, &[GATEWAY], &["127.0.0.0/8"])];
    let up = Up::in_house(house, rules, Limits::default(), Default::default()).await;
    let withdraw = async {
        asked_for(&asked).await;
        up.agent.apply(&up.house.document(up.gateway, 2, Vec::new())).unwrap();
        let_go.store(true, Ordering::SeqCst);
    };
    let (opened, ()) = tokio::join!(up.direct("web", &target), withdraw);
    assert!(matches!(opened, Err(OpenError::Refused { code, .. }) if code == "not_allowed"));
}
