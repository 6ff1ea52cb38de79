//! PAC scripts: the functions, the bounds, fetching, and proxies that are down.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod world;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use sluice_connector_egress::{
    Egress, Guard, PacSource, Setup,
    worker::{Kind, Workers},
};
use sluice_connector_webproxy::{Settings, Source, Way};
use world::{Echo, Threads, free_port, passes, played, request, say};

fn egress(source: PacSource) -> Egress {
    let rules = Settings { source: Source::Pac, ..Settings::default() };
    let gateway_networks = vec!["127.0.0.0/8".parse().unwrap()];
    Egress::new(Setup { rules, pac: Some(source), gateway_networks, ..Setup::default() }, Some(Arc::new(Threads)))
        .unwrap()
}

/// Serves the script `body` for as long as the test runs.
fn served(body: String, fetches: Arc<AtomicUsize>) -> String {
    let server = played(move |stream| {
        request(stream);
        fetches.fetch_add(1, Ordering::SeqCst);
        say(stream, &format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    });
    format!("http://{}:{}/", server.host, server.port)
}

#[tokio::test]
async fn c3_a_fetched_script_leads_neither_to_this_machine_nor_to_its_cloud() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let inside = played(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
    });
    for (place, kind) in [
        (format!("127.0.0.1:{}", inside.port), "this machine itself"),
        (format!("localhost:{}", inside.port), "this machine itself"),
        ("169.254.169.254:80".to_owned(), "metadata"),
        ("[fe80::1]:80".to_owned(), "link-local"),
    ] {
        let body = format!("function FindProxyForURL() {{ return 'PROXY {place}'; }}");
        let url = served(body, Arc::default());
        let rules = Settings { source: Source::Pac, ..Settings::default() };
        let pac = Some(PacSource::Url { url, refresh: Duration::from_secs(60) });
        let egress = Egress::new(Setup { rules, pac, ..Setup::default() }, Some(Arc::new(Threads))).unwrap();
        let why = world::refused(&egress, &Echo::start()).await;
        assert!(why.contains("may not be dialled") && why.contains(kind), "{place}: {why}");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn c3_a_script_is_evaluated_once_for_all_who_wait_and_so_is_its_failure() {
    /// Counts the workers, and lets no more live at a time than there may.
    #[derive(Debug, Default)]
    struct Counted(AtomicUsize);
    impl Workers for Counted {
        fn start(&self, kind: Kind) -> std::io::Result<std::os::unix::net::UnixStream> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Threads.start(kind)
        }
    }
    let with = |source| {
        let (workers, rules) = (Arc::new(Counted::default()), Settings { source: Source::Pac, ..Settings::default() });
        let setup = Setup { rules, pac: Some(source), ..Setup::default() };
        (Egress::new(setup, Some(workers.clone())).unwrap(), workers)
    };
    let (egress, workers) = with(PacSource::Text("function FindProxyForURL() { return 'DIRECT'; }".into()));
    // As the lanes to many gateways ask when the connector starts.
    let many: Vec<String> = (0..20).flat_map(|n| std::iter::repeat_n(format!("gw-{n}.test"), 3)).collect();
    let asked = futures::future::join_all(many.iter().map(|host| egress.explain(host, 443))).await;
    assert!(asked.iter().all(Result::is_ok), "{asked:?}");
    assert_eq!(workers.0.load(Ordering::SeqCst), 20);

    let fetches = Arc::new(AtomicUsize::new(0));
    let count = fetches.clone();
    let broken = played(move |stream| {
        request(stream);
        count.fetch_add(1, Ordering::SeqCst);
        say(stream, "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n");
    });
    let url = format!("http://{}:{}/", broken.host, broken.port);
    let (egress, _) = with(PacSource::Url { url, refresh: Duration::from_secs(60) });
    let asked = futures::future::join_all(many.iter().map(|host| egress.explain(host, 443))).await;
    assert!(asked.iter().all(|asked| asked.as_ref().is_err_and(|why| why.to_string().contains("500"))), "{asked:?}");
    assert_eq!(fetches.load(Ordering::SeqCst), 1);

    // What is remembered is what was read, and that is bounded.
    let (egress, workers) =
        with(PacSource::Text("function FindProxyForURL() { return 'DIRECT;'.repeat(100000); }".into()));
    for _ in 0..2 {
        let why = egress.explain("gw.test", 443).await.unwrap_err().to_string();
        assert!(why.contains("more than 4096 bytes"), "{why}");
    }
    assert_eq!(workers.0.load(Ordering::SeqCst), 1);
}

