//! The demo's world: seven places, their cables, addresses, names and firewall; no sluice in it yet.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::{Options, hub::Hub, peer::Echo, roles::Roles, step_line};
use crate::{
    admin::{Admin, CONTROL_PORT},
    authority::Authority,
    browser::Browser,
    probe::{Measured, Servers},
    roundup::{self, Installed, Roundup},
    topology::{Ns, Topology},
};

/// Rate of the line between branch and the rest, each way, kbit/s.
pub(super) const LINE_KBIT: u32 = 20_000;
/// Buffer in front of that line, bytes: 170 ms when full.
const LINE_BUFFER: u32 = 425_000;

/// Gateway.
pub(super) const GATEWAY: Pair = Pair(Ipv4Addr::new(203, 0, 113, 2), Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 2));
/// Control.
pub(super) const CONTROL: Pair = Pair(Ipv4Addr::new(203, 0, 113, 10), Ipv6Addr::new(0x2001, 0xdb8, 0xb, 0, 0, 0, 0, 2));
/// Outer side of the data centre's firewall.
pub(super) const FIREWALL: Pair =
    Pair(Ipv4Addr::new(203, 0, 113, 18), Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 2));
/// User's desk, and the far end of measurements.
pub(super) const USER: Pair = Pair(Ipv4Addr::new(203, 0, 113, 26), Ipv6Addr::new(0x2001, 0xdb8, 0xd, 0, 0, 0, 0, 2));
/// Connector, inside the data centre.
pub(super) const CONNECTOR: Pair =
    Pair(Ipv4Addr::new(10, 30, 0, 10), Ipv6Addr::new(0x2001, 0xdb8, 0x30, 0, 0, 0, 0, 0x10));
/// Roundup, inside the data centre.
pub(super) const ROUNDUP: Pair =
    Pair(Ipv4Addr::new(10, 30, 0, 20), Ipv6Addr::new(0x2001, 0xdb8, 0x30, 0, 0, 0, 0, 0x20));
/// Edge, on the hub LAN.
pub(super) const EDGE_LAN: Pair = Pair(Ipv4Addr::new(10, 20, 0, 1), Ipv6Addr::new(0x2001, 0xdb8, 0x20, 0, 0, 0, 0, 1));

/// Names in the gateway's certificate.
pub(super) const HOSTS: [&str; 3] = ["login.acme.test", "roundup.acme.test", "feed.acme.test"];
/// Where users open Roundup.
pub(super) const ROUNDUP_URL: &str = "https://roundup.acme.test/roundup/";

/// The two addresses of one place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair(pub(super) Ipv4Addr, pub(super) Ipv6Addr);

impl Pair {
    pub(super) fn both(self) -> [IpAddr; 2] {
        [self.0.into(), self.1.into()]
    }

    pub(super) fn v4(self, port: u16) -> SocketAddr {
        (self.0, port).into()
    }

    pub(super) fn sockets(self, port: u16) -> [SocketAddr; 2] {
        self.both().map(|address| (address, port).into())
    }
}

/// Namespaces.
#[derive(Debug)]
pub(super) struct Places {
    pub(super) hub: Ns,
    pub(super) edge: Ns,
    pub(super) wan: Ns,
    pub(super) core: Ns,
    pub(super) dmz: Ns,
    pub(super) cloud: Ns,
    pub(super) firewall: Ns,
    pub(super) connector: Ns,
    pub(super) roundup: Ns,
    pub(super) user: Ns,
}

/// Everything the steps share. Fields drop in order: programs before namespaces, folders last.
#[derive(Debug)]
pub(super) struct World {
    pub(super) roles: Roles,
    pub(super) roundup: Roundup,
    pub(super) servers: Servers,
    _echo: Echo,
    pub(super) admin: Admin,
    pub(super) hub: Hub,
    pub(super) bob: Browser,
    pub(super) carol: Browser,
    pub(super) authority: Authority,
    /// Probes on the line before any sluice ran: idle, and with bulk up and down.
    pub(super) before: [Measured; 3],
    pub(super) places: Places,
    pub(super) demo: PathBuf,
    broken: Option<u8>,
    _topology: Topology,
    folder: TempDir,
}

