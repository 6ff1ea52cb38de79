//! The four roles: their configuration files, and their processes.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use super::world::{CONTROL, EDGE_LAN, GATEWAY, HOSTS, LINE_KBIT, Places};
use crate::{
    admin::CONTROL_PORT,
    authority::Authority,
    process::{Process, output},
    topology::Ns,
};

/// Account of the wallet's process; control itself becomes `nobody`.
const WALLET_USER: &str = "daemon";
/// What a process may take to be up on a busy machine.
pub(super) const START: Duration = Duration::from_secs(60);

/// Every role that runs as a service.
const ROLES: [&str; 4] = ["control", "gateway", "connector", "edge"];

/// Configuration files and running roles.
#[derive(Debug)]
pub(super) struct Roles {
    sluice: PathBuf,
    folder: PathBuf,
    line_kbit: u32,
    pub(super) control: Option<Process>,
    pub(super) gateway: Option<Process>,
    pub(super) connector: Option<Process>,
    pub(super) edge: Option<Process>,
}

impl Roles {
    pub(super) fn new(sluice: &Path, folder: &Path, broken: Option<u8>) -> Result<Self> {
        let sluice = sluice.canonicalize().with_context(|| format!("no sluice binary at {}", sluice.display()))?;
        // An edge that believes in a faster line than there is does not own the queue.
        let line_kbit = if broken == Some(9) { LINE_KBIT * 10 } else { LINE_KBIT };
        let folder = folder.join("roles");
        fs::create_dir_all(folder.join("../logs"))?;
        fs::create_dir_all(&folder)?;
        Ok(Self { sluice, folder, line_kbit, control: None, gateway: None, connector: None, edge: None })
    }

    /// Control's data folder.
    pub(super) fn data(&self) -> PathBuf {
        self.folder.join("control")
    }

    /// Writes control's file and makes its keys; gives the file with the owner link.
    pub(super) fn init_control(&self, places: &Places) -> Result<PathBuf> {
        let config = self.write(
            "control",
            &format!(
                "data_dir = \"{}\"\n\
                 listen = [\"0.0.0.0:{CONTROL_PORT}\", \"[::]:{CONTROL_PORT}\"]\n\
                 advertised_address = \"{}\"\n\
                 trust_domain = \"sluice.test\"\n\
                 proxy_from = [\"{}/32\", \"{}/128\"]\n\n\
                 [names]\n\
                 node = \"node.sluice.test\"\n\
                 console = \"console.sluice.test\"\n\
                 pages = \"pages.sluice.test\"\n\n\
                 [wallet]\n\
                 user = \"{WALLET_USER}\"\n",
                self.data().display(),
                CONTROL.v4(CONTROL_PORT),
                GATEWAY.0,
                GATEWAY.1
            ),
        )?;
        let link = self.folder.join("owner.link");
        let mut init = places.cloud.command(&self.sluice);
        init.args(["control", "init", "--config"]).arg(&config).arg("--owner-link-file").arg(&link);
        output(&init)?;
        Ok(link)
    }

    /// Starts control and waits until it accepts connections.
    pub(super) fn start_control(&mut self, places: &Places) -> Result<()> {
        let mut process = self.start("control", &places.cloud)?;
        process.wait_for_port(&places.cloud, CONTROL.v4(CONTROL_PORT), START)?;
        self.control = Some(process);
        Ok(())
    }

    /// Starts the gateway with its join code.
    pub(super) fn start_gateway(&mut self, places: &Places, authority: &Authority, code: &str) -> Result<()> {
        let hosts = HOSTS.map(|host| format!("\"{host}\"")).join(", ");
        let more = format!(
            "\n[[certificates]]\nhosts = [{hosts}]\nchain_file = \"{}\"\nkey_file = \"{}\"\n",
            authority.chain().display(),
            authority.key().display()
        );
        self.node("gateway", "", &more, code)?;
        let mut process = self.start("gateway", &places.dmz)?;
        process.wait_for_port(&places.dmz, GATEWAY.v4(443), START)?;
        self.gateway = Some(process);
        Ok(())
    }

    /// Starts the connector with its join code.
    pub(super) fn start_connector(&mut self, places: &Places, code: &str) -> Result<()> {
        self.node("connector", "", "", code)?;
        self.connector = Some(self.start("connector", &places.connector)?);
        Ok(())
    }

