//! The namespaces: user → gateway side → (line) → agent → server.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use sluice_connector_wire::ClassPair;
use sluice_netns_tests::{
    emulator::{Emulator, Shape, single_frames},
    process::{Process, run},
    topology::{Ns, Topology},
};

/// Where users meet the gateway's side.
pub(crate) const GATE_FOR_USERS: Ipv4Addr = Ipv4Addr::new(10, 11, 1, 1);
/// Where agents meet it.
pub(crate) const GATE_FOR_AGENTS: Ipv4Addr = Ipv4Addr::new(10, 11, 2, 1);
/// The server behind the agent.
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 11, 3, 2);
/// iperf3 there.
pub(crate) const BULK_PORT: u16 = 5201;
/// The echo server there.
pub(crate) const ECHO_PORT: u16 = 5300;

const USER: Ipv4Addr = Ipv4Addr::new(10, 11, 1, 2);
/// Where the gateway's side meets it.
pub(crate) const AGENT_FOR_GATE: Ipv4Addr = Ipv4Addr::new(10, 11, 2, 2);
const AGENT_FOR_SERVER: Ipv4Addr = Ipv4Addr::new(10, 11, 3, 1);
/// How long a program may take to be ready.
const START: Duration = Duration::from_secs(15);
/// Thousands of connections a second to one address need many ports, and need them again soon.
const PORTS: [(&str, &str); 2] = [("net.ipv4.ip_local_port_range", "10240 65535"), ("net.ipv4.tcp_tw_reuse", "1")];

/// What lies between the gateway's side and the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// For case names: `0 ms`.
    pub(crate) name: &'static str,
    /// One direction; `None`: a plain cable.
    pub(crate) shape: Option<Shape>,
    /// Both ends hold their own queue at this rate in bits per second, a little below the line's, and send what is marked
    /// as interactive first, as a site's edge does.
    pub(crate) by_priority: Option<u32>,
}

/// A running world; everything in it ends with it.
pub(crate) struct World {
    /// Where load makers run.
    pub(crate) user: Ns,
    /// Where the tunnels' near ends run.
    pub(crate) gate: Ns,
    /// Where their far ends run.
    pub(crate) agent: Ns,
    /// Where the servers run.
    pub(crate) server: Ns,
    /// Folder of logs, keys and configurations.
    pub(crate) folder: PathBuf,
    /// Whether the line's ends send what is urgent first.
    pub(crate) by_priority: bool,
    /// The emulated line, if there is one.
    pub(crate) emulator: Option<Emulator>,
    servers: Vec<Process>,
    /// Own programs: `bench-load` and the tunnel's ends.
    programs: PathBuf,
    _topology: Topology,
}

impl World {
    /// Builds the namespaces and starts the servers. `folder` takes logs, `programs` holds ours.
    ///
    /// # Errors
    /// Not root, or a program is missing.
    pub(crate) fn new(line: &Line, folder: &Path, programs: &Path) -> Result<Self> {
        let mut topology = Topology::new()?;
        let mut namespace = |name| topology.namespace(name);
        let (user, gate, agent, server) =
            (namespace("user")?, namespace("gate")?, namespace("agent")?, namespace("server")?);
        topology.link((&user, "gate"), (&gate, "users"))?;
        topology.link((&agent, "servers"), (&server, "agent"))?;
        let emulator = match line.shape {
            None => {
                topology.link((&gate, "agents"), (&agent, "gate"))?;
                None
            }
            Some(shape) => {
                let wire = topology.namespace("wire")?;
                topology.link((&gate, "agents"), (&wire, "left"))?;
                topology.link((&wire, "right"), (&agent, "gate"))?;
                single_frames(&gate, "agents")?;
                single_frames(&agent, "gate")?;
                let back = Shape { seed: shape.seed + 1, ..shape };
                Some(Emulator::start(&wire, ("left", "right"), shape, back)?)
            }
        };
        let cables = [
            (&user, "gate", USER),
            (&gate, "users", GATE_FOR_USERS),
            (&gate, "agents", GATE_FOR_AGENTS),
            (&agent, "gate", AGENT_FOR_GATE),
            (&agent, "servers", AGENT_FOR_SERVER),
            (&server, "agent", SERVER),
        ];
        for (ns, device, address) in cables {
            ns.address(device, &format!("{address}/24"))?;
        }
        for (ns, (name, value)) in [&user, &gate, &agent, &server].iter().flat_map(|ns| PORTS.map(|set| (ns, set))) {
            ns.sysctl(name, value)?;
        }
        if let Some(rate) = line.by_priority {
            send_by_priority(&gate, "agents", rate)?;
            send_by_priority(&agent, "gate", rate)?;
        }
        let (folder, programs) = (folder.to_owned(), programs.to_owned());
        let servers = Vec::new();
        let by_priority = line.by_priority.is_some();
        let mut world =
            Self { by_priority, user, gate, agent, server, folder, emulator, servers, programs, _topology: topology };
        world.start_servers()?;
        Ok(world)
    }

