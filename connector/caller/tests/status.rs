//! The agent's page on loopback, asked over real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod house;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use house::{CONNECTOR, GATEWAY, House, PATIENCE, Up, echo, evil::Evil};
use serde_json::Value;
use sluice_connector_agent::{About, Contact, Limits, serve_status};
use sluice_connector_mux::write_frame;
use sluice_connector_wire::{ALPN_SEALED, NodeVerifier, OpenRequest, sign_stream_token};
use sluice_node_identity::UnixTime;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::timeout,
};

/// Serves the page about `about`. Gives its address and what stops it.
async fn page(about: About) -> (SocketAddr, watch::Sender<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(serve_status(listener, about, stopped));
    (address, stop)
}

fn about(up: &Up) -> About {
    about_with(up, Contact { heard: UnixTime(house::now().0 - 3), ..Contact::default() })
}

fn about_with(up: &Up, contact: Contact) -> About {
    watch::channel(Some((up.agent.clone(), Arc::new(move || contact.clone()) as Arc<_>))).1
}

/// Status and body of the answer to these bytes.
async fn raw(address: SocketAddr, request: &str) -> (u16, String) {
    let asked = async {
        let mut tcp = TcpStream::connect(address).await.unwrap();
        tcp.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        tcp.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let answer = timeout(PATIENCE, asked).await.expect("an answer in time");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    (head.split(' ').nth(1).map_or(0, |status| status.parse().unwrap()), body.to_owned())
}

async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    raw(address, &format!("GET {path} HTTP/1.1\r\nHost: localhost:{}\r\n\r\n", address.port())).await
}

type Samples = BTreeMap<String, f64>;

/// Reads Prometheus's text format 0.0.4 and refuses everything that a strict reader might.
fn parsed(text: &str) -> Samples {
    assert!(text.ends_with('\n'));
    let name_ok = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    let (mut samples, mut families, mut lines) = (Samples::new(), Vec::new(), text.lines().peekable());
    while let Some(help) = lines.next() {
        let (name, about) = help.strip_prefix("# HELP ").expect("a family begins with HELP").split_once(' ').unwrap();
        let kind = lines.next().unwrap().strip_prefix(&format!("# TYPE {name} ")).expect("TYPE of the same name");
        assert!(name_ok(name) && !about.is_empty() && matches!(kind, "counter" | "gauge"), "{help}");
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
        assert!(!families.contains(&name), "{name} twice");
        families.push(name);
        while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let labels = series.strip_prefix(name).unwrap_or_else(|| panic!("{series} is not of {name}"));
            if !labels.is_empty() {
                let inner = labels.strip_prefix('{').unwrap().strip_suffix('}').unwrap();
                for label in inner.split("\",") {
                    let (label, value) = label.trim_end_matches('"').split_once("=\"").unwrap();
                    assert!(name_ok(label) && !value.contains('"'), "{line}");
                }
            }
            let value: f64 = value.parse().unwrap();
            assert!(value.is_finite() && value >= 0.0, "{line}");
            assert!(samples.insert(series.to_owned(), value).is_none(), "{series} twice");
        }
    }
    samples
}

