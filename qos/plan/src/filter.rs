//! Staging as nftables text: default deny on the hub LAN, one verdict per packet.
//!
//! The admitted sets are looked up for every packet, before anything like "established accept": taking a device out
//! of them cuts its running flows.

use std::{fmt::Write, net::IpAddr};

use serde::{Deserialize, Serialize};

use crate::{Links, Mac, TrafficClass, Transport, tree::class_id};

/// A place that devices in staging may reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pinhole {
    /// Transport.
    pub transport: Transport,
    /// Exact address.
    pub address: IpAddr,
    /// Exact port.
    pub port: u16,
}

impl Pinhole {
    /// How many pinholes there may be: a document's 256 and sixteen time servers.
    pub const MAX: usize = 272;
}

/// How many (MAC, address) pairs may be admitted at a time, per address family.
const ADMITTED_MAX: u32 = 65_536;

/// How long the kernel keeps an admission that is not repeated, seconds: should both processes of the edge be killed,
/// nobody stays admitted for ever. Every check-in repeats it.
pub const ADMITTED_SECONDS: u32 = 2_400;

/// The whole table, fresh: nobody admitted, no pinholes, everything in class `default`. Replaces an older one whole.
#[must_use]
pub fn base(links: &Links) -> String {
    let lan = &links.lan.interface;
    let wan = &links.wan.interface;
    let tcp = ports(&links.lan.tcp_services);
    let udp = ports(&links.lan.udp_services);
    let shaped_lan = links.wan.down_kbit.map(|_| priority_rule(lan.as_str())).unwrap_or_default();
    let shaped_wan = priority_rule(wan.as_str());
    format!(
        r#"table inet sluice
delete table inet sluice
table inet sluice {{
  set admitted4 {{
    type ether_addr . ipv4_addr
    size {ADMITTED_MAX}
    flags timeout
    timeout {ADMITTED_SECONDS}s
  }}
  set admitted6 {{
    type ether_addr . ipv6_addr
    size {ADMITTED_MAX}
    flags timeout
    timeout {ADMITTED_SECONDS}s
  }}
  set admitted4_back {{
    type ipv4_addr
    size {ADMITTED_MAX}
    flags timeout
    timeout {ADMITTED_SECONDS}s
  }}
  set admitted6_back {{
    type ipv6_addr
    size {ADMITTED_MAX}
    flags timeout
    timeout {ADMITTED_SECONDS}s
  }}
  set pinhole4 {{
    type ipv4_addr . inet_proto . inet_service
  }}
  set pinhole6 {{
    type ipv6_addr . inet_proto . inet_service
  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    iifname "{lan}" jump from_lan
    oifname "{lan}" jump to_lan
  }}
  chain from_lan {{
    ether saddr . ip saddr @admitted4 accept
    ether saddr . ip6 saddr @admitted6 accept
    ip daddr . meta l4proto . th dport @pinhole4 accept
    ip6 daddr . meta l4proto . th dport @pinhole6 accept
    counter reject with icmpx type admin-prohibited
  }}
  chain to_lan {{
    ct state established,related ip daddr @admitted4_back accept
    ct state established,related ip6 daddr @admitted6_back accept
    ct state established,related ip saddr . meta l4proto . th sport @pinhole4 accept
    ct state established,related ip6 saddr . meta l4proto . th sport @pinhole6 accept
    counter drop
  }}
  chain input {{
    type filter hook input priority filter; policy accept;
    iifname "{lan}" jump to_edge
  }}
  chain to_edge {{
    ct state established,related accept
    {udp_rule}
    {tcp_rule}
    meta l4proto {{ 1, 58 }} accept comment "icmp, icmpv6: names need /etc/protocols, which a bare system lacks"
    counter drop
  }}
  chain mark_flow {{
    type filter hook forward priority mangle; policy accept;
    jump classify
  }}
  chain mark_own {{
    type filter hook output priority mangle; policy accept;
    jump classify
  }}
  chain classify {{
  }}
  chain prioritise {{
    type filter hook postrouting priority mangle; policy accept;
{shaped_wan}{shaped_lan}  }}
}}
"#,
        udp_rule = service_rule("udp", &udp),
        tcp_rule = service_rule("tcp", &tcp),
    )
}

/// Lets `mac` pass with `address` for [`ADMITTED_SECONDS`] from now. Only a new element has the whole time again, and
/// nft refuses to delete what is not there: so it is added, deleted and added. To packets this is one change.
#[must_use]
pub fn admit(mac: Mac, address: IpAddr) -> String {
    [present(mac, address), absent(mac, address), present(mac, address)].concat()
}

/// Stops `mac` with `address`. Adding before deleting makes it idempotent.
#[must_use]
pub fn restage(mac: Mac, address: IpAddr) -> String {
    [present(mac, address), absent(mac, address)].concat()
}

fn present(mac: Mac, address: IpAddr) -> String {
    let (set, back) = sets(address);
    format!("add element inet sluice {set} {{ {mac} . {address} }}\nadd element inet sluice {back} {{ {address} }}\n")
}

fn absent(mac: Mac, address: IpAddr) -> String {
    present(mac, address).replace("add element", "delete element")
}

/// Stops everybody.
#[must_use]
pub fn restage_all() -> String {
    ["admitted4", "admitted6", "admitted4_back", "admitted6_back"]
        .iter()
        .map(|set| format!("flush set inet sluice {set}\n"))
        .collect()
}

/// Replaces the list of places devices in staging may reach.
#[must_use]
pub fn pinholes(pinholes: &[Pinhole]) -> String {
    let mut script = "flush set inet sluice pinhole4\nflush set inet sluice pinhole6\n".to_owned();
    for Pinhole { transport, address, port } in pinholes {
        let set = if address.is_ipv4() { "pinhole4" } else { "pinhole6" };
        let protocol = transport.as_str();
        let _infallible = writeln!(script, "add element inet sluice {set} {{ {address} . {protocol} . {port} }}");
    }
    script
}

const fn sets(address: IpAddr) -> (&'static str, &'static str) {
    match address {
        IpAddr::V4(_) => ("admitted4", "admitted4_back"),
        IpAddr::V6(_) => ("admitted6", "admitted6_back"),
    }
}

fn ports(ports: &[u16]) -> String {
    ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn service_rule(protocol: &str, ports: &str) -> String {
    if ports.is_empty() { String::new() } else { format!("{protocol} dport {{ {ports} }} accept") }
}

/// HTB takes the class straight from the packet's priority, so no tc filter is needed.
fn priority_rule(interface: &str) -> String {
    let map: Vec<String> =
        TrafficClass::ALL.iter().map(|class| format!("{} : {}", class.mark(), class_id(*class))).collect();
    let default = class_id(TrafficClass::Default);
    format!(
        "    oifname \"{interface}\" meta priority set {default}\n    oifname \"{interface}\" meta priority set ct mark and 0xff map {{ {} }}\n",
        map.join(", ")
    )
}
