//! The way out with the program that ships: workers are processes of their own that can do nothing else, and a
//! confined connector joins through a proxy that wants Kerberos.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod real_control;
#[path = "../connector/egress/tests/world/mod.rs"]
mod world;

use std::{
    fs,
    io::{Read, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::Path,
    process::Command,
    sync::Arc,
    time::Duration,
};

use real_control::World;
use sluice_connector_egress::{
    Egress, KerberosSecret, PacSource, Setup,
    worker::{Kind, Spawner, Workers},
};
use sluice_connector_webproxy::{Password, Settings, Source};
use world::{Echo, kdc::Kdc, passes, refused, setup};

fn spawner() -> Arc<Spawner> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.args(["web-proxy-helper", "--user", "nobody"]);
    Arc::new(Spawner::start(command).unwrap().0)
}

async fn returned(workers: &Arc<Spawner>, body: &str) -> String {
    let script = format!("function FindProxyForURL(url, host) {{ {body} }}");
    let rules = Settings { source: Source::Pac, ..Settings::default() };
    let setup = Setup { rules, pac: Some(PacSource::Text(script)), ..Setup::default() };
    match Egress::new(setup, Some(workers.clone())).unwrap().explain("www.corp.test", 443).await {
        Ok(explained) => explained.to_string(),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn c3_a_script_runs_in_a_bounded_process() {
    let workers = spawner();
    let good = "return isInNet(dnsResolve('localhost'), '127.0.0.0', '255.0.0.0') && timeRange(0, 24) \
                ? 'PROXY p.corp.test:3128; DIRECT' : 'DIRECT';";
    let got = returned(&workers, good).await;
    assert!(got.starts_with("through the web proxy http://p.corp.test:3128, then directly"), "{got}");
    for (body, why) in [
        ("for (;;) {}", "ran for more than 5 s"),
        ("let a = []; for (;;) a.push(new Array(100000).fill(1));", "out of memory"),
        ("let s = 'x'; for (;;) s += s;", "string"),
        ("return /(a+)+$/.test('a'.repeat(40) + 'b') ? 'DIRECT' : 'PROXY no:1';", "ran for more than 5 s"),
    ] {
        let got = returned(&workers, body).await;
        assert!(got.contains(why), "{body}: {got}");
    }
    assert!(returned(&workers, "return 'DIRECT';").await.starts_with("directly"), "workers are started as before");
}

#[tokio::test]
async fn c3_a_confined_worker_makes_kerberos_tickets() {
    let (echo, kdc) = (Echo::start(), Kdc::start());
    let squid = kdc.squid();
    let with = |password: &str| {
        let mut setup = setup(&squid.proxy, None);
        setup.kerberos = Some(kdc.account("svc", KerberosSecret::Password(Password::new(password))));
        Egress::new(setup, Some(spawner())).unwrap()
    };
    passes(&with("s3cret"), &echo).await;
    let wrong = refused(&with("wr0ng"), &echo).await;
    assert!(wrong.contains("password or key of the principal is wrong"), "{wrong}");
}

/// The first child of a process.
fn child_of(parent: u32) -> u32 {
    let children = format!("/proc/{parent}/task/{parent}/children");
    let until = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(child) = fs::read_to_string(&children).unwrap().split_whitespace().next() {
            return child.parse().unwrap();
        }
        assert!(std::time::Instant::now() < until, "no child");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn c3_a_worker_has_one_socket_no_names_no_environment_and_hangs_up_with_us() {
    // Both would be seen below if they were handed down.
    let own = UnixStream::pair().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.args(["web-proxy-helper", "--user", "nobody"]).env("SLUICE_SECRET", "s3cret");
    let (spawner, _lifeline) = Spawner::start(command).unwrap();
    let mut socket = spawner.start(Kind::Pac).unwrap();
    let worker = child_of(spawner.id());
    let of = |name: &str| format!("/proc/{worker}/{name}");
    let until = std::time::Instant::now() + Duration::from_secs(20);
    let status = loop {
        let status = fs::read_to_string(of("status")).unwrap();
        if status.lines().any(|line| line.starts_with("Seccomp_filters:") && line.ends_with('4')) {
            break status;
        }
        assert!(std::time::Instant::now() < until, "{status}");
        std::thread::sleep(Duration::from_millis(20));
    };
    let line = |name: &str| status.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    assert_eq!(line("NoNewPrivs").split_whitespace().nth(1), Some("1"));
    assert_eq!(line("CapEff").split_whitespace().nth(1), Some("0000000000000000"));
    assert_ne!(line("Uid").split_whitespace().nth(1), Some("0"));
    assert!(!fs::read_to_string(of("environ")).unwrap().contains("SLUICE"), "no environment");
    let open: Vec<String> = fs::read_dir(of("fd"))
        .unwrap()
        .map(|entry| fs::read_link(entry.unwrap().path()).unwrap().display().to_string())
        .collect();
    assert_eq!(open.iter().filter(|to| to.starts_with("socket:")).count(), 2, "its own and a copy of it: {open:?}");
    socket.write_all(&[0, 0, 0, 2, b'{', b'}']).unwrap();
    let mut rest = Vec::new();
    socket.read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty(), "an answer to nonsense");
    drop(spawner);
    drop(own);
}

#[tokio::test(flavor = "multi_thread")]
async fn c3_a_confined_connector_joins_through_a_kerberos_proxy_that_a_script_names() {
    tokio::task::spawn_blocking(|| {
        let world = World::owned();
        world.tenant();
        let code = world.path("join-code");
        let words = ["node", "add", "con-1", "--tenant", "acme", "--role", "connector", "--site", "branch", "--save"];
        world.good(&[&words[..], &[code.to_str().unwrap()]].concat());
        let kdc = Kdc::start();
        let squid = kdc.squid();
        let script = world.path("proxy.pac");
        let proxy = format!("PROXY {}:{}", squid.proxy.host, squid.proxy.port);
        fs::write(&script, format!("function FindProxyForURL() {{ return '{proxy}'; }}")).unwrap();
        let keytab = kdc.path("robot.keytab");
        fs::set_permissions(&keytab, fs::Permissions::from_mode(0o600)).unwrap();
        let config = format!(
            "state_dir = '{}'\n[control]\njoin_code_file = '{}'\naddress = '{}'\n[web_proxy]\npac_file = '{}'\n\
             [web_proxy.kerberos]\nprincipal = 'robot'\nrealm = 'CORP.TEST'\nkdc = ['127.0.0.1:{}']\nkeytab = '{}'\n\
             service = 'HTTP/proxy.corp.test'\n",
            world.path("connector").display(),
            code.display(),
            world.address,
            script.display(),
            kdc.port,
            keytab.display()
        );
        let joined = |world: &World| {
            let nodes = world.good(&["node", "list", "--tenant", "acme"]);
            nodes["items"][0]["state"].as_str() == Some("joined")
        };
        let running = Connector::start(&world.path("connector.toml"), &config);
        let until = std::time::Instant::now() + Duration::from_secs(100);
        while !joined(&world) {
            assert!(std::time::Instant::now() < until, "not joined: {}", running.said());
            std::thread::sleep(Duration::from_millis(200));
        }
        assert!(running.said().contains("confined"), "{}", running.said());
        let log = fs::read_to_string(squid.folder.path().join("access.log")).unwrap();
        assert!(log.contains(&format!("CONNECT {}", world.address)) && log.contains("robot"), "{log}");

        // Without its helper it would be cut off for good: it ends, and is started again by whoever looks after it.
        let mut running = running;
        let helper = i32::try_from(child_of(running.child.id())).unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(helper), nix::sys::signal::Signal::SIGKILL).unwrap();
        let until = std::time::Instant::now() + Duration::from_secs(30);
        let status = loop {
            if let Some(status) = running.child.try_wait().unwrap() {
                break status;
            }
            assert!(std::time::Instant::now() < until, "it runs on: {}", running.said());
            std::thread::sleep(Duration::from_millis(100));
        };
        assert!(!status.success() && running.said().contains("helper process has gone"), "{}", running.said());
    })
    .await
    .unwrap();
}

struct Connector {
    child: std::process::Child,
    log: std::path::PathBuf,
}

impl Connector {
    fn start(file: &Path, config: &str) -> Self {
        fs::write(file, config).unwrap();
        let log = file.with_extension("log");
        let output = fs::File::create(&log).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_sluice"))
            .args(["connector", "--config"])
            .arg(file)
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        Self { child, log }
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Connector {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}