impl World {
    /// Builds it all; only Roundup and the measuring programs run afterwards.
    pub(super) fn build(options: &Options) -> Result<Self> {
        let mut topology = Topology::new()?;
        let places = Places::build(&mut topology).context("cannot build the demo's namespaces")?;
        let folder = roundup::work_folder()?;
        let logs = folder.path().join("logs");
        fs::create_dir_all(&logs)?;
        let installed = Installed::find()?;
        let issues = if options.broken == Some(5) { 100 } else { roundup::ISSUES };
        let tracker = folder.path().join("roundup");
        fs::create_dir_all(&tracker)?;
        let listen = roundup::listen(ROUNDUP.0.into());
        let roundup = Roundup::start(&places.roundup, &installed, &tracker, listen, ROUNDUP_URL, issues)?;
        let servers = Servers::start(&places.user, USER.0.into(), &logs)?;
        let echo = Echo::start(&options.demo, &places.user, &USER.sockets(Echo::PORT), &logs)?;
        let before = step_line::before(&places, &servers)?;
        let authority = Authority::create(&folder.path().join("authority"), &HOSTS)?;
        let browser = |name: &str| Browser::new(&places.user, &folder.path().join(name), authority.root());
        Ok(Self {
            roles: Roles::new(&options.sluice, folder.path(), options.broken)?,
            admin: Admin::new(&options.sluice, &places.cloud, folder.path(), CONTROL.v4(CONTROL_PORT)),
            hub: Hub::new(&places.hub, &folder.path().join("hub"))?,
            bob: browser("bob")?,
            carol: browser("carol")?,
            roundup,
            servers,
            _echo: echo,
            authority,
            before,
            places,
            demo: options.demo.clone(),
            broken: options.broken,
            _topology: topology,
            folder,
        })
    }

    /// Whether this step's world is to be sabotaged.
    pub(super) fn breaks(&self, step: u8) -> bool {
        self.broken == Some(step)
    }

    /// Where every program's log is.
    pub(super) fn logs(&self) -> PathBuf {
        self.folder.path().join("logs")
    }

    /// A folder of the demo's own.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where to look around.
    pub(super) fn places(&self) -> Vec<String> {
        let curl =
            format!("ip netns exec {} curl --cacert {}", self.places.user.name(), self.authority.root().display());
        vec![
            format!("Roundup behind the gateway:  {curl} {ROUNDUP_URL}"),
            format!("bob's feed:                  {curl} https://feed.acme.test/"),
            format!("logs:                        {}", self.logs().display()),
        ]
    }

    /// Ends all programs, then removes the namespaces. Keeps the logs where asked, or after a failed step.
    pub(super) fn end(mut self, keep_logs: Option<PathBuf>, failed: bool) -> Result<Option<PathBuf>> {
        let drained = if failed { Ok(()) } else { self.roles.stop() };
        let keep = failed || drained.is_err();
        let kept = self.keep_logs(keep_logs, keep)?;
        drained.map(|()| kept)
    }

    fn keep_logs(&self, wanted: Option<PathBuf>, keep: bool) -> Result<Option<PathBuf>> {
        let logs = self.logs();
        let kept = match wanted {
            Some(wanted) => wanted,
            None if keep => std::env::temp_dir().join(format!("sluice-demo-logs-{}", std::process::id())),
            None => return Ok(None),
        };
        fs::create_dir_all(&kept)?;
        for entry in fs::read_dir(&logs)? {
            let entry = entry?;
            fs::copy(entry.path(), kept.join(entry.file_name()))?;
        }
        Ok(Some(kept))
    }
}

impl Places {
    fn build(topology: &mut Topology) -> Result<Self> {
        let mut place = |name: &str| topology.namespace(name);
        let places = Self {
            hub: place("hub")?,
            edge: place("edge")?,
            wan: place("wan")?,
            core: place("core")?,
            dmz: place("dmz")?,
            cloud: place("cloud")?,
            firewall: place("dcfw")?,
            connector: place("dc")?,
            roundup: place("sor")?,
            user: place("user")?,
        };
        places.branch(topology)?;
        places.leaves(topology)?;
        places.data_centre(topology)?;
        places.names()?;
        Ok(places)
    }

    /// hub – edge – wan – core, slow between wan and either neighbour.
    fn branch(&self, topology: &Topology) -> Result<()> {
        topology.link((&self.hub, "eth0"), (&self.edge, "lan0"))?;
        topology.link((&self.edge, "wan0"), (&self.wan, "branch0"))?;
        topology.link((&self.wan, "core0"), (&self.core, "wan0"))?;
        self.edge.address("lan0", &format!("{}/24", EDGE_LAN.0))?;
        self.edge.address("lan0", &format!("{}/64", EDGE_LAN.1))?;
        for (ns, device, v4, v6) in [
            (&self.edge, "wan0", "198.51.100.2/30", "2001:db8:51::2/64"),
            (&self.wan, "branch0", "198.51.100.1/30", "2001:db8:51::1/64"),
            (&self.wan, "core0", "198.51.100.6/30", "2001:db8:52::2/64"),
            (&self.core, "wan0", "198.51.100.5/30", "2001:db8:52::1/64"),
        ] {
            ns.address(device, v4)?;
            ns.address(device, v6)?;
        }
        for ns in [&self.edge, &self.wan, &self.core] {
            ns.forward()?;
        }
        for (ns, destination, via) in [
            (&self.edge, "default", "198.51.100.1"),
            (&self.edge, "default", "2001:db8:51::1"),
            (&self.wan, "default", "198.51.100.5"),
            (&self.wan, "default", "2001:db8:52::1"),
            (&self.wan, "10.20.0.0/24", "198.51.100.2"),
            (&self.wan, "2001:db8:20::/64", "2001:db8:51::2"),
            (&self.core, "10.20.0.0/24", "198.51.100.6"),
            (&self.core, "198.51.100.0/30", "198.51.100.6"),
            (&self.core, "2001:db8:20::/64", "2001:db8:52::2"),
            (&self.core, "2001:db8:51::/64", "2001:db8:52::2"),
        ] {
            ns.route(destination, via)?;
        }
        self.wan.line("branch0", LINE_KBIT, LINE_BUFFER)?;
        self.wan.line("core0", LINE_KBIT, LINE_BUFFER)
    }

