//! Several ways to one target: load is shared, what does not answer is passed by, and whoever stops loses nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod house;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use house::{
    CONNECTOR, GATEWAY, House, PATIENCE, double::Double, echo, exchange, gateway_at, run_agent, run_gateway,
    run_gateway_as, tunnels,
};
use sluice_connector_agent::{Agent, Limits};
use sluice_connector_caller::{Gateway, SealedCaller, Way, Wish};
use sluice_connector_mux::write_frame;
use sluice_connector_server::{DirectAsk, DirectStream, OpenError, TunnelServer};
use sluice_connector_wire::{AllowRule, ClassPair, GatewayEndpoint, OpenReply, TokenSigner};
use sluice_node_identity::{NodeId, StateEvent, StateView};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::{sleep, timeout},
};

const SIDS: [&str; 2] = ["AAAAAAAAAAAAAAAAAAAAAA", "BBBBBBBBBBBBBBBBBBBBBA"];
/// What an opening may cost that has to pass by a dead way: less than a second, and slack for a busy machine.
const QUICK: Duration = Duration::from_secs(5);

fn rules(target: &str) -> Vec<AllowRule> {
    vec![House::rule("roundup", target, &[GATEWAY, "control"], &["127.0.0.1/32"])]
}

async fn open(server: &TunnelServer, connectors: &[&str], target: &str) -> Result<DirectStream, OpenError> {
    let connectors: Vec<NodeId> = connectors.iter().map(|id| id.parse().unwrap()).collect();
    let ask = DirectAsk {
        connectors: &connectors,
        resource: &"roundup".parse().unwrap(),
        target: &target.parse().unwrap(),
        subject: "user/ada",
        pair: ClassPair::Standard,
    };
    timeout(PATIENCE, server.open_direct(&ask, house::now())).await.expect("an answer in time")
}

/// Two real connectors of one site at one gateway.
struct Site {
    house: House,
    server: TunnelServer,
    agents: Vec<Agent>,
    stops: Vec<tokio::sync::watch::Sender<bool>>,
    _states: TempDir,
}