#[tokio::test(flavor = "multi_thread")]
async fn c5_metrics_of_a_working_connector_are_well_formed_and_count_what_happened() {
    let target = format!("tcp:{}", echo().await);
    let up = Up::with(vec![House::rule("roundup", &target, &[GATEWAY], &["127.0.0.1/32"])]).await;
    let (address, _stop) = page(about(&up)).await;
    let mut stream = up.direct("roundup", &target).await.unwrap();
    stream.write_all(b"12345").await.unwrap();
    stream.read_exact(&mut [0; 5]).await.unwrap();
    up.direct("unknown", &target).await.unwrap_err();
    let (status, text) = get(address, "/metrics").await;
    let running = parsed(&text);
    assert_eq!(status, 200);
    for (series, value) in [
        ("sluice_connector_healthy", 1.0),
        ("sluice_connector_tunnel_up{gateway=\"dmz-1\"}", 1.0),
        ("sluice_connector_streams", 1.0),
        ("sluice_connector_streams_opened_total", 1.0),
        ("sluice_connector_streams_refused_total{code=\"not_allowed\"}", 1.0),
        ("sluice_connector_spent_tokens{caller=\"dmz-1\"}", 2.0),
        ("sluice_connector_redials_total", 0.0),
    ] {
        assert_eq!(running.get(series), Some(&value), "{series} in {text}");
    }
    let sum = |samples: &Samples, prefix: &str, with: &str| -> f64 {
        samples.iter().filter(|(name, _)| name.starts_with(prefix) && name.contains(with)).map(|(_, value)| value).sum()
    };
    assert!(sum(&running, "sluice_connector_connections{", "dmz-1") >= 1.0, "{text}");
    assert_eq!(sum(&running, "sluice_connector_bytes_total", "up"), 5.0, "bytes of running streams count");
    assert!(running["sluice_connector_list_seconds_left"] > 3_000.0);
    assert!(running["process_resident_memory_bytes"] > 1_000_000.0 && running["process_open_fds"] > 3.0);

    let id = up.agent.streams().streams[0].id;
    assert!(up.agent.kill(id));
    let mut count = up.agent.stream_count();
    timeout(PATIENCE, count.wait_for(|count| *count == 0)).await.unwrap().unwrap();
    let ended = parsed(&get(address, "/metrics").await.1);
    assert_eq!(ended["sluice_connector_streams_killed_total"], 1.0);
    assert_eq!(sum(&ended, "sluice_connector_bytes_total", "down"), 5.0, "bytes of ended streams stay counted");
}

