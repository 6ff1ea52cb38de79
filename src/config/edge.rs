//! The edge's local file: what the box is plugged into. What hubs are told and which traffic is favoured comes from
//! control.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use ipnetwork::{IpNetwork, Ipv4Network};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sluice_discovery_agent::Lan;
use sluice_discovery_rules::dhcp::Scope;
use sluice_qos_plan::{LanPort, Links, WanPort};

use super::{NodeSection, node};

/// Configuration of `sluice edge`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EdgeConfig {
    /// Directory for the edge's identity, key and last good document. Made with mode 0700 when missing.
    pub(crate) state_dir: PathBuf,
    /// Operating-system account that the side which talks to the network becomes; `state_dir` is given to it.
    #[serde(default = "node::default_user")]
    pub(crate) user: String,
    /// How to reach control.
    #[serde(default)]
    pub(crate) control: NodeSection,
    /// Where the hubs are.
    pub(crate) lan: LanSection,
    /// The line to the world.
    pub(crate) wan: WanSection,
}

/// The `[lan]` table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LanSection {
    /// Interface the hubs are behind.
    interface: String,
    /// The edge's own addresses there with their prefix, e.g. `10.20.0.1/24` and `2001:db8:20::1/64`. They must be
    /// configured on the interface. At most one IPv4 and one IPv6 address; IPv6 is announced to hubs.
    #[schemars(with = "Vec<String>")]
    prefixes: Vec<IpNetwork>,
    /// First address that DHCP leases; without it and `pool_last` the edge gives no leases and admits nobody by IPv4.
    pool_first: Option<Ipv4Addr>,
    /// Last address that DHCP leases.
    pool_last: Option<Ipv4Addr>,
    /// How long a lease lasts, in seconds.
    #[serde(default = "default_lease_seconds")]
    lease_seconds: u32,
    /// Domain that hubs are told (DHCP option 15), and under which the edge's DNS has its hints.
    domain: Option<String>,
    /// Time servers that hubs are told (DHCP option 42) and may ask also in staging.
    #[serde(default)]
    ntp: Vec<Ipv4Addr>,
    /// Resolver (`ip:port`) for the questions of admitted hubs; without it the edge answers its own names only.
    resolver: Option<SocketAddr>,
}

/// The `[wan]` table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WanSection {
    /// Interface of the line.
    interface: String,
    /// Line rate towards the world, kbit/s, counted in Ethernet frames.
    up_kbit: u32,
    /// Line rate from the world, kbit/s; not shaped when absent.
    down_kbit: Option<u32>,
}

impl EdgeConfig {
    /// What the kernel writer needs to know, and what the wire side does.
    ///
    /// # Errors
    /// What is wrong with which key.
    pub(crate) fn parts(&self) -> Result<(Links, Lan), String> {
        Ok((self.links()?, self.lan.agent()?))
    }

    /// Where hubs in staging may ask for the time.
    pub(crate) fn time_servers(&self) -> Vec<Ipv4Addr> {
        self.lan.ntp.clone()
    }

    fn links(&self) -> Result<Links, String> {
        let (lan, wan) = (&self.lan, &self.wan);
        let rates = [Some(wan.up_kbit), wan.down_kbit];
        if rates.iter().flatten().any(|rate| !RATES_KBIT.contains(rate)) {
            let (first, last) = (RATES_KBIT.start(), RATES_KBIT.end());
            return Err(format!("wan.up_kbit and wan.down_kbit go from {first} to {last}"));
        }
        if lan.interface == wan.interface {
            return Err("lan.interface and wan.interface must be two interfaces".to_owned());
        }
        let mut udp_services = vec![DNS, DHCP];
        if lan.ntp.iter().any(|server| lan.prefixes.iter().any(|own| own.ip() == *server)) {
            udp_services.push(NTP);
        }
        Ok(Links {
            lan: LanPort {
                interface: lan.interface.parse().map_err(|error| format!("lan.interface: {error}"))?,
                tcp_services: vec![DNS, HTTP, HTTPS],
                udp_services,
            },
            wan: WanPort {
                interface: wan.interface.parse().map_err(|error| format!("wan.interface: {error}"))?,
                up_kbit: wan.up_kbit,
                down_kbit: wan.down_kbit,
            },
        })
    }
}

