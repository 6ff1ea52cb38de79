//! The answering side of RFC 2131 §4.3.

use std::net::{Ipv4Addr, SocketAddrV4};

use sluice_node_identity::UnixTime;

use super::{
    Ended, Kind, Lease, Malformed, Request, Scope,
    lease::Leases,
    packet::{Writer, code},
};
use crate::{EdgeDocument, Mac};

/// Where clients listen.
const CLIENT_PORT: u16 = 68;

/// One LAN's DHCP server.
#[derive(Debug)]
pub struct Server {
    scope: Scope,
    leases: Leases,
}

/// What to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// UDP payload.
    pub bytes: Vec<u8>,
    /// Where to: the client's own address, or everybody on the LAN.
    pub to: SocketAddrV4,
}

/// Who asked, for logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The device.
    pub mac: Mac,
    /// Name of its hub class; none when not recognised.
    pub class: Option<String>,
    /// The address bound by this packet.
    pub bound: Option<Ipv4Addr>,
}

/// What one packet led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// At most one answer.
    pub reply: Option<Reply>,
    /// Leases that are over, by this packet or by time.
    pub ended: Vec<Ended>,
    /// The packet's sender; none when the packet was malformed.
    pub seen: Result<Seen, Malformed>,
}

impl Server {
    /// A server with no leases.
    #[must_use]
    pub fn new(scope: Scope) -> Self {
        Self { scope, leases: Leases::default() }
    }

    /// Takes one UDP payload from the LAN. `document` says who is a hub and what hubs are told.
    pub fn handle(&mut self, packet: &[u8], document: Option<&EdgeDocument>, now: UnixTime) -> Outcome {
        let mut ended = self.leases.sweep(now);
        let request = match Request::read(packet) {
            Ok(request) => request,
            Err(fault) => return Outcome { reply: None, ended, seen: Err(fault) },
        };
        let class = document.and_then(|document| document.class_of(&request.vendor_class));
        let mut seen = Seen { mac: request.mac, class: class.map(|class| class.name.clone()), bound: None };
        let url = class.and(document).map(|document| document.service.discovery_url.as_str());
        let reply = if self.leases.may_answer(request.mac, now) {
            self.answer(&request, url, now, &mut seen.bound, &mut ended)
        } else {
            None
        };
        Outcome { reply, ended, seen: Ok(seen) }
    }

    /// Ends leases whose time is over; to be called every few seconds.
    pub fn expire(&mut self, now: UnixTime) -> Vec<Ended> {
        self.leases.sweep(now)
    }

    /// The lease in force on `address`.
    #[must_use]
    pub fn lease(&self, address: Ipv4Addr, now: UnixTime) -> Option<Lease> {
        self.leases.lease(address, now)
    }

    /// The address `mac` has a lease in force on.
    #[must_use]
    pub fn address_of(&self, mac: Mac, now: UnixTime) -> Option<Ipv4Addr> {
        self.leases.address_of(mac).filter(|address| self.lease(*address, now).is_some())
    }

    /// All leases in force, by address.
    pub fn leases(&self, now: UnixTime) -> impl Iterator<Item = (Ipv4Addr, Lease)> {
        self.leases.live(now)
    }

    fn answer(
        &mut self,
        request: &Request,
        url: Option<&str>,
        now: UnixTime,
        bound: &mut Option<Ipv4Addr>,
        ended: &mut Vec<Ended>,
    ) -> Option<Reply> {
        let has_address = !request.ciaddr.is_unspecified();
        match request.kind {
            Kind::Discover => {
                let address = self.leases.offer(&self.scope, request.mac, request.requested, now)?;
                Some(self.grant(Kind::Offer, request, address, url))
            }
            Kind::Request => {
                if request.server.is_some_and(|server| server != self.scope.server) {
                    self.leases.withdraw(request.mac);
                    return None;
                }
                // Selecting and init-reboot name the address in option 50, renewing and rebinding in ciaddr.
                let address = if has_address { request.ciaddr } else { request.requested? };
                if !self.leases.bind(&self.scope, request.mac, address, now) {
                    return Some(self.refuse(request));
                }
                *bound = Some(address);
                Some(self.grant(Kind::Ack, request, address, url))
            }
            Kind::Decline => {
                ended.extend(self.leases.decline(request.mac, request.requested?, now));
                None
            }
            Kind::Release => {
                ended.extend(self.leases.release(request.mac, request.ciaddr, now));
                None
            }
            Kind::Inform if has_address && self.scope.network.contains(request.ciaddr) => {
                let mut writer = Writer::new(Kind::Ack, request, Ipv4Addr::UNSPECIFIED, self.scope.server);
                self.describe(&mut writer, request, url);
                Some(Reply { bytes: writer.finish(), to: SocketAddrV4::new(request.ciaddr, CLIENT_PORT) })
            }
            Kind::Inform | Kind::Offer | Kind::Ack | Kind::Nak => None,
        }
    }

    fn grant(&self, kind: Kind, request: &Request, address: Ipv4Addr, url: Option<&str>) -> Reply {
        let seconds = self.scope.lease_seconds;
        let mut writer = Writer::new(kind, request, address, self.scope.server);
        writer.option(code::LEASE, &seconds.to_be_bytes());
        writer.option(code::T1, &(seconds / 2).to_be_bytes());
        writer.option(code::T2, &(seconds / 8 * 7).to_be_bytes());
        self.describe(&mut writer, request, url);
        let renews = request.kind == Kind::Request && !request.ciaddr.is_unspecified();
        // A client without an address may be deaf to unicast (RFC 2131 §4.1), and to be sent any it would need
        // an ARP entry nobody answers for; everybody on the LAN hears a broadcast.
        let to = if renews { address } else { Ipv4Addr::BROADCAST };
        Reply { bytes: writer.finish(), to: SocketAddrV4::new(to, CLIENT_PORT) }
    }

    fn refuse(&self, request: &Request) -> Reply {
        let bytes = Writer::new(Kind::Nak, request, Ipv4Addr::UNSPECIFIED, self.scope.server).finish();
        Reply { bytes, to: SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT_PORT) }
    }

    /// The LAN, and for a recognised hub (`url`) where to enrol, as far as it asked.
    fn describe(&self, writer: &mut Writer, request: &Request, url: Option<&str>) {
        let scope = &self.scope;
        writer.option(code::MASK, &scope.network.mask().octets());
        writer.option(code::ROUTER, &scope.server.octets());
        writer.option(code::DNS, &scope.server.octets());
        if let Some(domain) = &scope.domain {
            writer.option(code::DOMAIN, domain.as_bytes());
        }
        if !scope.ntp.is_empty() {
            let servers: Vec<u8> = scope.ntp.iter().flat_map(Ipv4Addr::octets).collect();
            writer.option(code::NTP, &servers);
        }
        let Some(url) = url else { return };
        let Ok(length) = u8::try_from(url.len()) else { return };
        if request.wants(code::VENDOR) || request.wanted.is_empty() {
            writer.option(code::VENDOR, &[&[1, length], url.as_bytes()].concat());
        }
        if request.wants(code::SZTP) {
            writer.option(code::SZTP, &[&u16::from(length).to_be_bytes(), url.as_bytes()].concat());
        }
        if request.wants(code::CAPTIVE) {
            writer.option(code::CAPTIVE, url.as_bytes());
        }
    }
}

#[cfg(test)]
impl Server {
    /// What must hold after every step.
    pub(super) fn check(&self) {
        self.leases.check(&self.scope);
    }
}
