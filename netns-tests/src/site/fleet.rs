//! Control, gateways and connectors: their configuration files, joining, and their processes.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{
    PATIENCE,
    places::{APP_HOSTS, CONTROL, GATEWAYS, Places},
};
use crate::{
    admin::{Admin, CONTROL_PORT, TENANT, items, text},
    authority::Authority,
    process::{Process, output},
    topology::Ns,
};

/// Which node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NodeKind {
    /// The one control.
    Control,
    /// Gateway of this number.
    Gateway(usize),
    /// Connector of this number.
    Connector(usize),
}

impl NodeKind {
    fn name(self) -> String {
        match self {
            Self::Control => "control".to_owned(),
            Self::Gateway(number) => format!("gw-{number}"),
            Self::Connector(number) => format!("con-{number}"),
        }
    }

    const fn role(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Gateway(_) => "gateway",
            Self::Connector(_) => "connector",
        }
    }

    const fn ns(self, places: &Places) -> &Ns {
        match self {
            Self::Control => &places.cloud,
            Self::Gateway(number) => places.gateway(number),
            Self::Connector(number) => places.connector(number),
        }
    }
}

/// Configuration files and running nodes.
#[derive(Debug)]
pub(super) struct Fleet {
    sluice: PathBuf,
    folder: PathBuf,
    running: BTreeMap<NodeKind, Process>,
}

impl Fleet {
    pub(super) fn new(sluice: &Path, folder: &Path) -> Result<Self> {
        let sluice = sluice.canonicalize().with_context(|| format!("no sluice binary at {}", sluice.display()))?;
        let folder = folder.join("nodes");
        fs::create_dir_all(&folder)?;
        Ok(Self { sluice, folder, running: BTreeMap::new() })
    }

    /// Makes control's keys, starts it and becomes its owner.
    pub(super) fn start_control(&mut self, places: &Places, admin: &Admin) -> Result<()> {
        let data = self.folder.join("control");
        let [first, second] = GATEWAYS;
        let config = self.write(
            NodeKind::Control,
            &format!(
                "data_dir = \"{}\"\nlisten = [\"0.0.0.0:{CONTROL_PORT}\"]\nadvertised_address = \"{}\"\n\
                 trust_domain = \"sluice.test\"\nproxy_from = [\"{}/32\", \"{}/32\"]\n\n\
                 [names]\nnode = \"node.sluice.test\"\nconsole = \"console.sluice.test\"\npages = \"pages.sluice.test\"\n\n\
                 [wallet]\nuser = \"daemon\"\n",
                data.display(),
                CONTROL.v4(CONTROL_PORT),
                first.0,
                second.0,
            ),
        )?;
        let link = self.folder.join("owner.link");
        let mut init = places.cloud.command(&self.sluice);
        init.args(["control", "init", "--config"]).arg(&config).arg("--owner-link-file").arg(&link);
        output(&init)?;
        self.start_again(places, NodeKind::Control)?;
        let root = fs::read_to_string(data.join("node-root.pem")).context("control init left no node-root.pem")?;
        admin.claim(&link, &root)
    }

    /// Tenant, sites, resource, app and bob.
    pub(super) fn describe(&self, admin: &Admin, password: &str) -> Result<()> {
        let hosts =
            ["--login-host", "login.acme.test", "--est-host", "est.acme.test", "--checkin-host", "checkin.acme.test"];
        admin.json(
            &[&["tenant", "add", TENANT, "--name", "Acme", "--feed-host", "feed.acme.test"], &hosts[..]].concat(),
        )?;
        for site in ["dc-1", "dmz-1"] {
            admin.tenant(&["site", "add", site, "--name", site, "--time-zone", "Europe/Berlin"])?;
        }
        let target = ["--site", "dc-1", "--target", "tcp:files.dc.acme.test:8080", "--network", "10.31.0.0/24"];
        admin.tenant(&[&["resource", "add", "files", "--for-users"], &target[..]].concat())?;
        let place = ["--host", "files.acme.test", "--resource", "files", "--group", "staff"];
        admin.tenant(&[&["app", "add", "files", "--name", "Files"], &place[..]].concat())?;
        let password = admin.secret("bob.password", password)?;
        let bob = ["--email", "bob@acme.test", "--name", "bob", "--group", "staff", "--password-file", &password];
        admin.tenant(&[&["user", "add", "bob"], &bob[..]].concat()).map(drop)
    }

