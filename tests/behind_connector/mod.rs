//! The built command as control, gateway and connector, with two apps and two users; curl as their browser.
#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU8, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::Value;
use tempfile::TempDir;

/// Far longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// The gateway as connectors know it.
const GATEWAY: &str = "gw.acme.test";
/// Runs the rest of its arguments where `/etc/hosts` is its first one.
const WITH_HOSTS: &str = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
const HOSTS: [&str; 3] = ["login.acme.test", "wiki.acme.test", "hidden.acme.test"];

pub(crate) struct World {
    folder: TempDir,
    /// Loopback address of this test's own: the gateway's port is 443.
    gateway: String,
    control: String,
    running: Vec<(String, Child)>,
    /// Of every program started from now on.
    pub(crate) environment: Vec<(&'static str, String)>,
}

impl World {
    /// Control runs and knows a tenant with a gateway, a connector, two apps and two users.
    pub(crate) fn up() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        // Tests of one program run side by side, and so do programs.
        static WORLDS: AtomicU8 = AtomicU8::new(64);
        let [_, _, high, low] = std::process::id().to_be_bytes();
        let own = WORLDS.fetch_add(1, Ordering::Relaxed);
        let control = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let mut world = Self {
            folder,
            gateway: format!("127.{own}.{high}.{low}"),
            control,
            running: Vec::new(),
            environment: Vec::new(),
        };
        world.write_configurations();
        let link = world.path("owner.link");
        world.ended("control", &["init", "--owner-link-file", &link, "--config", &world.path("control.toml")]);
        world.start("control");
        world.line("control", "control serves");
        world.admin(&["owner", "claim", "--link-file", &link, "--save", &world.path("token")]);
        world.describe(app());
        world
    }

    fn write_configurations(&self) {
        let node = |role: &str| {
            let (state, code) = (self.path(&format!("{role}-state")), self.path(&format!("{role}.code")));
            let control = &self.control;
            format!("state_dir = {state:?}\n[control]\njoin_code_file = {code:?}\naddress = {control:?}\n")
        };
        let connector = format!(
            "gateway_networks = [\"{}/32\"]\n{}[status]\nlisten = {:?}\n",
            self.gateway,
            node("connector"),
            self.status()
        );
        self.write("connector.toml", &connector);
        let (chain, key) = self.certificates();
        let gateway = format!(
            "listen = [\"{}:443\"]\n{}[limits]\ndrain_seconds = 60\n[[certificates]]\nhosts = {HOSTS:?}\nchain_file = {chain:?}\nkey_file = {key:?}\n",
            self.gateway,
            node("gateway")
        );
        self.write("gateway.toml", &gateway);
        let control = format!(
            "data_dir = {:?}\nlisten = [\"{1}\"]\nadvertised_address = \"{1}\"\ntrust_domain = \"sluice.test\"\n\
             [names]\nnode = \"node.sluice.test\"\nconsole = \"console.sluice.test\"\npages = \"pages.sluice.test\"\n",
            self.path("data"),
            self.control
        );
        self.write("control.toml", &control);
        self.write("hosts", &format!("127.0.0.1 localhost\n{} {GATEWAY}\n", self.gateway));
    }

    /// Where the connector's status page answers.
    pub(crate) fn status(&self) -> String {
        format!("{}:9464", self.gateway)
    }

    fn describe(&self, app: u16) {
        let own = |words: &[&str]| self.admin(&[words, &["--tenant", "acme"]].concat());
        let hosts = ["--est-host", "est.acme.test", "--checkin-host", "in.acme.test", "--feed-host", "feed.acme.test"];
        self.admin(&[&["tenant", "add", "acme", "--name", "Acme", "--login-host", HOSTS[0]], &hosts[..]].concat());
        own(&["site", "add", "dc-1", "--name", "dc", "--time-zone", "Europe/Berlin"]);
        for (role, more) in [("gateway", &["--host", GATEWAY, "--ip", self.gateway.as_str()][..]), ("connector", &[])] {
            let words = ["node", "add", role, "--role", role, "--site", "dc-1"];
            let code = own(&[&words, more].concat());
            self.secret(&format!("{role}.code"), code["code"].as_str().unwrap());
        }
        let target = format!("tcp:127.0.0.1:{app}");
        for (id, network) in [("wiki", &["--network", "127.0.0.1/32"][..]), ("hidden", &[])] {
            let words = ["resource", "add", id, "--site", "dc-1", "--target", &target, "--for-users"];
            own(&[&words, network].concat());
            let host = format!("{id}.acme.test");
            let words = ["app", "add", id, "--name", id, "--host", &host, "--resource", id];
            own(&[&words[..], &["--group", "staff", "--user-header", "X-Login"]].concat());
        }
        for (user, group) in [("bob", "staff"), ("carol", "guests")] {
            let (mail, password) = (format!("{user}@acme.test"), self.secret(user, "correct horse battery"));
            let words = ["user", "add", user, "--email", &mail, "--name", user, "--group", group];
            own(&[&words[..], &["--password-file", &password]].concat());
        }
    }

