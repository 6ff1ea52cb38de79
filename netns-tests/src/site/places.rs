//! Where everything stands: cables, addresses, names and the firewall; no sluice in it yet.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::Result;

use crate::topology::{Ns, Topology};

/// Names in the gateways' certificate.
pub const APP_HOSTS: [&str; 3] = ["login.acme.test", "files.acme.test", "feed.acme.test"];

/// An address outside the data centre; its router is one below.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outer(pub(super) Ipv4Addr);

impl Outer {
    pub(super) const fn v4(self, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(self.0), port)
    }
}

/// Gateways.
pub(super) const GATEWAYS: [Outer; 2] = [Outer(Ipv4Addr::new(203, 0, 113, 2)), Outer(Ipv4Addr::new(203, 0, 113, 34))];
/// Control.
pub(super) const CONTROL: Outer = Outer(Ipv4Addr::new(203, 0, 113, 10));
/// Outer side of the data centre's firewall.
const FIREWALL: Outer = Outer(Ipv4Addr::new(203, 0, 113, 18));
/// Users; each knows one gateway.
const USERS: [Outer; 2] = [Outer(Ipv4Addr::new(203, 0, 113, 26)), Outer(Ipv4Addr::new(203, 0, 113, 42))];

/// Namespaces.
#[derive(Debug)]
pub struct Places {
    /// The Internet.
    pub core: Ns,
    /// Control's.
    pub cloud: Ns,
    /// Between the Internet and the data centre: masquerades, lets connections out and none in. Device `eth0` is outside,
    /// bridge `br0` inside.
    pub firewall: Ns,
    /// The application, 10.31.0.20.
    pub app: Ns,
    /// A host for a web proxy, 10.30.0.30, `proxy.corp.test`.
    pub proxy: Ns,
    gateways: [Ns; 2],
    connectors: [Ns; 2],
    users: [Ns; 2],
}

impl Places {
    /// Namespace of gateway `number`.
    #[must_use]
    pub const fn gateway(&self, number: usize) -> &Ns {
        let [first, second] = &self.gateways;
        if number == 0 { first } else { second }
    }

    /// Namespace of connector `number`, 10.30.0.10 or .11 on `eth0`.
    #[must_use]
    pub const fn connector(&self, number: usize) -> &Ns {
        let [first, second] = &self.connectors;
        if number == 0 { first } else { second }
    }

    /// Namespace of the user who knows gateway `number`.
    #[must_use]
    pub const fn user(&self, number: usize) -> &Ns {
        let [first, second] = &self.users;
        if number == 0 { first } else { second }
    }

    pub(super) fn build(topology: &mut Topology) -> Result<Self> {
        let mut place = |name: &str| topology.namespace(name);
        let places = Self {
            core: place("core")?,
            cloud: place("cloud")?,
            firewall: place("fw")?,
            app: place("app")?,
            proxy: place("proxy")?,
            gateways: [place("gw0")?, place("gw1")?],
            connectors: [place("con0")?, place("con1")?],
            users: [place("user0")?, place("user1")?],
        };
        places.outside(topology)?;
        places.inside(topology)?;
        places.names()?;
        Ok(places)
    }

    fn outside(&self, topology: &Topology) -> Result<()> {
        self.core.forward()?;
        let [gateway0, gateway1] = GATEWAYS;
        let [user0, user1] = USERS;
        for (ns, device, outer) in [
            (self.gateway(0), "gw0", gateway0),
            (self.gateway(1), "gw1", gateway1),
            (&self.cloud, "cloud0", CONTROL),
            (&self.firewall, "fw0", FIREWALL),
            (self.user(0), "user0", user0),
            (self.user(1), "user1", user1),
        ] {
            topology.link((ns, "eth0"), (&self.core, device))?;
            let [a, b, c, last] = outer.0.octets();
            let router = Ipv4Addr::new(a, b, c, last - 1).to_string();
            ns.address("eth0", &format!("{}/29", outer.0))?;
            self.core.address(device, &format!("{router}/29"))?;
            ns.route("default", &router)?;
        }
        Ok(())
    }

    fn inside(&self, topology: &Topology) -> Result<()> {
        let firewall = &self.firewall;
        firewall.ip(&["link", "add", "br0", "type", "bridge"])?;
        firewall.ip(&["link", "set", "br0", "up"])?;
        firewall.address("br0", "10.30.0.1/24")?;
        firewall.forward()?;
        for (ns, port, address) in [
            (self.connector(0), "con0", "10.30.0.10/24"),
            (self.connector(1), "con1", "10.30.0.11/24"),
            (&self.app, "app0", "10.30.0.20/24"),
            (&self.proxy, "proxy0", "10.30.0.30/24"),
        ] {
            topology.link((ns, "eth0"), (firewall, port))?;
            firewall.ip(&["link", "set", port, "master", "br0"])?;
            ns.address("eth0", address)?;
            ns.route("default", "10.30.0.1")?;
        }
        // Applications have a network of their own, which no change of a connector's address towards the outside touches.
        for (ns, address) in
            [(self.connector(0), "10.31.0.10/24"), (self.connector(1), "10.31.0.11/24"), (&self.app, "10.31.0.20/24")]
        {
            ns.address("eth0", address)?;
        }
        firewall.nft(RULES)
    }

    /// Gateway names differ for each user; connectors know every gateway by a name of its own.
    fn names(&self) -> Result<()> {
        let control = "node.sluice.test console.sluice.test pages.sluice.test";
        for ns in self.gateways.iter().chain(&self.connectors).chain([&self.cloud, &self.proxy]) {
            ns.hosts(&[(CONTROL.0.into(), control)])?;
            for (number, gateway) in GATEWAYS.into_iter().enumerate() {
                ns.hosts(&[(gateway.0.into(), &format!("gw{number}.acme.test"))])?;
            }
        }
        for (user, gateway) in self.users.iter().zip(GATEWAYS) {
            user.hosts(&[(gateway.0.into(), &APP_HOSTS.join(" "))])?;
        }
        for connector in &self.connectors {
            connector.hosts(&[
                (Ipv4Addr::new(10, 31, 0, 20).into(), "files.dc.acme.test"),
                (Ipv4Addr::new(10, 30, 0, 30).into(), "proxy.corp.test"),
            ])?;
        }
        self.proxy.hosts(&[(Ipv4Addr::new(10, 30, 0, 30).into(), "proxy.corp.test")])
    }
}

/// Chain `out` is for tests to fill: what of the data centre may not leave.
const RULES: &str = "\
table inet site {
  chain input {
    type filter hook input priority filter; policy accept;
    iifname \"eth0\" ct state established,related accept
    iifname \"eth0\" drop
  }
  chain out {
  }
  chain forward {
    type filter hook forward priority filter; policy accept;
    iifname \"br0\" oifname \"eth0\" jump out
    iifname \"eth0\" ct state established,related accept
    iifname \"eth0\" drop
  }
  chain nat {
    type nat hook postrouting priority srcnat; policy accept;
    oifname \"eth0\" ip saddr 10.30.0.0/24 masquerade
  }
}
";