impl LanSection {
    fn agent(&self) -> Result<Lan, String> {
        let count = |is_kind: fn(&IpNetwork) -> bool| self.prefixes.iter().filter(|network| is_kind(network)).count();
        if self.prefixes.is_empty() || count(IpNetwork::is_ipv4) > 1 || count(IpNetwork::is_ipv6) > 1 {
            return Err("lan.prefixes names one IPv4 address, one IPv6 address, or one of each".to_owned());
        }
        for network in &self.prefixes {
            if let IpNetwork::V6(network) = network
                && network.prefix() != 64
            {
                return Err(format!("lan.prefixes: {network} must be a /64, hubs make their addresses from it"));
            }
            if network.ip() == network.network() || network.ip().is_unspecified() {
                return Err(format!("lan.prefixes: {network} must be the edge's own address with its prefix"));
            }
        }
        if let Some(resolver) = self.resolver.filter(|resolver| self.is_own(resolver.ip())) {
            return Err(format!("lan.resolver: {resolver} is the edge itself"));
        }
        Ok(Lan {
            interface: self.interface.clone(),
            addresses: self.prefixes.clone(),
            scope: self.scope()?,
            domain: self.domain.clone(),
            resolver: self.resolver,
        })
    }

    fn is_own(&self, address: IpAddr) -> bool {
        address.is_loopback() || self.prefixes.iter().any(|own| own.ip() == address)
    }

    fn scope(&self) -> Result<Option<Scope>, String> {
        let (first, last) = match (self.pool_first, self.pool_last) {
            (Some(first), Some(last)) => (first, last),
            (None, None) => return Ok(None),
            _ => return Err("lan.pool_first and lan.pool_last come together".to_owned()),
        };
        let v4: Option<Ipv4Network> = self.prefixes.iter().find_map(|network| match network {
            IpNetwork::V4(network) => Some(*network),
            IpNetwork::V6(_) => None,
        });
        let lan = v4.ok_or("lan.pool_first needs an IPv4 address in lan.prefixes")?;
        let scope = Scope::new(lan, first, last, self.lease_seconds)
            .and_then(|scope| scope.with_extras(self.ntp.clone(), self.domain.clone()));
        scope.map(Some).map_err(|error| format!("lan: {error}"))
    }
}

const fn default_lease_seconds() -> u32 {
    3600
}

/// Slowest and fastest line.
const RATES_KBIT: std::ops::RangeInclusive<u32> = 100..=100_000_000;
const DNS: u16 = 53;
const DHCP: u16 = 67;
const HTTP: u16 = 80;
const NTP: u16 = 123;
const HTTPS: u16 = 443;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const GOOD: &str = "state_dir = '/s'\n\
        [lan]\ninterface = 'lan0'\nprefixes = ['10.20.0.1/24', '2001:db8:20::1/64']\n\
        pool_first = '10.20.0.50'\npool_last = '10.20.0.99'\n\
        [wan]\ninterface = 'wan0'\nup_kbit = 20000\n";

    fn parts(text: &str) -> Result<(Links, Lan), String> {
        toml::from_str::<EdgeConfig>(text).unwrap().parts()
    }

    #[test]
    fn a_good_file_says_what_both_sides_need() {
        let (links, lan) = parts(GOOD).unwrap();
        assert_eq!(links.lan.tcp_services, [53, 80, 443]);
        assert_eq!(links.lan.udp_services, [53, 67]);
        assert_eq!(lan.scope.unwrap().size(), 50);
        let with_time = GOOD.replace("[wan]", "ntp = ['10.20.0.1']\n[wan]");
        assert_eq!(parts(&with_time).unwrap().0.lan.udp_services, [53, 67, 123]);
    }

    #[test]
    fn each_fault_is_named() {
        for (from, to, key) in [
            ("'wan0'", "'lan0'", "wan.interface"),
            ("'lan0'", "'lan 0'", "lan.interface"),
            ("20000", "0", "wan.up_kbit"),
            ("/64'", "/56'", "/64"),
            ("10.20.0.1/24", "10.20.0.0/24", "own address"),
            ("'10.20.0.1/24'", "'10.20.0.1/24', '10.21.0.1/24'", "lan.prefixes"),
            ("'10.20.0.1/24', ", "", "lan.pool_first"),
            ("pool_last = '10.20.0.99'\n", "", "lan.pool_last"),
            ("10.20.0.99", "10.20.1.99", "pool"),
            ("[wan]", "resolver = '10.20.0.1:53'\n[wan]", "lan.resolver"),
            ("[wan]", "lease_seconds = 1\n[wan]", "lease_seconds"),
        ] {
            assert!(GOOD.contains(from));
            let error = parts(&GOOD.replace(from, to)).unwrap_err();
            assert!(error.contains(key), "{error} should name {key}");
        }
    }
}
