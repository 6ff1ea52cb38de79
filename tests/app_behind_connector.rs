//! The built command as control, gateway and connector: a user signs in once and opens an app with no inbound port.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
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
const PATIENCE: Duration = Duration::from_secs(60);
/// The gateway as connectors know it.
const GATEWAY: &str = "gw.acme.test";
/// Runs the rest of its arguments where `/etc/hosts` is its first one.
const WITH_HOSTS: &str = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
const HOSTS: [&str; 3] = ["login.acme.test", "wiki.acme.test", "hidden.acme.test"];

#[test]
fn c2_c5_g2_signed_in_user_reaches_an_app_behind_a_connector_and_others_do_not() {
    let mut world = World::up();
    world.start("gateway");
    world.line("gateway", "joined");
    world.start("connector");
    world.line("gateway", "tunnel is up");

    let bob = world.eventually("bob", "wiki.acme.test", |page| page.contains("seen by the app"));
    assert!(bob.contains("sluice-identity: ey"), "the app got no assertion: {bob}");
    assert!(bob.contains("x-login: bob"), "{bob}");
    assert!(!bob.contains("__Host-"), "the app saw our cookie: {bob}");
    // One login is enough for the second app; its target is this machine, which the resource does not name.
    let hidden = world.curl("bob", &["https://hidden.acme.test/"]);
    assert!(!hidden.contains("seen by the app") && !hidden.contains("<form"), "{hidden}");
    world.line("connector", "refused");
    let carol = world.sign_in("carol", "wiki.acme.test");
    assert!(!carol.contains("seen by the app"), "{carol}");

    world.stop("control", Signal::SIGKILL);
    let without = world.curl("bob", &["https://wiki.acme.test/again"]);
    assert!(without.contains("GET /again") && without.contains("seen by the app"), "{without}");
    for role in ["gateway", "connector"] {
        let status = world.stop(role, Signal::SIGTERM);
        assert!(status.success(), "{role}: {status}\n{}", world.log(role));
        assert!(!world.log(role).contains("ERROR"), "{}", world.log(role));
    }
}

struct World {
    folder: TempDir,
    /// Loopback address of this test's own: the gateway's port is 443.
    gateway: String,
    control: String,
    running: Vec<(String, Child)>,
}

impl World {
    /// Control runs and knows a tenant with a gateway, a connector, two apps and two users.
    fn up() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let [_, _, high, low] = std::process::id().to_be_bytes();
        let control = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let mut world = Self { folder, gateway: format!("127.77.{high}.{low}"), control, running: Vec::new() };
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
        let connector = format!("gateway_networks = [\"{}/32\"]\n{}", self.gateway, node("connector"));
        self.write("connector.toml", &connector);
        let (chain, key) = self.certificates();
        let gateway = format!(
            "listen = [\"{}:443\"]\n{}[[certificates]]\nhosts = {HOSTS:?}\nchain_file = {chain:?}\nkey_file = {key:?}\n",
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

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn secret(&self, name: &str, text: &str) -> String {
        self.write(name, text);
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).unwrap();
        self.path(name)
    }

    fn ended(&self, role: &str, words: &[&str]) -> Vec<u8> {
        let output = Command::new(env!("CARGO_BIN_EXE_sluice")).arg(role).args(words).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{role} {words:?}: {said}");
        output.stdout
    }

    fn admin(&self, words: &[&str]) -> Value {
        let port = self.control.rsplit(':').next().unwrap();
        let (server, root) = (format!("https://console.sluice.test:{port}"), self.path("data/node-root.pem"));
        let access = ["--json", "--server", &server, "--address", &self.control, "--root", &root];
        let token = self.path("token");
        let answer = self.ended("admin", &[&access, &["--token-file", &token][..], words].concat());
        serde_json::from_slice(&answer).unwrap_or(Value::Null)
    }

    fn start(&mut self, role: &str) {
        let log = fs::File::create(self.path(&format!("{role}.log"))).unwrap();
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", WITH_HOSTS, &self.path("hosts"), env!("CARGO_BIN_EXE_sluice")]);
        command.args([role, "--config", &self.path(&format!("{role}.toml"))]).env("RUST_LOG", "info");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        self.running.push((role.to_owned(), child));
    }

    fn stop(&mut self, role: &str, signal: Signal) -> std::process::ExitStatus {
        let at = self.running.iter().position(|(name, _)| name == role).unwrap();
        let (_, mut child) = self.running.remove(at);
        kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
        child.wait().unwrap()
    }

    fn log(&self, role: &str) -> String {
        fs::read_to_string(PathBuf::from(self.path(&format!("{role}.log")))).unwrap_or_default()
    }

    fn line(&self, role: &str, words: &str) {
        let begun = Instant::now();
        while !self.log(role).contains(words) {
            assert!(begun.elapsed() < PATIENCE, "{role} never says {words:?}: {}", self.log(role));
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// What a browser of `user` shows after all redirects.
    fn curl(&self, user: &str, words: &[&str]) -> String {
        let (jar, authority) = (self.path(&format!("{user}.cookies")), self.path("users.pem"));
        let mut curl = Command::new("curl");
        curl.args(["-sS", "-L", "--max-time", "50", "--cacert", &authority, "-b", &jar, "-c", &jar]);
        for host in HOSTS {
            curl.args(["--resolve", &format!("{host}:443:{}", self.gateway)]);
        }
        let output = curl.args(words).output().expect("curl is not installed");
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    fn sign_in(&self, user: &str, host: &str) -> String {
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
    fn eventually(&self, user: &str, host: &str, good: impl Fn(&str) -> bool) -> String {
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

/// An old application: says what it was asked. Gives its port.
fn app() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut stream = BufReader::new(stream);
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") && stream.read_line(&mut head).is_ok_and(|read| read > 0) {}
            let body = format!("seen by the app:\n{head}");
            let answer =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
            let _gone = stream.get_mut().write_all(answer.as_bytes());
        }
    });
    port
}