    /// One of our own programs.
    #[must_use]
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    /// Runs our load maker at the user's and reads its result.
    ///
    /// # Errors
    /// It failed; the message holds what it said.
    pub(crate) fn load<T: DeserializeOwned>(&self, args: &[&str], limit: Duration) -> Result<T> {
        let mut command = self.user.command(self.program("bench-load"));
        command.args(args);
        self.json(&command, limit)
    }

    /// Runs a program that prints JSON.
    ///
    /// # Errors
    /// It failed; the message holds what it said.
    pub(crate) fn json<T: DeserializeOwned>(&self, command: &Command, limit: Duration) -> Result<T> {
        let ended = run(command, limit)?;
        let said = || format!("code {}: {}{}", ended.code, ended.stderr.trim(), ended.stdout.trim());
        anyhow::ensure!(ended.code == 0, "{}", said());
        serde_json::from_str(&ended.stdout).with_context(said)
    }

    /// How the users' connections are congestion-controlled; the same everywhere.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn congestion_control(&self) -> Result<String> {
        let read = || std::fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control");
        Ok(self.gate.enter(read)??.trim().to_owned())
    }

    fn start_servers(&mut self) -> Result<()> {
        let mut echo = self.server.command(self.program("bench-load"));
        echo.args(["echo", &format!("{SERVER}:{ECHO_PORT}")]);
        let mut bulk = self.server.command("iperf3");
        bulk.args(["-s", "-B", &SERVER.to_string(), "-p", &BULK_PORT.to_string()]);
        for (name, command, port) in [("echo", echo, ECHO_PORT), ("iperf3", bulk, BULK_PORT)] {
            let mut server = Process::start(name, command, &self.folder)?;
            server.wait_for_port(&self.server, SocketAddr::new(IpAddr::V4(SERVER), port), START)?;
            self.servers.push(server);
        }
        Ok(())
    }

    /// Waits until bytes go through a tunnel whose near end listens on `port`.
    ///
    /// # Errors
    /// The near end ended, or nothing went through in time.
    pub(crate) fn wait_for_echo(&self, near: &mut Process, port: u16) -> Result<()> {
        let to = SocketAddr::new(IpAddr::V4(GATE_FOR_USERS), port);
        near.wait_until("byte through the tunnel", START, || {
            let through = self.user.enter(move || echoes(to)).unwrap_or(false);
            through.then_some(())
        })
    }
}

/// A queue of our own at `rate`, in which what is marked as interactive (AF41) goes first, as at a site's edge.
fn send_by_priority(ns: &Ns, device: &str, rate: u32) -> Result<()> {
    let share = |parent, id, least: u32, order| {
        format!(
            "class add dev {device} parent {parent} classid {id} htb prio {order} rate {least} ceil {rate} burst 3000 cburst 3000"
        )
    };
    let urgent = ClassPair::Interactive.dscp() << 2;
    let steps = [
        format!("qdisc add dev {device} root handle 1: htb default 20 r2q 1000"),
        share("1:", "1:1", rate, 0),
        share("1:1", "1:10", rate / 4, 0),
        share("1:1", "1:20", rate / 4 * 3, 1),
        format!("filter add dev {device} parent 1: protocol ip prio 1 u32 match ip tos {urgent} 0xfc flowid 1:10"),
    ];
    for step in steps {
        let mut tc = ns.command("tc");
        tc.args(step.split(' '));
        let ended = run(&tc, START)?;
        anyhow::ensure!(ended.code == 0, "tc {step}: {}", ended.stderr.trim());
    }
    Ok(())
}

fn echoes(to: SocketAddr) -> bool {
    use std::io::{Read, Write};
    let limit = Duration::from_secs(1);
    let Ok(mut tcp) = TcpStream::connect_timeout(&to, limit) else { return false };
    tcp.set_read_timeout(Some(limit)).is_ok() && tcp.write_all(&[7]).is_ok() && tcp.read_exact(&mut [0]).is_ok()
}