    pub(super) fn join_gateway(
        &mut self,
        places: &Places,
        admin: &Admin,
        authority: &Authority,
        number: usize,
    ) -> Result<()> {
        let kind = NodeKind::Gateway(number);
        let address = GATEWAYS.get(number).context("there are two gateways")?.0.to_string();
        let host = format!("gw{number}.acme.test");
        let code = join_code(admin, kind, &["--site", "dmz-1", "--host", &host, "--ip", &address])?;
        let hosts = APP_HOSTS.map(|host| format!("\"{host}\"")).join(", ");
        let more = format!(
            "\n[[certificates]]\nhosts = [{hosts}]\nchain_file = \"{}\"\nkey_file = \"{}\"\n",
            authority.chain().display(),
            authority.key().display()
        );
        self.configure(kind, &code, CONTROL.v4(CONTROL_PORT), &more)?;
        self.start_again(places, kind)?;
        wait_joined(admin, kind)
    }

    pub(super) fn join_connector(&mut self, places: &Places, admin: &Admin, number: usize, more: &str) -> Result<()> {
        let kind = NodeKind::Connector(number);
        let code = join_code(admin, kind, &["--site", "dc-1"])?;
        // Control is reached as the tunnel is: on port 443 of a gateway, which hands on what it cannot read.
        let [first, _] = GATEWAYS;
        self.configure(kind, &code, first.v4(443), more)?;
        self.start_again(places, kind)
    }

    /// Starts a node whose configuration is written.
    pub(super) fn start_again(&mut self, places: &Places, kind: NodeKind) -> Result<()> {
        let ns = kind.ns(places);
        let mut command = ns.command(&self.sluice);
        command.arg(kind.role()).arg("--config").arg(self.config(kind)).env("RUST_LOG", "info");
        let mut process = Process::start(&kind.name(), command, &self.logs())?;
        match kind {
            NodeKind::Control => process.wait_for_port(ns, CONTROL.v4(CONTROL_PORT), PATIENCE)?,
            NodeKind::Gateway(number) => {
                let address = GATEWAYS.get(number).context("there are two gateways")?.v4(443);
                process.wait_for_port(ns, address, PATIENCE)?;
            }
            NodeKind::Connector(_) => {}
        }
        self.running.insert(kind, process);
        Ok(())
    }

    /// Gives the process away, to be ended.
    pub(super) fn take(&mut self, kind: NodeKind) -> Result<Process> {
        self.running.remove(&kind).with_context(|| format!("{} does not run", kind.name()))
    }

    pub(super) fn tails(&self) -> String {
        let tail = |(kind, process): (&NodeKind, &Process)| format!("--- {}\n{}\n", kind.name(), process.tail());
        self.running.iter().map(tail).collect()
    }

    pub(super) fn no_errors(&self) -> Result<()> {
        let mut errors = Vec::new();
        for entry in fs::read_dir(self.logs())? {
            let path = entry?.path();
            let text = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
            let bad = |line: &&str| line.contains("ERROR") || line.contains("panicked at");
            errors.extend(text.lines().filter(bad).map(|line| format!("{}: {line}", path.display())));
        }
        ensure!(errors.is_empty(), "our programs logged errors:\n{}", errors.join("\n"));
        Ok(())
    }

    fn configure(&self, kind: NodeKind, code: &str, control: SocketAddr, more: &str) -> Result<()> {
        let file = self.folder.join(format!("{}.code", kind.name()));
        fs::write(&file, code)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
        let text = format!(
            "state_dir = \"{}\"\n\n[control]\njoin_code_file = \"{}\"\naddress = \"{control}\"\n{more}",
            self.folder.join(format!("{}-state", kind.name())).display(),
            file.display(),
        );
        self.write(kind, &text).map(drop)
    }

    fn write(&self, kind: NodeKind, text: &str) -> Result<PathBuf> {
        let path = self.config(kind);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    fn config(&self, kind: NodeKind) -> PathBuf {
        self.folder.join(format!("{}.toml", kind.name()))
    }

    fn logs(&self) -> PathBuf {
        self.folder.join("../logs")
    }
}

fn join_code(admin: &Admin, kind: NodeKind, more: &[&str]) -> Result<String> {
    let name = kind.name();
    let words = [&["node", "add", name.as_str(), "--role", kind.role()], more].concat();
    text(&admin.tenant(&words)?, "code")
}

fn wait_joined(admin: &Admin, kind: NodeKind) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let is = |node: &Value, field: &str, wanted: &str| node.get(field).and_then(Value::as_str) == Some(wanted);
    loop {
        let nodes = admin.tenant(&["node", "list"])?;
        if items(&nodes).iter().any(|node| is(node, "id", &kind.name()) && is(node, "state", "joined")) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{} did not join within {PATIENCE:?}: {nodes}", kind.name());
        thread::sleep(Duration::from_millis(100));
    }
}