impl Site {
    async fn with(target: &str) -> Self {
        let (house, state) = (House::new(), tempfile::tempdir().unwrap());
        let server = house.tunnel_server(Default::default());
        let gateway = run_gateway(&house, server.clone()).await;
        let agents = vec![house.agent(Limits::default()), house.other_agent("dc-2", &state, Limits::default())];
        agents[0].apply(&house.document(gateway, 1, rules(target))).unwrap();
        agents[1].apply(&house.document_for("dc-2", gateway, 1, rules(target), house::now().plus(3600))).unwrap();
        let stops = agents.iter().map(|agent| run_agent(agent).0).collect();
        tunnels(&server, 2).await;
        Self { house, server, agents, stops, _states: state }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c5_connectors_of_a_site_share_the_load() {
    let target = format!("tcp:{}", echo().await);
    let site = Site::with(&target).await;
    let mut open_streams = Vec::new();
    for _ in 0..60 {
        open_streams.push(open(&site.server, &[CONNECTOR, "dc-2"], &target).await.unwrap());
    }
    let carried: Vec<u64> = site.agents.iter().map(|agent| agent.streams().total as u64).collect();
    assert_eq!(carried.iter().sum::<u64>(), 60);
    assert!(carried.iter().all(|carried| *carried >= 15), "{carried:?}");
    for stream in &mut open_streams {
        assert_eq!(exchange(stream, b"fine").await.unwrap(), b"fine");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c2_a_stopping_connector_hands_over_without_a_failed_request() {
    let target = format!("tcp:{}", echo().await);
    let site = Site::with(&target).await;
    let (done, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let load = async {
        while !over.load(Ordering::SeqCst) {
            let mut stream = open(&site.server, &[CONNECTOR, "dc-2"], &target).await.expect("a request failed");
            assert_eq!(exchange(&mut stream, b"request").await.expect("a request failed"), b"request");
            done.fetch_add(1, Ordering::SeqCst);
        }
    };
    let stopping = async {
        while done.load(Ordering::SeqCst) < 20 {
            sleep(Duration::from_millis(5)).await;
        }
        site.stops[0].send(true).unwrap();
        tunnels(&site.server, 1).await;
        let before = done.load(Ordering::SeqCst);
        while done.load(Ordering::SeqCst) < before + 20 {
            sleep(Duration::from_millis(5)).await;
        }
        over.store(true, Ordering::SeqCst);
    };
    timeout(PATIENCE, async { tokio::join!(load, stopping) }).await.expect("in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn c2_a_connector_that_does_not_answer_costs_less_than_a_second() {
    let target = format!("tcp:{}", echo().await);
    let site = Site::with(&target).await;
    site.stops[1].send(true).unwrap();
    tunnels(&site.server, 1).await;
    // The best way there is, by its own account; it never answers.
    let shown = site.house.authority.issue("spiffe://sluice.test/tenant/acme/connector/dc-3");
    let mut silent = Double::connect(&site.house, &site.server, &shown, SIDS[0], ClassPair::Standard).await;
    silent.ping(Some(1), 0, 1_000).await;
    let began = Instant::now();
    let (opened, (mut asked, _token)) = tokio::join!(open(&site.server, &["dc-3", CONNECTOR], &target), silent.asked());
    let mut opened = opened.unwrap();
    assert!(began.elapsed() < QUICK, "{:?}", began.elapsed());
    assert_eq!(exchange(&mut opened, b"by the other").await.unwrap(), b"by the other");
    // It answers after all: its stream was reset, so it closes what it dialled.
    let _too_late = write_frame(&mut asked, &OpenReply::Open, PATIENCE).await;
    let end = timeout(PATIENCE, asked.read_u8()).await.expect("the loser hears of it");
    assert!(end.is_err_and(|error| error.kind() != std::io::ErrorKind::UnexpectedEof));
}

/// Two connectors that do what the test says, the first the better one. Nothing is tried beside what has not answered
/// yet, however slow this machine.
async fn two_doubles() -> (House, TunnelServer, Double, Double) {
    let house = House::new();
    let limits = sluice_connector_server::Limits { hedge: PATIENCE * 10, ..Default::default() };
    let server = house.tunnel_server(limits);
    let other = house.authority.issue("spiffe://sluice.test/tenant/acme/connector/dc-2");
    let first = Double::connect(&house, &server, &house.connector, SIDS[0], ClassPair::Standard).await;
    let mut second = Double::connect(&house, &server, &other, SIDS[1], ClassPair::Standard).await;
    second.ping(Some(90_000), 0, 100).await;
    (house, server, first, second)
}

/// Has the next stream refused; gives its token.
async fn refuse(double: &mut Double, retry: bool) -> String {
    let (mut asked, token) = double.asked().await;
    let refused = OpenReply::Refused { code: "a_code".into(), message: "no".into(), retry };
    write_frame(&mut asked, &refused, PATIENCE).await.unwrap();
    asked.shutdown().await.unwrap();
    token
}

async fn accept(double: &mut Double) -> (String, sluice_connector_mux::Stream) {
    let (mut asked, token) = double.asked().await;
    write_frame(&mut asked, &OpenReply::Open, PATIENCE).await.unwrap();
    (token, asked)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_gets_a_token_of_its_own() {
    let (_house, server, mut first, mut second) = two_doubles().await;
    let answering = async { (refuse(&mut first, true).await, accept(&mut second).await) };
    let connectors = [CONNECTOR, "dc-2"];
    let (opened, (token, (other_token, _held))) =
        tokio::join!(open(&server, &connectors, "tcp:127.0.0.1:1"), answering);
    assert!(opened.is_ok() && token != other_token);
}

#[tokio::test(flavor = "multi_thread")]
async fn c5_a_connector_that_refuses_for_good_is_passed_by_and_then_asked_last() {
    let (_house, server, mut first, mut second) = two_doubles().await;
    let connectors = [CONNECTOR, "dc-2"];
    // Its clock is wrong, say: it would refuse everything, and carry nothing.
    let answering = async { (refuse(&mut first, false).await, accept(&mut second).await) };
    let (opened, _held) = tokio::join!(open(&server, &connectors, "tcp:127.0.0.1:1"), answering);
    assert!(opened.is_ok(), "{opened:?}");
    let (opened, _held) = tokio::join!(open(&server, &connectors, "tcp:127.0.0.1:1"), accept(&mut second));
    assert!(opened.is_ok(), "{opened:?}");
    let nobody_asked = timeout(Duration::from_millis(300), first.connection.next()).await;
    assert!(nobody_asked.is_err(), "the one that refuses was asked first again");
    // When all refuse for good, so does the whole; when one may yet, the whole may yet.
    for (by_second, retry) in [(false, false), (true, true)] {
        let answering = async { tokio::join!(refuse(&mut first, false), refuse(&mut second, by_second)) };
        let (opened, _) = tokio::join!(open(&server, &connectors, "tcp:127.0.0.1:1"), answering);
        assert!(matches!(opened, Err(OpenError::Refused { retry: told, .. }) if told == retry), "{opened:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_opening_without_an_answer_ends_no_stream_of_an_agent_that_lives() {
    let house = House::new();
    let limits = sluice_connector_server::Limits { answer: Duration::from_millis(500), ..Default::default() };
    let server = house.tunnel_server(limits);
    let mut agent = Double::connect(&house, &server, &house.connector, SIDS[0], ClassPair::Standard).await;
    let ask = || open(&server, &[CONNECTOR], "tcp:127.0.0.1:1");
    let (running, mut far) = tokio::join!(ask(), agent.open_next());
    let mut running = running.unwrap();
    let (late, _asked) = tokio::join!(ask(), agent.asked());
    assert!(late.unwrap_err().is_late());
    running.write_all(b"still").await.unwrap();
    let mut heard = [0; 5];
    timeout(PATIENCE, far.read_exact(&mut heard)).await.expect("in time").unwrap();
    assert_eq!(&heard, b"still");
    assert!(matches!(ask().await, Err(OpenError::NoTunnel)), "nothing new goes there");
    tunnels(&server, 0).await;
    drop((running, far));
    assert!(agent.is_closed().await, "the agent must not take it for good");
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_are_bounded_however_many_connectors_there_are() {
    let house = House::new();
    let limits = sluice_connector_server::Limits { answer: Duration::from_secs(2), ..Default::default() };
    let server = house.tunnel_server(limits);
    let asked = Arc::new(AtomicUsize::new(0));
    let mut names = Vec::new();
    for n in 0..8_u8 {
        let name = format!("dc-{}", n + 10);
        let shown = house.authority.issue(&format!("spiffe://sluice.test/tenant/acme/connector/{name}"));
        let sid = format!("AAAAAAAAAAAAAAAAAAAA{}A", char::from(b'A' + n));
        let mut silent = Double::connect(&house, &server, &shown, &sid, ClassPair::Standard).await;
        let asked = asked.clone();
        tokio::spawn(async move {
            let (mut held, _line) = (Vec::new(), &silent.line);
            while let Some(Ok(stream)) = silent.connection.next().await {
                asked.fetch_add(1, Ordering::SeqCst);
                held.push(stream);
            }
        });
        names.push(name);
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let refused = open(&server, &names, "tcp:127.0.0.1:1").await.unwrap_err();
    assert!(refused.is_late() && refused.retry(), "{refused:?}");
    assert_eq!(asked.load(Ordering::SeqCst), 3);
}

/// Two gateways with a real connector at both.
struct TwoGateways {
    house: House,
    servers: [TunnelServer; 2],
    gateways: [Gateway; 2],
    _stop: tokio::sync::watch::Sender<bool>,
}

impl TwoGateways {
    async fn with(target: &str) -> Self {
        let house = House::new();
        let second: NodeId = "dmz-2".parse().unwrap();
        let name = "spiffe://sluice.test/tenant/acme/gateway/dmz-2";
        let shown = house.authority.issue(name);
        let signer = TokenSigner::gateway(second.as_str(), &house.gateway_key).unwrap();
        let servers = [
            house.tunnel_server(Default::default()),
            TunnelServer::new(name.parse().unwrap(), signer, Default::default()),
        ];
        let addresses =
            [run_gateway(&house, servers[0].clone()).await, run_gateway_as(&house, &shown, servers[1].clone()).await];
        let mut document = house.document(addresses[0], 1, rules(target));
        let host = addresses[1].ip().to_string();
        document.gateways.push(GatewayEndpoint { id: second.clone(), host, port: addresses[1].port() });
        let agent = house.agent(Limits::default());
        agent.apply(&document).unwrap();
        let (stop, _running) = run_agent(&agent);
        for server in &servers {
            tunnels(server, 1).await;
        }
        let gateways = [gateway_at(addresses[0]), Gateway { id: second, ..gateway_at(addresses[1]) }];
        Self { house, servers, gateways, _stop: stop }
    }

    /// As control knows them: a while old.
    fn ways(&self, sids: &[String]) -> Vec<Way> {
        let way = |(gateway, sid): (&Gateway, &String)| Way {
            gateway: gateway.clone(),
            connector: CONNECTOR.parse().unwrap(),
            sid: sid.clone(),
        };
        self.gateways.iter().zip(sids).map(way).collect()
    }

    fn sids(&self) -> Vec<String> {
        self.servers.iter().map(|server| server.live().borrow()[0].sid.clone()).collect()
    }
}

async fn sealed(caller: &SealedCaller, ways: &[Way], target: &str) -> bool {
    let (tenant, resource, target) = ("acme".parse().unwrap(), "roundup".parse().unwrap(), target.parse().unwrap());
    let (subject, pair) = ("service/sync", ClassPair::Bulk);
    let wish = Wish { tenant: &tenant, resource: &resource, target: &target, subject, pair };
    let opened = timeout(PATIENCE, caller.open_any(ways, &wish, |_, _| {})).await.expect("an answer in time");
    let Ok(mut stream) = opened else { return false };
    exchange(&mut stream, b"request").await.is_ok_and(|back| back == b"request")
}

#[tokio::test(flavor = "multi_thread")]
async fn c2_a_stopping_gateway_hands_control_over_without_a_failed_request() {
    let target = format!("tcp:{}", echo().await);
    let two = TwoGateways::with(&target).await;
    let (caller, ways) = (two.house.caller(), two.ways(&two.sids()));
    assert!(sealed(&caller, &ways[..1], &target).await && sealed(&caller, &ways[1..], &target).await);
    for at in 0..20 {
        if at == 5 {
            two.servers[0].leave();
        }
        if at == 10 {
            // It has gone altogether, and control has not heard yet.
            two.servers[0].drop_connector(&CONNECTOR.parse().unwrap());
        }
        assert!(sealed(&caller, &ways, &target).await, "request {at}");
    }
    assert!(!sealed(&caller, &ways[..1], &target).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn c2_a_gateway_that_hoards_controls_streams_costs_a_second_and_no_request() {
    let target = format!("tcp:{}", echo().await);
    let two = TwoGateways::with(&target).await;
    // Takes the connection and says nothing more.
    let hoard = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut ways = two.ways(&two.sids());
    ways[0].gateway.address = hoard.local_addr().unwrap();
    let (caller, began) = (two.house.caller(), Instant::now());
    assert!(sealed(&caller, &ways, &target).await);
    assert!(began.elapsed() < QUICK, "{:?}", began.elapsed());
    let (mut hoarded, _) = timeout(PATIENCE, hoard.accept()).await.unwrap().unwrap();
    let mut all = Vec::new();
    timeout(PATIENCE, hoarded.read_to_end(&mut all)).await.expect("the loser is closed").unwrap();
    assert!(!all.windows(6).any(|window| window == b"eyJhbG"), "it has seen no token");
    let _gone = hoarded.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c4_a_gateway_that_is_locked_while_the_agent_stops_loses_its_streams_at_once() {
    let target = format!("tcp:{}", echo().await);
    let site = Site::with(&target).await;
    let mut stream = open(&site.server, &[CONNECTOR], &target).await.unwrap();
    stream.write_all(b"x").await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'x');
    site.stops[0].send(true).unwrap();
    tunnels(&site.server, 1).await;
    stream.write_all(b"y").await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'y', "what runs may end by itself");
    let mut view = StateView::default();
    let entries = [(format!("node/{GATEWAY}"), serde_json::json!({ "revoked": true }))].into();
    view.apply(StateEvent::Snapshot { seq: 1, entries }).unwrap();
    site.agents[0].obey(&view);
    let ended = timeout(Duration::from_secs(10), stream.read_u8()).await.expect("long before the drain is over");
    assert!(ended.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn c2_a_gateway_that_moves_loses_no_stream() {
    let (house, target) = (House::new(), format!("tcp:{}", echo().await));
    let server = house.tunnel_server(Default::default());
    let (former, new) = (run_gateway(&house, server.clone()).await, run_gateway(&house, server.clone()).await);
    let agent = house.agent(Limits::default());
    agent.apply(&house.document(former, 1, rules(&target))).unwrap();
    let (_stop, _running) = run_agent(&agent);
    tunnels(&server, 1).await;
    let mut stream = open(&server, &[CONNECTOR], &target).await.unwrap();
    stream.write_all(b"x").await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'x');
    agent.apply(&house.document(new, 2, rules(&target))).unwrap();
    let moved = async {
        let at = |port: u16| {
            agent
                .tunnels()
                .iter()
                .any(|tunnel| tunnel.port == port && tunnel.lanes.iter().any(|lane| lane.in_use.is_some()))
        };
        while !at(new.port()) || at(former.port()) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, moved).await.expect("a tunnel at the new place");
    assert_eq!(exchange(&mut open(&server, &[CONNECTOR], &target).await.unwrap(), b"new").await.unwrap(), b"new");
    assert_eq!(exchange(&mut stream, b"the rest").await.unwrap(), b"the rest");
}