    /// DMZ, cloud, data centre and user, each on a cable of its own to the core.
    fn leaves(&self, topology: &Topology) -> Result<()> {
        for (ns, device, letter, Pair(v4, v6)) in [
            (&self.dmz, "dmz0", "a", GATEWAY),
            (&self.cloud, "cloud0", "b", CONTROL),
            (&self.firewall, "dc0", "c", FIREWALL),
            (&self.user, "user0", "d", USER),
        ] {
            topology.link((ns, "eth0"), (&self.core, device))?;
            let [a, b, c, last] = v4.octets();
            let router = Ipv4Addr::new(a, b, c, last - 1);
            let router6 = format!("2001:db8:{letter}::1");
            ns.address("eth0", &format!("{v4}/29"))?;
            ns.address("eth0", &format!("{v6}/64"))?;
            self.core.address(device, &format!("{router}/29"))?;
            self.core.address(device, &format!("{router6}/64"))?;
            ns.route("default", &router.to_string())?;
            ns.route("default", &router6)?;
        }
        Ok(())
    }

    /// Connector and Roundup on a switch behind the firewall. The core knows the way to them, so that what keeps
    /// strangers out is the firewall and nothing else.
    fn data_centre(&self, topology: &Topology) -> Result<()> {
        self.firewall.ip(&["link", "add", "br0", "type", "bridge"])?;
        self.firewall.ip(&["link", "set", "br0", "up"])?;
        self.firewall.address("br0", "10.30.0.1/24")?;
        self.firewall.address("br0", "2001:db8:30::1/64")?;
        self.firewall.forward()?;
        for (ns, port, Pair(v4, v6)) in [(&self.connector, "port1", CONNECTOR), (&self.roundup, "port2", ROUNDUP)] {
            topology.link((ns, "eth0"), (&self.firewall, port))?;
            self.firewall.ip(&["link", "set", port, "master", "br0"])?;
            ns.address("eth0", &format!("{v4}/24"))?;
            ns.address("eth0", &format!("{v6}/64"))?;
            ns.route("default", "10.30.0.1")?;
            ns.route("default", "2001:db8:30::1")?;
        }
        self.core.route("10.30.0.0/24", &FIREWALL.0.to_string())?;
        self.core.route("2001:db8:30::/64", &FIREWALL.1.to_string())?;
        self.firewall.nft(FIREWALL_RULES)
    }

    /// Who finds whom by which name. Hubs get none: they ask the edge.
    fn names(&self) -> Result<()> {
        let gateway = "login.acme.test roundup.acme.test feed.acme.test gw.acme.test est.acme.test";
        let control = "node.sluice.test console.sluice.test pages.sluice.test";
        for ns in [&self.edge, &self.dmz, &self.cloud, &self.connector, &self.user] {
            ns.hosts(&[
                (GATEWAY.0.into(), gateway),
                (GATEWAY.1.into(), gateway),
                (CONTROL.0.into(), control),
                (CONTROL.1.into(), control),
            ])?;
        }
        self.connector.hosts(&[(ROUNDUP.0.into(), "roundup.dc.acme.test")])
    }
}

/// Outbound connections and their answers pass, everything else from outside is dropped and counted.
/// Neighbour discovery is the cable's own business: without it IPv6 has no outbound connections either.
const FIREWALL_RULES: &str = "\
table inet demo {
  counter refused { }
  chain input {
    type filter hook input priority filter; policy accept;
    iifname \"eth0\" icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert } accept
    iifname \"eth0\" ct state established,related accept
    iifname \"eth0\" counter name refused drop
  }
  chain forward {
    type filter hook forward priority filter; policy accept;
    iifname \"eth0\" ct state established,related accept
    iifname \"eth0\" counter name refused drop
  }
  chain nat {
    type nat hook postrouting priority srcnat; policy accept;
    oifname \"eth0\" ip saddr 10.30.0.0/24 masquerade
  }
}
";
