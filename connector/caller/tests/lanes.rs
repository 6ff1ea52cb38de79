//! An agent's connections over real sockets: which there are, when they move, what their loss costs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod house;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures::future::join_all;
use house::{CONNECTOR, GATEWAY, House, PATIENCE, doors, echo, exchange};
use sluice_connector_agent::{Agent, LaneStatus, Limits, Outward, Reaching, WayOut};
use sluice_connector_server::{DirectAsk, DirectStream, OpenError, TunnelServer};
use sluice_connector_wire::{ClassPair, GatewayEndpoint, Transport};
use sluice_node_identity::{StateEvent, StateView};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::watch,
    time::{sleep, timeout},
};

/// Probes soon: what is waited for here would take a quarter of a minute.
fn quick() -> Limits {
    Limits { probe_min: Duration::from_millis(500), probe_max: Duration::from_secs(1), ..Limits::default() }
}

/// An agent, a target, and a gateway whose doors the test opens.
struct Site {
    house: House,
    server: TunnelServer,
    agent: Agent,
    target: String,
    _stop: watch::Sender<bool>,
}

impl Site {
    async fn at(gateway: SocketAddr) -> Self {
        let house = House::new();
        let agent = house.agent(quick());
        Self::with(house, agent, gateway).await
    }

    async fn with(house: House, agent: Agent, gateway: SocketAddr) -> Self {
        let server = house.tunnel_server(Default::default());
        let target = format!("tcp:{}", echo().await);
        let rules = vec![House::rule("roundup", &target, &[GATEWAY], &["127.0.0.1/32"])];
        agent.apply(&house.document(gateway, 1, rules)).unwrap();
        let (stop, stopped) = watch::channel(false);
        let running = agent.clone();
        tokio::spawn(async move { running.run(stopped).await });
        Self { house, server, agent, target, _stop: stop }
    }

    async fn lanes(&self, wanted: impl Fn(&[LaneStatus]) -> bool) -> Vec<LaneStatus> {
        let found = async {
            loop {
                match self.agent.tunnels().pop() {
                    Some(tunnel) if wanted(&tunnel.lanes) => return tunnel.lanes,
                    _ => sleep(Duration::from_millis(10)).await,
                }
            }
        };
        let Ok(lanes) = timeout(PATIENCE, found).await else { panic!("not so: {:#?}", self.agent.tunnels()) };
        lanes
    }

    async fn all_on(&self, transport: Transport) -> Vec<LaneStatus> {
        self.lanes(|lanes| lanes.iter().all(|lane| on(lane) == Some(transport))).await
    }

    async fn try_open(&self, pair: ClassPair) -> Result<DirectStream, OpenError> {
        let ask = DirectAsk {
            connectors: &[CONNECTOR.parse().unwrap()],
            resource: &"roundup".parse().unwrap(),
            target: &self.target.parse().unwrap(),
            subject: "user/ada",
            pair,
        };
        timeout(PATIENCE, self.server.open_direct(&ask, house::now())).await.expect("an answer in time")
    }

    /// A stream that has carried a byte.
    async fn open(&self, pair: ClassPair) -> DirectStream {
        let mut stream = self.try_open(pair).await.unwrap();
        stream.write_all(b"x").await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'x');
        stream
    }
}

fn on(lane: &LaneStatus) -> Option<Transport> {
    lane.in_use.as_ref().map(|used| used.transport)
}

#[tokio::test(flavor = "multi_thread")]
async fn c2_quic_carries_all_three_pairs_where_udp_passes() {
    let gateway = doors::free_port().await;
    let site = Site::at(gateway).await;
    let _doors =
        (doors::quic(&site.house, &site.server, gateway), doors::tcp(&site.house, &site.server, gateway).await);
    site.all_on(Transport::Quic).await;
    assert_eq!(site.server.live().borrow().len(), 1, "one tunnel, three connections");
    for pair in ClassPair::ALL {
        let stream = site.open(pair).await;
        let lanes =
            site.lanes(|lanes| lanes.iter().filter(|lane| lane.in_use.as_ref().unwrap().streams == 1).count() == 1);
        let carrying = lanes.await.into_iter().find(|lane| lane.in_use.as_ref().unwrap().streams == 1).unwrap();
        assert_eq!(carrying.pair, pair, "each in a connection of its own");
        drop(stream);
        site.lanes(|lanes| lanes.iter().all(|lane| lane.in_use.as_ref().unwrap().streams == 0)).await;
    }
    let measured = site.lanes(|lanes| lanes.iter().all(|lane| lane.in_use.as_ref().unwrap().rtt.is_some())).await;
    assert!(measured.iter().all(|lane| lane.last_error.is_empty() || on(lane) == Some(Transport::Quic)));
}