#[tokio::test(flavor = "multi_thread")]
async fn c5_health_says_what_is_missing_and_streams_lists_what_runs() {
    let target = format!("tcp:{}", echo().await);
    let up = Up::with(vec![House::rule("roundup", &target, &[GATEWAY], &["127.0.0.1/32"])]).await;
    let (address, _stop) = page(about(&up)).await;
    let (status, health) = get(address, "/health").await;
    let health: Value = serde_json::from_str(&health).unwrap();
    assert_eq!((status, &health["ok"], &health["joined"]), (200, &true.into(), &true.into()), "{health}");
    assert_eq!((&health["list"]["version"], &health["gateways"][0]["up"]), (&1.into(), &true.into()), "{health}");
    assert!(health["control_heard_seconds_ago"].as_u64().is_some_and(|ago| (3..60).contains(&ago)), "{health}");
    let _stream = up.direct("roundup", &target).await.unwrap();
    let streams: Value = serde_json::from_str(&get(address, "/streams").await.1).unwrap();
    assert_eq!((&streams["total"], &streams["streams"][0]["subject"]), (&1.into(), &"user/ada".into()), "{streams}");

    // What control says against it is told, and silence that lasts too long makes it unhealthy.
    let contact = Contact { heard: UnixTime(9), refused: Some("this node is locked".to_owned()), stale: true };
    let (silent, _stop) = page(about_with(&up, contact)).await;
    let (status, health) = get(silent, "/health").await;
    let health: Value = serde_json::from_str(&health).unwrap();
    assert_eq!(
        (status, &health["stale"], &health["control_refuses"]),
        (503, &true.into(), &"this node is locked".into())
    );

    // Without a tunnel it is not healthy.
    up.stop.send_replace(true);
    up.server.drop_connector(&CONNECTOR.parse().unwrap());
    let down = async {
        while get(address, "/health").await.0 != 503 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, down).await.expect("the lost tunnel shows");
    // Nor before it has joined.
    let (address, _stop) = page(watch::channel(None).1).await;
    let (status, health) = get(address, "/health").await;
    assert_eq!((status, health.contains("\"joined\":false")), (503, true), "{health}");
    assert_eq!(parsed(&get(address, "/metrics").await.1)["sluice_connector_healthy"], 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn c5_whoever_gives_up_while_a_target_is_dialled_and_whoever_plays_control_is_counted() {
    let mut house = House::new();
    let asked = Arc::new(AtomicBool::new(false));
    let seen = asked.clone();
    let silent = house::dns::double(move |_, _| {
        seen.store(true, Ordering::SeqCst);
        None
    });
    house.dns.servers = vec![silent.await.to_string().parse().unwrap()];
    let evil = Evil::run(&house).await;
    let agent = house.agent(Limits::default());
    let target = "tcp:web.test:80";
    let rules = vec![House::rule("roundup", target, &[GATEWAY], &["127.0.0.1/32"])];
    agent.apply(&house.document(evil.address, 1, rules)).unwrap();
    let (_stop, _running) = house::run_agent(&agent);
    let contact = Arc::new(Contact::default) as Arc<_>;
    let (address, _page) = page(watch::channel(Some((agent.clone(), contact))).1).await;
    let counted = async |code: &str| {
        let series = format!("sluice_connector_streams_refused_total{{code=\"{code}\"}}");
        while parsed(&get(address, "/metrics").await.1).get(&series) != Some(&1.0) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let sid = evil.sid(CONNECTOR).await;
    let claims = house::two::claims(&house, &sid, "roundup", target, 1);
    let token = sign_stream_token(&claims, &house.gateway_signer()).unwrap();
    let mut stream = evil.open(CONNECTOR).await;
    write_frame(&mut stream, &OpenRequest::Direct { token }, PATIENCE).await.unwrap();
    let dialled = async {
        while !asked.load(Ordering::SeqCst) {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, dialled).await.expect("the name is asked for");
    drop(stream);
    timeout(PATIENCE, counted("given_up")).await.expect("counted");

    let mut stream = evil.open(CONNECTOR).await;
    write_frame(&mut stream, &OpenRequest::Sealed, PATIENCE).await.unwrap();
    let mut config = (*house.authority.client(&house.gateway)).clone();
    let verifier = NodeVerifier::new(house.authority.root(), house::connector_name()).unwrap();
    config.dangerous().set_certificate_verifier(verifier);
    config.alpn_protocols = vec![ALPN_SEALED.to_vec()];
    let name = "sealed.test".try_into().unwrap();
    let tls = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    timeout(PATIENCE, counted("token_not_trusted")).await.expect("counted");
    drop(tls);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn c5_streams_that_come_and_go_and_whoever_watches_them_do_not_stop_each_other() {
    let target = format!("tcp:{}", echo().await);
    let up = Up::with(vec![House::rule("roundup", &target, &[GATEWAY], &["127.0.0.1/32"])]).await;
    let (address, _stop) = page(about(&up)).await;
    let streams = async {
        for _ in 0..300 {
            drop(up.direct("roundup", &target).await.unwrap());
        }
    };
    let watching = async {
        loop {
            assert_eq!(get(address, "/metrics").await.0, 200);
        }
    };
    let done = timeout(PATIENCE * 3, async {
        tokio::select! {
            () = streams => {}
            () = watching => {}
        }
    });
    done.await.expect("neither waits for the other for ever");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_page_answers_only_what_it_knows_and_only_under_its_own_name() {
    let (address, _stop) = page(watch::channel(None).1).await;
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        ("POST /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", 405),
        ("GET /streams HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421),
        ("GET /streams HTTP/1.1\r\nHost: 10.0.0.1\r\n\r\n", 421),
        ("GET /streams HTTP/1.1\r\nHost: localhost.evil.example\r\n\r\n", 421),
        ("GET /streams HTTP/1.0\r\n\r\n", 421),
        ("GET /streams HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 421),
        ("GET /streams HTTP/1.1\r\nHost: [::1]:9\r\n\r\n", 200),
        ("GET /streams HTTP/1.1\r\nHost: 127.0.0.1:9464\r\n\r\n", 200),
        ("HEAD /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", 200),
        ("rubbish\r\n\r\n", 400),
    ] {
        assert_eq!(raw(address, request).await.0, status, "{request}");
    }
    let long = format!("GET /health HTTP/1.1\r\nHost: localhost\r\nx: {}\r\n\r\n", "x".repeat(64 * 1024));
    let mut tcp = TcpStream::connect(address).await.unwrap();
    let _cut_off = tcp.write_all(long.as_bytes()).await;
    let mut answer = Vec::new();
    let _reset = timeout(PATIENCE, tcp.read_to_end(&mut answer)).await.unwrap();
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_visitors_of_the_status_page_are_sent_away() {
    let (address, _stop) = page(watch::channel(None).1).await;
    // More than there is room for; those that wait are served when the silent ones have been closed.
    let mut silent = Vec::new();
    for _ in 0..17 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let (status, _) = timeout(PATIENCE * 3, get(address, "/health")).await.unwrap();
    assert_eq!(status, 503);
}
