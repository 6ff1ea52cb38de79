//! A LAN with the agent on one side and hubs on the other; control and kernel are recorded.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Child, Command},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, IsCa, KeyPair, SanType,
};
use sluice_discovery_agent::{Agent, Control, Handle, Kernel, Lan, Sockets};
use sluice_discovery_rules::{EdgeDocument, HubClass, HubService, StagingDestination, dhcp::Scope, staging::Action};
use sluice_netns_tests::topology::{Ns, Topology};
use sluice_node_identity::{
    Fingerprint, HubId, TenantId, TrustDomain,
    api::{CheckIn, CheckIns, HubStanding},
};
use tokio::sync::watch;

const HOOK: &str = "#!/bin/sh\n[ \"$1\" = bound ] || exit 0\nip -4 addr flush dev $interface\nip addr add $ip/$mask dev $interface\n\
    for d in $dns; do echo nameserver $d; done > /etc/resolv.conf\nenv > \"$TOLD\"\n";
const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < DEADLINE, "{what}: not within {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

pub(crate) fn document() -> EdgeDocument {
    EdgeDocument {
        tenant: "acme".parse().unwrap(),
        site: "branch-1".parse().unwrap(),
        classes: vec![HubClass { name: "Sluice hub".into(), vendor_class: "SluiceHub".into() }],
        service: HubService {
            discovery_url: "https://est.acme.test".into(),
            est_host: "est.acme.test".into(),
            est_addresses: vec!["192.0.2.10".parse().unwrap(), "2001:db8:1::10".parse().unwrap()],
            checkin_host: "checkin.acme.test".into(),
        },
        staging: vec![StagingDestination { address: "192.0.2.10".parse().unwrap(), port: 443 }],
        qos: Default::default(),
    }
}

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

#[derive(Default)]
struct Records {
    standings: BTreeMap<HubId, HubStanding>,
    /// Runs once, between the next question for a standing and its answer.
    meanwhile: Option<Box<dyn FnOnce() + Send>>,
    reports: Vec<CheckIn>,
    actions: Vec<Action>,
}

struct FakeControl {
    records: Arc<Mutex<Records>>,
    root: Arc<Authority>,
}

#[async_trait]
impl Control for FakeControl {
    fn owner(&self) -> (TrustDomain, TenantId) {
        ("sluice.test".parse().unwrap(), "acme".parse().unwrap())
    }

    fn standing(&self, hub: &HubId) -> Option<HubStanding> {
        let (standing, meanwhile) = {
            let mut records = self.records.lock().unwrap();
            (records.standings.get(hub).cloned(), records.meanwhile.take())
        };
        if let Some(meanwhile) = meanwhile {
            meanwhile();
        }
        standing
    }

    fn is_stale(&self) -> bool {
        false
    }

    async fn hub_facing(&self, csr: String) -> anyhow::Result<String> {
        let leaf = CertificateSigningRequestParams::from_pem(&csr)?.signed_by(&self.root)?;
        Ok(format!("{}{}", leaf.pem(), self.root.pem()))
    }

    async fn check_ins(&self, seen: CheckIns) -> anyhow::Result<()> {
        self.records.lock().unwrap().reports.extend(seen.seen);
        Ok(())
    }
}

struct FakeKernel {
    records: Arc<Mutex<Records>>,
    broken: Arc<AtomicBool>,
}

#[async_trait]
impl Kernel for FakeKernel {
    async fn apply(&mut self, actions: &[Action]) -> anyhow::Result<()> {
        anyhow::ensure!(!self.broken.load(Ordering::SeqCst), "broken on purpose");
        self.records.lock().unwrap().actions.extend(actions);
        Ok(())
    }

    async fn document(&mut self, document: &EdgeDocument) -> anyhow::Result<Result<(), String>> {
        Ok(if document.site.as_str() == "refused-by-kernel" { Err("the kernel says no".into()) } else { Ok(()) })
    }
}

