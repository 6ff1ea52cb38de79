//! Real proxies and a KDC on loopback, each ended with its test.
#![allow(dead_code, reason = "each test binary uses its part")]

pub(crate) mod kdc;

use std::{
    fs,
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use sluice_connector_egress::{
    Egress, Setup,
    worker::{Kind, Workers, work},
};
use sluice_connector_webproxy::{Credentials, Password, Proxy, Settings, Source};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Workers as threads: what they do is the same; that they are processes is tested with the whole program.
#[derive(Debug)]
pub(crate) struct Threads;

impl Workers for Threads {
    fn start(&self, kind: Kind) -> io::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        thread::spawn(move || work(kind, theirs, || Ok(())));
        Ok(ours)
    }
}

/// A server that says back what it hears.
pub(crate) struct Echo {
    pub(crate) at: SocketAddr,
}

impl Echo {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                thread::spawn(move || io::copy(&mut stream.try_clone().unwrap(), &mut stream));
            }
        });
        Self { at }
    }
}

/// A program that is ended when dropped.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Self(child.unwrap_or_else(|error| panic!("{command:?}: {error}; cargo xtask install installs it")))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// One that no connection is given by chance before its program listens on it: those come from 32,768 on.
pub(crate) fn free_port() -> u16 {
    loop {
        let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0);
        let port = 15_000 + u16::try_from(random % 15_000).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

pub(crate) fn wait_for_port(port: u16) {
    assert!(listens(port, Duration::from_secs(30)), "nothing listens on {port}");
}

fn listens(port: u16, patience: Duration) -> bool {
    let until = Instant::now() + patience;
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if Instant::now() > until {
            return false;
        }
        thread::sleep(Duration::from_millis(50));
    }
    true
}

/// A program that takes it to be some other time. (`faketime` itself would stay beside it, and be ended in its place.)
pub(crate) fn dated(off: Option<&str>, program: &str) -> Command {
    let mut command = Command::new(program);
    if let Some(off) = off {
        let places = fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path().join(FAKETIME));
        let library = places.into_iter().find(|path| path.exists());
        command.env("LD_PRELOAD", library.expect("cargo xtask install installs libfaketime")).env("FAKETIME", off);
    }
    command
}

/// Below a processor's folder.
const FAKETIME: &str = "faketime/libfaketime.so.1";

/// A folder that the proxies' own users can read.
pub(crate) fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

pub(crate) fn write(path: &Path, text: &str) -> PathBuf {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    path.to_owned()
}

/// Debian's squid with one way to log in.
pub(crate) struct Squid {
    pub(crate) proxy: Proxy,
    pub(crate) folder: tempfile::TempDir,
    _running: Running,
}

impl Squid {
    /// `rules` go before the port; `{}` in them is the folder.
    pub(crate) fn start(folder: tempfile::TempDir, rules: &str, tls: bool, environment: &[(&str, &Path)]) -> Self {
        Self::with_clock(folder, rules, tls, environment, None)
    }

    pub(crate) fn with_clock(
        folder: tempfile::TempDir,
        rules: &str,
        tls: bool,
        environment: &[(&str, &Path)],
        off: Option<&str>,
    ) -> Self {
        // A squid that believes in another time does not always come up.
        (0..3)
            .find_map(|_| Self::attempt(&folder, rules, tls, environment, off))
            .map(|(proxy, running)| Self { proxy, folder, _running: running })
            .expect("squid listens")
    }

    fn attempt(
        folder: &tempfile::TempDir,
        rules: &str,
        tls: bool,
        environment: &[(&str, &Path)],
        off: Option<&str>,
    ) -> Option<(Proxy, Running)> {
        let port = free_port();
        let place = folder.path().display().to_string();
        let listen = if tls {
            format!("https_port 127.0.0.1:{port} tls-cert={place}/cert.pem tls-key={place}/key.pem")
        } else {
            format!("http_port 127.0.0.1:{port}")
        };
        let rules = rules.replace("{}", &place);
        let config = format!(
            "{rules}\n{listen}\nvisible_hostname proxy.corp.test\npid_filename none\naccess_log stdio:{place}/access.log\n\
             cache_log /dev/null\ncache deny all\nshutdown_lifetime 1 seconds\nnetdb_filename none\n\
             cache_store_log none\npinger_enable off\n"
        );
        let file = write(&folder.path().join("squid.conf"), &config);
        // It becomes another user, who writes the log.
        let log = write(&folder.path().join("access.log"), "");
        fs::set_permissions(log, fs::Permissions::from_mode(0o666)).unwrap();
        let mut command = dated(off, "/usr/sbin/squid");
        command.args(["-N", "-f"]).arg(file).envs(environment.iter().copied());
        let running = Running::start(&mut command);
        let scheme = if tls { "https" } else { "http" };
        let host = if tls { "localhost" } else { "127.0.0.1" };
        let proxy = Proxy::read(&format!("{scheme}://{host}:{port}")).unwrap();
        listens(port, Duration::from_secs(20)).then_some((proxy, running))
    }
}

/// Only who logged in may pass.
pub(crate) const LOGIN_WANTED: &str = "acl u proxy_auth REQUIRED\nhttp_access allow u\nhttp_access deny all\n";

pub(crate) fn credentials(password: &str) -> Credentials {
    let password = Password::new(password);
    Credentials { user: "svc".into(), domain: String::new(), password, basic_in_clear: false }
}

pub(crate) fn setup(proxy: &Proxy, credentials: Option<Credentials>) -> Setup {
    let rules = Settings { source: Source::Fixed(proxy.clone()), ..Settings::default() };
    let workstation = "connector".to_owned();
    Setup { rules, credentials, workstation, ..Setup::default() }
}

pub(crate) fn egress(setup: Setup) -> Egress {
    Egress::new(setup, Some(Arc::new(Threads))).unwrap()
}

pub(crate) fn soon() -> tokio::time::Instant {
    tokio::time::Instant::now() + Duration::from_secs(30)
}

/// Opens a way to `echo` and proves that bytes go both ways.
pub(crate) async fn passes(egress: &Egress, echo: &Echo) -> sluice_connector_egress::Connected {
    let guard = sluice_connector_egress::Guard::Operator;
    let mut connected =
        egress.connect(&echo.at.ip().to_string(), echo.at.port(), guard, soon()).await.expect("a way out");
    connected.io.write_all(b"are you there?").await.unwrap();
    let mut heard = [0; 14];
    connected.io.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"are you there?");
    connected
}

/// Why there is no way to `echo`.
pub(crate) async fn refused(egress: &Egress, echo: &Echo) -> String {
    let guard = sluice_connector_egress::Guard::Operator;
    let refused = egress.connect(&echo.at.ip().to_string(), echo.at.port(), guard, soon()).await;
    refused.map(|connected| connected.via).expect_err("no way out").to_string()
}

/// A proxy that does to each connection what `act` does; after that the connection stays open until the peer closes.
pub(crate) fn played(act: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> Proxy {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::read(&listener.local_addr().unwrap().to_string()).unwrap();
    let act = Arc::new(act);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (Ok(mut stream), act) = (stream, act.clone()) else { return };
            thread::spawn(move || act(&mut stream));
        }
    });
    proxy
}

/// Reads one request's head; empty when the peer closed.
pub(crate) fn request(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).unwrap_or(0) == 0 {
            return String::new();
        }
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

pub(crate) fn say(stream: &mut TcpStream, text: &str) {
    // The peer may have given up already.
    drop(stream.write_all(text.as_bytes()));
}