    /// A certificate for the hosts from an authority in `users.pem`.
    fn certificates(&self) -> (String, String) {
        let (authority, mut params) = (KeyPair::generate().unwrap(), CertificateParams::default());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "the users' authority");
        self.write("users.pem", &params.self_signed(&authority).unwrap().pem());
        let issuer = Issuer::new(params, authority);
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(HOSTS.map(String::from)).unwrap().signed_by(&key, &issuer).unwrap();
        self.write("chain.pem", &leaf.pem());
        (self.path("chain.pem"), self.secret("key.pem", &key.serialize_pem()))
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    pub(crate) fn secret(&self, name: &str, text: &str) -> String {
        self.write(name, text);
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).unwrap();
        self.path(name)
    }

    pub(crate) fn ended(&self, role: &str, words: &[&str]) -> Vec<u8> {
        let output = Command::new(env!("CARGO_BIN_EXE_sluice")).arg(role).args(words).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{role} {words:?}: {said}");
        output.stdout
    }

    pub(crate) fn admin(&self, words: &[&str]) -> Value {
        let port = self.control.rsplit(':').next().unwrap();
        let (server, root) = (format!("https://console.sluice.test:{port}"), self.path("data/node-root.pem"));
        let access = ["--json", "--server", &server, "--address", &self.control, "--root", &root];
        let token = self.path("token");
        let answer = self.ended("admin", &[&access, &["--token-file", &token][..], words].concat());
        serde_json::from_slice(&answer).unwrap_or(Value::Null)
    }

    /// The command where the gateway has its name.
    pub(crate) fn sluice(&self, words: &[&str]) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", WITH_HOSTS, &self.path("hosts"), env!("CARGO_BIN_EXE_sluice")]);
        command.args(words).env("RUST_LOG", "info").envs(self.environment.iter().cloned()).stdin(Stdio::null());
        command
    }

    pub(crate) fn start(&mut self, role: &str) {
        let log = fs::File::create(self.path(&format!("{role}.log"))).unwrap();
        let mut command = self.sluice(&[role, "--config", &self.path(&format!("{role}.toml"))]);
        let child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        self.running.push((role.to_owned(), child));
    }

    pub(crate) fn stop(&mut self, role: &str, signal: Signal) -> std::process::ExitStatus {
        let at = self.running.iter().position(|(name, _)| name == role).unwrap();
        let (_, mut child) = self.running.remove(at);
        kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
        child.wait().unwrap()
    }

    pub(crate) fn log(&self, role: &str) -> String {
        fs::read_to_string(PathBuf::from(self.path(&format!("{role}.log")))).unwrap_or_default()
    }

    pub(crate) fn line(&self, role: &str, words: &str) {
        let begun = Instant::now();
        while !self.log(role).contains(words) {
            assert!(begun.elapsed() < PATIENCE, "{role} never says {words:?}: {}", self.log(role));
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// What a browser of `user` shows after all redirects.
    pub(crate) fn curl(&self, user: &str, words: &[&str]) -> String {
        let output = self.browser(user).args(words).output().expect("curl is not installed");
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    /// The browser of `user`, which knows the hosts and the users' authority.
    pub(crate) fn browser(&self, user: &str) -> Command {
        let (jar, authority) = (self.path(&format!("{user}.cookies")), self.path("users.pem"));
        let mut curl = Command::new("curl");
        curl.args(["-sS", "-L", "--max-time", "50", "--cacert", &authority, "-b", &jar, "-c", &jar]);
        for host in HOSTS {
            curl.args(["--resolve", &format!("{host}:443:{}", self.gateway)]);
        }
        curl
    }

    pub(crate) fn sign_in(&self, user: &str, host: &str) -> String {
        let form = self.curl(user, &[&format!("https://{host}/first")]);
        let hidden = |name: &str| {
            let behind = form.split(&format!("name=\"{name}\" value=\"")).nth(1);
            behind.unwrap_or_else(|| panic!("no {name} in: {form}")).split('"').next().unwrap().to_owned()
        };
        let fields = [
            ("form_token", hidden("form_token")),
            ("return", hidden("return")),
            ("login", user.to_owned()),
            ("password", "correct horse battery".to_owned()),
        ];
        let fields = fields.map(|(name, value)| format!("{name}={value}"));
        let words: Vec<&str> = fields.iter().flat_map(|field| ["--data-urlencode", field.as_str()]).collect();
        self.curl(user, &[&words[..], &["https://login.acme.test/login"]].concat())
    }

    /// Signs in, then looks until the page is what it should be: the newest documents take a moment to arrive.
    pub(crate) fn eventually(&self, user: &str, host: &str, good: impl Fn(&str) -> bool) -> String {
        let begun = Instant::now();
        let mut page = self.sign_in(user, host);
        while !good(&page) {
            assert!(begun.elapsed() < PATIENCE, "{page}\n{}\n{}", self.log("gateway"), self.log("connector"));
            thread::sleep(Duration::from_millis(200));
            page = self.curl(user, &[&format!("https://{host}/first")]);
        }
        page
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for (_, child) in &mut self.running {
            // Already ended is as good.
            let _ended = child.kill();
            let _reaped = child.wait();
        }
    }
}

/// An old application: says what it was asked; what is below `/slow` never ends. Gives its port.
fn app() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || answer(BufReader::new(stream)));
        }
    });
    port
}

fn answer(mut stream: BufReader<TcpStream>) {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") && stream.read_line(&mut head).is_ok_and(|read| read > 0) {}
    if head.starts_with("GET /slow") {
        let mut part = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{head}");
        while stream.get_mut().write_all(part.as_bytes()).is_ok() {
            part = "x".repeat(1024);
            thread::sleep(Duration::from_millis(50));
        }
        return;
    }
    let body = format!("seen by the app:\n{head}");
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    let _gone = stream.get_mut().write_all(answer.as_bytes());
}