pub(crate) struct World {
    pub(crate) handle: Handle,
    hubs: Vec<Ns>,
    records: Arc<Mutex<Records>>,
    broken: Arc<AtomicBool>,
    root: Arc<Authority>,
    stop: watch::Sender<bool>,
    resolver: Child,
    agent: Option<JoinHandle<anyhow::Result<Result<(), String>>>>,
    runtime: tokio::runtime::Runtime,
    folder: tempfile::TempDir,
    _topology: Topology,
}

impl World {
    /// An edge with one LAN and `hubs` hubs on it, a document in force and the door open.
    pub(crate) fn new(hubs: usize) -> Self {
        let mut topology = Topology::new().unwrap();
        let edge = topology.namespace("edge").unwrap();
        edge.ip(&["link", "add", "lan0", "type", "bridge"]).unwrap();
        edge.ip(&["link", "set", "lan0", "up"]).unwrap();
        let hubs: Vec<Ns> = (0..hubs).map(|n| topology.namespace(&format!("hub{n}")).unwrap()).collect();
        for (n, hub) in hubs.iter().enumerate() {
            let port = format!("port{n}");
            topology.link((hub, "eth0"), (&edge, &port)).unwrap();
            edge.ip(&["link", "set", &port, "master", "lan0"]).unwrap();
        }
        edge.address("lan0", "10.77.0.1/24").unwrap();
        edge.address("lan0", "2001:db8:77::1/64").unwrap();
        edge.forward().unwrap();

        let resolver = edge
            .command("dnsmasq")
            .args(["-k", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--pid-file=", "--user=root"])
            .args(["--listen-address=127.0.0.1", "--bind-interfaces", "--port=5353"])
            .arg("--address=/intranet.acme.test/192.0.2.55")
            .spawn()
            .unwrap();
        let records: Arc<Mutex<Records>> = Arc::default();
        let broken = Arc::new(AtomicBool::new(false));
        let root = Arc::new(authority("acme hubs"));
        let control = Arc::new(FakeControl { records: records.clone(), root: root.clone() });
        let kernel = FakeKernel { records: records.clone(), broken: broken.clone() };
        let (stop, stopped) = watch::channel(false);
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        let agent = edge
            .spawn(move || {
                let lan = lan();
                let sockets = Sockets::bind(&lan).unwrap();
                let (agent, handle) = Agent::new(lan, sockets, control);
                sender.send(handle).unwrap();
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(agent.run(kernel, stopped)).map_err(|error| format!("{error:#}"))
            })
            .unwrap();
        let handle = receiver.recv_timeout(DEADLINE).expect("the agent is up");
        let world = Self {
            handle,
            hubs,
            records,
            broken,
            root,
            stop,
            resolver,
            agent: Some(agent),
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap(),
            folder: tempfile::tempdir().unwrap(),
            _topology: topology,
        };
        world.put(document()).unwrap();
        let hook = world.path("hook");
        fs::write(&hook, HOOK).unwrap();
        fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(world.path("root.pem"), world.root.pem()).unwrap();
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn hub(&self, n: usize) -> &Ns {
        &self.hubs[n]
    }

    pub(crate) fn put(&self, document: EdgeDocument) -> Result<(), String> {
        self.runtime.block_on(self.handle.document(document)).unwrap()
    }

    /// Runs `udhcpc`; gives the environment of its script.
    pub(crate) fn lease(&self, n: usize, class: &str) -> BTreeMap<String, String> {
        let told = self.path(&format!("told{n}"));
        let mut udhcpc = self.hubs[n].command("udhcpc");
        udhcpc.args(["-f", "-n", "-q", "-t", "5", "-T", "2", "-i", "eth0", "-V", class]);
        udhcpc.args(["-O", "43", "-O", "114", "-O", "143", "-s"]).arg(self.path("hook")).env("TOLD", &told);
        let output = udhcpc.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = fs::read_to_string(told).unwrap();
        text.lines().filter_map(|line| line.split_once('=')).map(|(key, value)| (key.into(), value.into())).collect()
    }

    /// Gives the lease back: `udhcpc` in the background is told to (SIGUSR2).
    pub(crate) fn release(&self, n: usize, address: &str) {
        let mut udhcpc = self.hubs[n].command("udhcpc");
        udhcpc.args(["-f", "-R", "-t", "5", "-T", "2", "-i", "eth0", "-V", "SluiceHub:m7", "-s"]);
        udhcpc.arg(self.path("hook")).env("TOLD", self.path("released")).args(["-r", address]);
        let mut child = udhcpc.spawn().unwrap();
        wait_for("a lease to give back", || self.path("released").exists());
        let done = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
        assert!(done.success());
        child.wait().unwrap();
    }

    /// Addresses of a name by the C library's resolver, sorted.
    pub(crate) fn resolve(&self, n: usize, name: &str) -> Vec<String> {
        self.resolve_by(n, name, "timeout:5")
    }

    /// The same with options of the resolver (`use-vc`: over TCP).
    pub(crate) fn resolve_by(&self, n: usize, name: &str, options: &str) -> Vec<String> {
        let mut getent = self.hubs[n].command("getent");
        let output = getent.args(["ahosts", name]).env("RES_OPTIONS", options).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let found: BTreeSet<&str> = text.lines().filter_map(|line| line.split(' ').next()).collect();
        found.into_iter().map(str::to_owned).collect()
    }

    /// Body, then the status ("000" when there was no answer).
    pub(crate) fn curl(&self, n: usize, args: &[&str]) -> String {
        let mut curl = self.hubs[n].command("curl");
        curl.args(["-sS", "-m", "20", "-w", "%{http_code}", "--cacert"]).arg(self.path("root.pem")).args(args);
        String::from_utf8(curl.output().unwrap().stdout).unwrap()
    }

    /// Makes the certificate of a hub (or what pretends to be one) at its first use.
    fn identity(&self, id: &str) -> (PathBuf, PathBuf, Fingerprint) {
        let (cert, key) = (self.path(&format!("{id}.pem")), self.path(&format!("{id}.key")));
        if !key.exists() {
            let pair = KeyPair::generate().unwrap();
            let uri = match id {
                "other-tenant" => "spiffe://sluice.test/tenant/globex/hub/other-tenant".to_owned(),
                "node" => "spiffe://sluice.test/tenant/acme/gateway/node".to_owned(),
                id => format!("spiffe://sluice.test/tenant/acme/hub/{id}"),
            };
            let mut params = CertificateParams::new(vec![]).unwrap();
            params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
            let issuer = if id == "foreign" { Arc::new(authority("acme hubs")) } else { self.root.clone() };
            fs::write(&cert, params.signed_by(&pair, &issuer).unwrap().pem()).unwrap();
            fs::write(&key, pair.serialize_pem()).unwrap();
        }
        let pair = KeyPair::from_pem(&fs::read_to_string(&key).unwrap()).unwrap();
        let spki = rcgen::PublicKeyData::subject_public_key_info(&pair);
        (cert, key, Fingerprint::of(&spki))
    }

    /// Checks in; the door may still be waiting for its certificate.
    pub(crate) fn check_in(&self, n: usize, id: &str) -> String {
        let (cert, key, _) = self.identity(id);
        wait_for("the door", || {
            self.curl(n, &["https://checkin.acme.test/.well-known/sluice/discovery"]).ends_with("200")
        });
        let (cert, key) = (cert.to_str().unwrap().to_owned(), key.to_str().unwrap().to_owned());
        let url = "https://checkin.acme.test/.well-known/sluice/checkin";
        self.curl(n, &["-X", "POST", "--cert", &cert, "--key", &key, url])
    }

    pub(crate) fn enrol(&self, id: &str, enrolled: bool) {
        let keys = vec![self.identity(id).2];
        self.records.lock().unwrap().standings.insert(id.parse().unwrap(), HubStanding { enrolled, keys });
    }

    /// The hub is revoked, and the agent told, while its next check-in is being judged by what was true before.
    pub(crate) fn revoke_amid_check_in(&self, id: &'static str) {
        let (records, handle, keys) = (self.records.clone(), self.handle.clone(), vec![self.identity(id).2]);
        let revoke = move || {
            let revoked = HubStanding { enrolled: false, keys };
            records.lock().unwrap().standings.insert(id.parse().unwrap(), revoked);
            handle.review().unwrap();
        };
        let meanwhile = move || {
            let revoking = std::thread::spawn(revoke);
            let began = Instant::now();
            // An agent that keeps the two apart lets the revocation wait, so this must not wait for it for ever.
            while !revoking.is_finished() && began.elapsed() < Duration::from_millis(500) {
                std::thread::sleep(Duration::from_millis(5));
            }
        };
        self.records.lock().unwrap().meanwhile = Some(Box::new(meanwhile));
    }

    pub(crate) fn global_v6(&self, n: usize) -> String {
        let mut found = None;
        wait_for("an address by router advertisement", || {
            let mut ip = Command::new("ip");
            ip.args([
                "-n",
                self.hubs[n].name(),
                "-6",
                "-o",
                "addr",
                "show",
                "dev",
                "eth0",
                "scope",
                "global",
                "-tentative",
            ]);
            let text = String::from_utf8(ip.output().unwrap().stdout).unwrap();
            let word = text.split_whitespace().skip_while(|word| *word != "inet6").nth(1);
            found = word.and_then(|cidr| cidr.split('/').next()).map(str::to_owned);
            found.is_some()
        });
        found.unwrap()
    }

    pub(crate) fn mac(&self, n: usize) -> String {
        let mut cat = self.hubs[n].command("cat");
        String::from_utf8(cat.arg("/sys/class/net/eth0/address").output().unwrap().stdout).unwrap().trim().to_owned()
    }

    pub(crate) fn actions(&self) -> Vec<Action> {
        self.records.lock().unwrap().actions.clone()
    }

    pub(crate) fn reports(&self) -> Vec<CheckIn> {
        self.records.lock().unwrap().reports.clone()
    }

    /// What the kernel would let pass now, sorted.
    pub(crate) fn admitted(&self) -> Vec<String> {
        let mut admitted = BTreeSet::new();
        for action in self.actions() {
            match action {
                Action::Admit { mac, address } => admitted.insert(format!("{mac} {address}")),
                Action::Restage { mac, address } => admitted.remove(&format!("{mac} {address}")),
            };
        }
        admitted.into_iter().collect()
    }

    pub(crate) fn break_kernel(&self) {
        self.broken.store(true, Ordering::SeqCst);
    }

    /// How the agent ended.
    pub(crate) fn ended(&mut self, limit: Duration) -> Result<(), String> {
        let agent = self.agent.take().unwrap();
        let began = Instant::now();
        while !agent.is_finished() {
            assert!(began.elapsed() < limit, "the agent did not end");
            std::thread::sleep(Duration::from_millis(50));
        }
        agent.join().unwrap().unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        // Killed with its namespace at the latest.
        let _gone = self.resolver.kill();
        let _status = self.resolver.wait();
        if let Some(agent) = self.agent.take()
            && !std::thread::panicking()
        {
            agent.join().unwrap().unwrap().unwrap();
        }
    }
}

fn lan() -> Lan {
    let scope = Scope::new("10.77.0.1/24".parse().unwrap(), [10, 77, 0, 50].into(), [10, 77, 0, 99].into(), 600);
    Lan {
        interface: "lan0".into(),
        addresses: vec!["10.77.0.1/24".parse().unwrap(), "2001:db8:77::1/64".parse().unwrap()],
        scope: Some(scope.unwrap()),
        domain: Some("acme.test".into()),
        resolver: Some("127.0.0.1:5353".parse().unwrap()),
    }
}