#[tokio::test(flavor = "multi_thread")]
async fn c2_new_streams_move_to_quic_when_it_comes_up_and_old_ones_finish_on_tcp() {
    let gateway = doors::free_port().await;
    let site = Site::at(gateway).await;
    let _tcp = doors::tcp(&site.house, &site.server, gateway).await;
    site.all_on(Transport::Tcp).await;
    let mut old = site.open(ClassPair::Standard).await;
    let sid = site.agent.tunnels()[0].sid.clone().unwrap();
    let _quic = doors::quic(&site.house, &site.server, gateway);
    let lanes = site.all_on(Transport::Quic).await;
    let finishing: Vec<_> =
        lanes.iter().filter(|lane| lane.pair == ClassPair::Standard).map(|lane| lane.finishing).collect();
    assert_eq!(finishing, [1], "the stream on TCP goes on");
    let new = site.open(ClassPair::Standard).await;
    let told = site.agent.streams().streams;
    let mut transports: Vec<_> = told.iter().map(|stream| stream.transport.to_string()).collect();
    transports.sort();
    assert_eq!(transports, ["quic", "tcp"]);
    assert_eq!(site.agent.tunnels()[0].sid.as_ref(), Some(&sid), "the session goes on");
    assert_eq!(exchange(&mut old, b"the rest").await.unwrap(), b"the rest");
    drop(old);
    site.lanes(|lanes| lanes.iter().all(|lane| lane.finishing == 0)).await;
    drop(new);
}