/// What a script returns whose body is `body`, as a text.
async fn returned(body: &str) -> String {
    let script = format!("function FindProxyForURL(url, host) {{ {body} }}");
    match egress(PacSource::Text(script)).explain("www.corp.test", 443).await {
        Ok(explained) => explained.to_string(),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn c3_the_classic_functions_answer_as_described() {
    for (expression, expected) in [
        ("isPlainHostName('www')", true),
        ("isPlainHostName(host)", false),
        ("dnsDomainIs(host, '.corp.test')", true),
        ("dnsDomainIs('www', '.corp.test')", false),
        ("dnsDomainIs('WWW.Corp.test', '.corp.TEST')", true),
        ("localHostOrDomainIs(host, 'www.corp.test')", true),
        ("localHostOrDomainIs('www', 'www.corp.test')", true),
        ("localHostOrDomainIs('home.corp.test', 'www.corp.test')", false),
        ("isResolvable('localhost')", true),
        ("isResolvable('no-such-name.invalid')", false),
        ("dnsResolve('no-such-name.invalid') === null", true),
        ("dnsResolve('localhost') === '127.0.0.1'", true),
        ("isInNet('10.1.2.3', '10.0.0.0', '255.0.0.0')", true),
        ("isInNet('11.1.2.3', '10.0.0.0', '255.0.0.0')", false),
        ("isInNet('200.1.2.3', '200.1.0.0', '255.255.0.0')", true),
        ("isInNet('localhost', '127.0.0.1', '255.255.255.255')", true),
        ("isInNet('no-such-name.invalid', '0.0.0.0', '0.0.0.0')", false),
        ("/^\\d+\\.\\d+\\.\\d+\\.\\d+$/.test(myIpAddress())", true),
        ("dnsDomainLevels(host) === 2 && dnsDomainLevels('www') === 0", true),
        ("shExpMatch(url, 'https://*.corp.test/*')", true),
        ("shExpMatch(host, '*.org')", false),
        ("shExpMatch('a.b', 'a?b') && !shExpMatch('axb', 'a.b') && shExpMatch('', '*')", true),
        ("shExpMatch('a'.repeat(20000), '*a'.repeat(30) + 'b')", false),
        ("weekdayRange('SUN', 'SAT') && weekdayRange('SUN', 'SAT', 'GMT')", true),
        ("weekdayRange('XXX')", false),
        ("dateRange(1, 31) && dateRange('JAN', 'DEC') && dateRange(2000, 2100)", true),
        ("dateRange(1, 'JAN', 2000, 31, 'DEC', 2100, 'GMT') && dateRange('JAN', 2000, 'DEC', 2100)", true),
        ("dateRange(1, 'JAN', 31, 'DEC')", true),
        ("dateRange(1999) || dateRange(1, 'JAN', 1990, 2, 'JAN', 1990)", false),
        ("dateRange((new Date()).getUTCDate(), 'GMT') || true", true),
        ("timeRange(0, 24) && timeRange(0, 0, 23, 60) && timeRange(0, 0, 0, 23, 59, 60, 'GMT')", true),
        ("timeRange(25)", false),
        ("url === 'https://www.corp.test/' && host === 'www.corp.test'", true),
    ] {
        let got = returned(&format!("return ({expression}) ? 'PROXY yes:1' : 'PROXY no:1';")).await;
        let word = if expected { "yes" } else { "no" };
        assert!(got.starts_with(&format!("through the web proxy http://{word}:1,")), "{expression}: {got}");
    }
}

#[tokio::test]
async fn c3_a_script_gets_nothing_but_its_functions_and_not_for_ever() {
    for (body, why) in [
        ("for (;;) {}", "ran for more than 5 s"),
        ("let a = []; for (;;) a.push(new Array(100000).fill(1));", "out of memory"),
        ("return f(); function f() { return f() + 1; }", "stack"),
        ("throw new Error('broken on purpose');", "broken on purpose"),
        ("return 7;", "something else than a text"),
        ("return 'PROXY';", "not a list of DIRECT"),
        ("return require('fs') + '';", "require is not defined"),
        ("return fetch('http://x') + '';", "fetch is not defined"),
        ("return std.open('/etc/passwd') + '';", "std is not defined"),
        ("return import('fs').then ? 'PROXY none:1' : 'PROXY some:1';", "PROXY none:1"),
        ("return (typeof process) + (typeof os) + (typeof Deno);", "undefinedundefined"),
    ] {
        let got = returned(body).await;
        assert!(got.contains(why), "{body}: {got}");
    }
    let none = egress(PacSource::Text("var x = 1;".into())).explain("h.test", 1).await.unwrap_err().to_string();
    assert!(none.contains("no function FindProxyForURL") && none.contains("web_proxy.pac"), "{none}");
    // Old scripts are sloppy.
    assert!(returned("undeclared = 'PROXY old:1'; return undeclared;").await.contains("old:1"));
    // A script that wants thousands of names gets no more than its share.
    assert!(returned("for (let i = 0; i < 5000; i++) dnsResolve('localhost'); return dnsResolve('localhost') === null ? 'PROXY bounded:1' : 'DIRECT';").await.contains("bounded:1"));
}

#[tokio::test]
async fn c3_a_script_is_fetched_once_and_dead_proxies_come_last() {
    let echo = Echo::start();
    let tried = Arc::new(AtomicUsize::new(0));
    let count = tried.clone();
    let broken = played(move |stream| {
        count.fetch_add(1, Ordering::SeqCst);
        request(stream);
    });
    let target = echo.at;
    let good = played(move |stream| {
        request(stream);
        say(stream, "HTTP/1.1 200 OK\r\n\r\n");
        let far = std::net::TcpStream::connect(target).unwrap();
        let (mut from, mut to) = (stream.try_clone().unwrap(), far.try_clone().unwrap());
        std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        drop(std::io::copy(&mut { far }, stream));
    });
    let ways = format!(
        "PROXY 127.0.0.1:{}; PROXY {}:{}; PROXY {}:{}",
        free_port(),
        broken.host,
        broken.port,
        good.host,
        good.port
    );
    let fetches = Arc::new(AtomicUsize::new(0));
    let (count, body) = (fetches.clone(), format!("function FindProxyForURL() {{ return '{ways}'; }}"));
    let server = played(move |stream| {
        let head = request(stream);
        assert!(head.starts_with("GET /proxy.pac?x=1 HTTP/1.1\r\n"), "{head}");
        count.fetch_add(1, Ordering::SeqCst);
        say(stream, &format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    });
    let url = format!("http://{}:{}/proxy.pac?x=1", server.host, server.port);
    let egress = egress(PacSource::Url { url, refresh: Duration::from_secs(3600) });
    for _ in 0..3 {
        assert_eq!(passes(&egress, &echo).await.via, Way::Proxy(good.clone()));
    }
    assert_eq!(fetches.load(Ordering::SeqCst), 1);
    assert_eq!(tried.load(Ordering::SeqCst), 1, "a dead proxy is left alone for a while");
    let explained = egress.explain(&echo.at.ip().to_string(), echo.at.port()).await.unwrap().to_string();
    assert!(explained.contains("the PAC script returned"), "{explained}");
}

#[tokio::test]
async fn c3_a_script_that_cannot_be_fetched_opens_nothing() {
    let url = format!("http://127.0.0.1:{}/proxy.pac", free_port());
    let why = world::refused(&egress(PacSource::Url { url, refresh: Duration::from_secs(1) }), &Echo::start()).await;
    assert!(why.contains("cannot be fetched"), "{why}");
    let silent = played(|_| std::thread::sleep(Duration::from_secs(60)));
    let url = format!("http://{}:{}/", silent.host, silent.port);
    let patient = egress(PacSource::Url { url, refresh: Duration::from_secs(1) });
    let deadline = tokio::time::Instant::now() + Duration::from_millis(500);
    let why = patient.connect("gw.test", 443, Guard::Gateways, deadline).await.unwrap_err().to_string();
    assert!(why.contains("in time") && why.contains("web_proxy.pac_url"), "{why}");
    let huge = played(|stream| {
        request(stream);
        say(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
        for _ in 0..1000 {
            say(stream, &" ".repeat(10_000));
        }
    });
    let url = format!("http://{}:{}/", huge.host, huge.port);
    let why = world::refused(&egress(PacSource::Url { url, refresh: Duration::from_secs(1) }), &Echo::start()).await;
    assert!(why.contains("cannot be fetched") && why.contains("length limit"), "{why}");
    for bad in ["ftp://x/", "http://u:p@x/", "x"] {
        let source = PacSource::Url { url: bad.into(), refresh: Duration::from_secs(1) };
        let rules = Settings { source: Source::Pac, ..Settings::default() };
        let setup = Setup { rules, pac: Some(source), ..Setup::default() };
        assert!(Egress::new(setup, Some(Arc::new(Threads))).is_err(), "{bad}");
    }
}