    /// Starts the edge with its join code.
    pub(super) fn start_edge(&mut self, places: &Places, code: &str) -> Result<()> {
        let rate = self.line_kbit;
        let more = format!(
            "\n[lan]\ninterface = \"lan0\"\nprefixes = [\"{}/24\", \"{}/64\"]\n\
             pool_first = \"10.20.0.50\"\npool_last = \"10.20.0.99\"\n\n\
             [wan]\ninterface = \"wan0\"\nup_kbit = {rate}\ndown_kbit = {rate}\n",
            EDGE_LAN.0, EDGE_LAN.1
        );
        self.node("edge", "", &more, code)?;
        self.edge = Some(self.start("edge", &places.edge)?);
        Ok(())
    }

    /// The role has not ended.
    pub(super) fn still_runs(&mut self, role: &str) -> Result<()> {
        let process = match role {
            "gateway" => &mut self.gateway,
            "connector" => &mut self.connector,
            "edge" => &mut self.edge,
            _ => &mut self.control,
        };
        let process = process.as_mut().with_context(|| format!("{role} was not started"))?;
        ensure!(process.running()?, "{role} has ended:\n{}", process.tail());
        Ok(())
    }

    /// Every process of every role, by what it is: the roles, the edge's wire side, the wallet.
    pub(super) fn processes(&self) -> Result<Vec<(String, u32)>> {
        let all = [&self.control, &self.gateway, &self.connector, &self.edge];
        let mut found = Vec::new();
        for (role, process) in ROLES.iter().zip(all) {
            let pid = process.as_ref().with_context(|| format!("{role} was not started"))?.pid();
            found.push(((*role).to_owned(), pid));
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
            found
                .extend(children.split(' ').filter_map(|child| Some((format!("{role}'s child"), child.parse().ok()?))));
        }
        Ok(found)
    }

    /// Process ids of the nodes that must not notice that control is gone.
    pub(super) fn node_pids(&mut self) -> Result<Vec<u32>> {
        let nodes = [&mut self.gateway, &mut self.connector, &mut self.edge];
        let mut pids = Vec::new();
        for node in nodes.into_iter().flatten() {
            ensure!(node.running()?, "a node has ended:\n{}", node.tail());
            pids.push(node.pid());
        }
        Ok(pids)
    }

    /// Our own programs have not logged an error, nor panicked.
    pub(super) fn no_errors(&self) -> Result<()> {
        let mut errors = Vec::new();
        for role in ROLES {
            let log = fs::read(self.logs().join(format!("{role}.log"))).unwrap_or_default();
            let bad = |line: &&str| line.contains("ERROR") || line.contains("panicked at");
            let log = String::from_utf8_lossy(&log);
            errors.extend(log.lines().filter(bad).map(|line| format!("{role}: {line}")));
        }
        ensure!(errors.is_empty(), "everything was observed, but our programs logged errors:\n{}", errors.join("\n"));
        Ok(())
    }

    /// Asks every role to end; each must drain and exit with 0.
    pub(super) fn stop(&mut self) -> Result<()> {
        let all = [self.edge.take(), self.connector.take(), self.gateway.take(), self.control.take()];
        for (role, process) in ["edge", "connector", "gateway", "control"].iter().zip(all) {
            let Some(process) = process else { continue };
            let status = process.stop()?;
            ensure!(status.success(), "{role} ended with {status} after SIGTERM");
        }
        Ok(())
    }

    /// All four run, and [`Self::no_errors`].
    pub(super) fn alive_and_without_errors(&mut self) -> Result<()> {
        for role in ROLES {
            self.still_runs(role)?;
        }
        self.no_errors()
    }

    fn logs(&self) -> PathBuf {
        self.folder.join("../logs")
    }

    fn node(&self, role: &str, first: &str, more: &str, code: &str) -> Result<()> {
        let file = self.folder.join(format!("{role}.code"));
        fs::write(&file, code)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
        let state = self.folder.join(format!("{role}-state"));
        self.write(
            role,
            &format!(
                "state_dir = \"{}\"\n{first}\n[control]\njoin_code_file = \"{}\"\naddress = \"{}\"\n{more}",
                state.display(),
                file.display(),
                CONTROL.v4(CONTROL_PORT)
            ),
        )
        .map(drop)
    }

    fn write(&self, role: &str, text: &str) -> Result<PathBuf> {
        let path = self.config(role);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    fn config(&self, role: &str) -> PathBuf {
        self.folder.join(format!("{role}.toml"))
    }

    fn start(&self, role: &str, ns: &Ns) -> Result<Process> {
        let mut command = ns.command(&self.sluice);
        command.arg(role).arg("--config").arg(self.config(role)).env("RUST_LOG", "info");
        Process::start(role, command, &self.logs())
    }
}