#[tokio::test(flavor = "multi_thread")]
async fn c2_quic_that_vanishes_gives_way_to_tcp() {
    let gateway = doors::free_port().await;
    let site = Site::at(gateway).await;
    let quic = doors::quic(&site.house, &site.server, gateway);
    site.all_on(Transport::Quic).await;
    let mut stream = site.open(ClassPair::Standard).await;
    let _tcp = doors::tcp(&site.house, &site.server, gateway).await;
    drop(quic);
    assert!(timeout(PATIENCE, stream.read_u8()).await.unwrap().is_err(), "broken, not ended");
    site.all_on(Transport::Tcp).await;
    drop(site.open(ClassPair::Standard).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn c2_gateway_that_falls_silent_is_noticed_and_dialled_again() {
    let gateway = doors::free_port().await;
    let wire = doors::Wire::to(gateway).await;
    let site = Site::at(wire.address).await;
    let _tcp = doors::tcp(&site.house, &site.server, gateway).await;
    site.all_on(Transport::Tcp).await;
    let made = wire.made.load(Ordering::SeqCst);
    let mut stream = site.open(ClassPair::Interactive).await;
    wire.cut();
    assert!(timeout(PATIENCE, stream.read_u8()).await.expect("noticed in time").is_err());
    let again = async {
        while wire.made.load(Ordering::SeqCst) < made + 3 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, again).await.expect("every connection is noticed");
    site.all_on(Transport::Tcp).await;
    drop(site.open(ClassPair::Interactive).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn c2_leaving_gateway_keeps_its_streams_and_the_one_after_it_is_found() {
    let gateway = doors::free_port().await;
    let mut site = Site::at(gateway).await;
    let door = doors::tcp(&site.house, &site.server, gateway).await;
    site.all_on(Transport::Tcp).await;
    let mut stream = site.open(ClassPair::Standard).await;
    site.server.leave();
    site.lanes(|lanes| lanes.iter().all(|lane| lane.in_use.is_none())).await;
    site.lanes(|lanes| lanes.iter().map(|lane| lane.finishing).sum::<usize>() == 1).await;
    stream.write_all(b"y").await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'y');
    drop(door);
    assert!(timeout(PATIENCE, stream.read_u8()).await.unwrap().is_err());
    site.server = site.house.tunnel_server(Default::default());
    let _door = doors::tcp(&site.house, &site.server, gateway).await;
    site.all_on(Transport::Tcp).await;
    drop(site.open(ClassPair::Standard).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn c4_locked_gateway_loses_its_streams_and_is_not_dialled() {
    let gateway = doors::free_port().await;
    let wire = doors::Wire::to(gateway).await;
    let site = Site::at(wire.address).await;
    let _tcp = doors::tcp(&site.house, &site.server, gateway).await;
    site.all_on(Transport::Tcp).await;
    let mut stream = site.open(ClassPair::Standard).await;
    let mut view = StateView::default();
    let said = |id: &str| (format!("node/{id}"), serde_json::json!({ "revoked": true }));
    view.apply(StateEvent::Snapshot { seq: 1, entries: [said("another")].into() }).unwrap();
    site.agent.obey(&view);
    stream.write_all(b"y").await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'y', "another's lock is no concern");
    view.apply(StateEvent::Snapshot { seq: 2, entries: [said(GATEWAY)].into() }).unwrap();
    site.agent.obey(&view);
    assert!(timeout(PATIENCE, stream.read_u8()).await.unwrap().is_err());
    let mut live = site.server.live();
    timeout(PATIENCE, live.wait_for(Vec::is_empty)).await.unwrap().unwrap();
    assert!(site.agent.tunnels().is_empty());
    let made = wire.made.load(Ordering::SeqCst);
    // Longer than the first pauses together.
    sleep(Duration::from_secs(2)).await;
    assert_eq!(wire.made.load(Ordering::SeqCst), made, "it is not dialled");
    site.agent.obey(&StateView::default());
    site.all_on(Transport::Tcp).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c2_dead_addresses_do_not_keep_quic_from_the_one_that_answers() {
    let gateway = doors::free_port().await;
    // They take packets and say nothing; one after the other would use up all the time there is.
    let dead: Vec<Ipv4Addr> = (2..=7).map(|last| Ipv4Addr::new(127, 0, 0, last)).collect();
    let _silent = join_all(dead.iter().map(|address| UdpSocket::bind((*address, gateway.port())))).await;
    let addresses: Vec<IpAddr> = dead.iter().copied().chain([Ipv4Addr::LOCALHOST]).map(Into::into).collect();
    let networks = addresses.iter().map(|address| (*address).into()).collect();
    let dns = house::dns::double(move |_, _| Some((addresses.clone(), 60))).await;
    let house = House::new();
    let mut pieces = house.pieces(quick());
    pieces.gateway_networks = networks;
    pieces.dns.servers = vec![dns.to_string().parse().unwrap()];
    let agent = Agent::open(pieces).unwrap();
    let server = house.tunnel_server(Default::default());
    let _quic = doors::quic(&house, &server, gateway);
    let mut document = house.document(gateway, 1, Vec::new());
    document.gateways[0].host = "gw.acme.test".to_owned();
    agent.apply(&document).unwrap();
    let (_stop, stopped) = watch::channel(false);
    let running = agent.clone();
    tokio::spawn(async move { running.run(stopped).await });
    let up = async {
        while !agent.tunnels().iter().any(|tunnel| tunnel.lanes.iter().all(|lane| on(lane) == Some(Transport::Quic))) {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, up).await.expect("QUIC by the last address");
}

/// Leads every dial to a certain place, as a proxy would.
struct Detour(SocketAddr);

impl WayOut for Detour {
    fn reach<'a>(&'a self, _gateway: &'a GatewayEndpoint, pair: ClassPair) -> Reaching<'a> {
        Box::pin(async move {
            let tcp = TcpStream::connect(self.0).await?;
            Ok(Some(Outward::over_tcp(tcp, pair, "by the detour".to_owned())))
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c3_gateway_that_only_the_way_out_can_reach_is_reached() {
    let (gateway, house) = (doors::free_port().await, House::new());
    let wire = doors::Wire::to(gateway).await;
    let agent = Agent::open_through(house.pieces(quick()), Arc::new(Detour(wire.address))).unwrap();
    // Nothing listens where the document says, and the name means nothing here.
    let nowhere = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let site = Site::with(house, agent, nowhere).await;
    let _tcp = doors::tcp(&site.house, &site.server, gateway).await;
    let lanes = site.all_on(Transport::Tcp).await;
    assert!(lanes.iter().all(|lane| lane.in_use.as_ref().unwrap().via == "by the detour"));
    drop(site.open(ClassPair::Bulk).await);
}
