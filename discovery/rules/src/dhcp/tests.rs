//! DHCP dialogues, read back by an independent implementation of the format.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::net::Ipv4Addr;

use dhcproto::{
    Decodable, Decoder, Encodable, Encoder,
    v4::{self, DhcpOption as Opt, MessageType, OptionCode},
};
use proptest::prelude::*;
use sluice_node_identity::UnixTime;

use super::*;
use crate::{EdgeDocument, Mac, document::sample};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const NOW: UnixTime = UnixTime(1_800_000_000);

pub(super) fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, last)
}

pub(super) fn mac(last: u8) -> Mac {
    Mac::new([2, 0, 0, 0, 0, last]).unwrap()
}

pub(super) fn scope(first: u8, last: u8) -> Scope {
    Scope::new("10.77.0.1/24".parse().unwrap(), ip(first), ip(last), 600).unwrap()
}

pub(super) fn packet(from: Mac, kind: MessageType, ciaddr: Option<Ipv4Addr>, options: Vec<Opt>) -> Vec<u8> {
    let none = Ipv4Addr::UNSPECIFIED;
    let mut message = v4::Message::new_with_id(7, ciaddr.unwrap_or(none), none, none, none, &from.bytes());
    message.opts_mut().insert(Opt::MessageType(kind));
    for option in options {
        message.opts_mut().insert(option);
    }
    let mut bytes = Vec::new();
    message.encode(&mut Encoder::new(&mut bytes)).unwrap();
    bytes
}

fn decode(reply: &Reply) -> v4::Message {
    v4::Message::decode(&mut Decoder::new(&reply.bytes)).unwrap()
}

fn ask(server: &mut Server, packet: &[u8], document: &EdgeDocument, now: UnixTime) -> Option<v4::Message> {
    server.handle(packet, Some(document), now).reply.as_ref().map(decode)
}

fn wanting(codes: &[u8]) -> Opt {
    Opt::ParameterRequestList(codes.iter().map(|code| OptionCode::from(*code)).collect())
}

/// Discover, request; the address.
fn lease(server: &mut Server, from: Mac, now: UnixTime) -> Ipv4Addr {
    let document = sample();
    let offer = ask(server, &packet(from, MessageType::Discover, None, vec![]), &document, now).unwrap();
    assert_eq!(offer.opts().msg_type(), Some(MessageType::Offer));
    let options = vec![Opt::RequestedIpAddress(offer.yiaddr()), Opt::ServerIdentifier(SERVER)];
    let ack = ask(server, &packet(from, MessageType::Request, None, options), &document, now).unwrap();
    assert_eq!(ack.opts().msg_type(), Some(MessageType::Ack));
    assert_eq!(ack.yiaddr(), offer.yiaddr());
    ack.yiaddr()
}

#[test]
fn e2_a_recognised_hub_is_told_where_to_enrol_and_others_are_not() {
    let scope = scope(50, 99).with_extras(vec![ip(1)], Some("acme.test".into())).unwrap();
    let mut server = Server::new(scope);
    let document = sample();
    for (class, is_hub) in [(&b"SluiceHub:m7"[..], true), (b"MSFT 5.0", false)] {
        let options = vec![Opt::ClassIdentifier(class.to_vec()), wanting(&[1, 3, 6, 15, 42, 43, 114, 143])];
        let from = mac(u8::from(is_hub));
        let outcome = server.handle(&packet(from, MessageType::Discover, None, options), Some(&document), NOW);
        assert_eq!(outcome.seen.unwrap().class.is_some(), is_hub);
        let reply = outcome.reply.unwrap();
        assert!(reply.bytes.len() >= 300);
        assert_eq!(reply.to.to_string(), "255.255.255.255:68");
        let offer = decode(&reply);
        let option = |code: OptionCode| offer.opts().get(code).cloned();
        assert_eq!(option(OptionCode::SubnetMask), Some(Opt::SubnetMask(Ipv4Addr::new(255, 255, 255, 0))));
        assert_eq!(option(OptionCode::Router), Some(Opt::Router(vec![SERVER])));
        assert_eq!(option(OptionCode::DomainNameServer), Some(Opt::DomainNameServer(vec![SERVER])));
        assert_eq!(option(OptionCode::DomainName), Some(Opt::DomainName("acme.test".into())));
        assert_eq!(option(OptionCode::NtpServers), Some(Opt::NtpServers(vec![SERVER])));
        assert_eq!(option(OptionCode::AddressLeaseTime), Some(Opt::AddressLeaseTime(600)));
        assert_eq!(option(OptionCode::ServerIdentifier), Some(Opt::ServerIdentifier(SERVER)));
        let url = b"https://est.acme.test";
        let vendor = [&[1, 21][..], url].concat();
        let sztp = [&[0, 21][..], url].concat();
        assert_eq!(option(OptionCode::VendorExtensions), is_hub.then_some(Opt::VendorExtensions(vendor)));
        assert_eq!(
            option(OptionCode::CaptivePortal),
            is_hub.then(|| Opt::CaptivePortal("https://est.acme.test".into()))
        );
        let told = option(OptionCode::Unknown(143));
        assert_eq!(told, is_hub.then(|| Opt::Unknown(v4::UnknownOption::new(OptionCode::Unknown(143), sztp))));
    }
}

#[test]
fn without_a_document_nobody_is_a_hub() {
    let mut server = Server::new(scope(50, 99));
    let options = vec![Opt::ClassIdentifier(b"SluiceHub:m7".to_vec()), wanting(&[43])];
    let outcome = server.handle(&packet(mac(1), MessageType::Discover, None, options), None, NOW);
    assert_eq!(decode(&outcome.reply.unwrap()).opts().get(OptionCode::VendorExtensions), None);
}

#[test]
fn an_address_stays_with_its_device_through_release_expiry_and_restart() {
    let mut server = Server::new(scope(50, 99));
    let first = lease(&mut server, mac(1), NOW);
    let release = packet(mac(1), MessageType::Release, Some(first), vec![Opt::ServerIdentifier(SERVER)]);
    let outcome = server.handle(&release, None, NOW.plus(1));
    assert_eq!(outcome.ended, [Ended { mac: mac(1), address: first }]);
    assert_eq!(outcome.reply, None);
    assert_eq!(lease(&mut server, mac(1), NOW.plus(2)), first);
    assert_eq!(server.expire(NOW.plus(601)), []);
    assert_eq!(server.expire(NOW.plus(602)), [Ended { mac: mac(1), address: first }]);
    assert_eq!(lease(&mut server, mac(1), NOW.plus(10_000)), first);
    let mut restarted = Server::new(scope(50, 99));
    let renew = packet(mac(1), MessageType::Request, Some(first), vec![]);
    let outcome = restarted.handle(&renew, None, NOW.plus(10_001));
    assert_eq!(outcome.reply.as_ref().map(|reply| *reply.to.ip()), Some(first));
    assert_eq!(restarted.lease(first, NOW.plus(10_001)).unwrap().mac, mac(1));
}

#[test]
fn another_devices_address_is_refused_and_cannot_be_released() {
    let mut server = Server::new(scope(50, 99));
    let held = lease(&mut server, mac(1), NOW);
    for (ciaddr, options) in [(Some(held), vec![]), (None, vec![Opt::RequestedIpAddress(held)])] {
        let nak = ask(&mut server, &packet(mac(2), MessageType::Request, ciaddr, options), &sample(), NOW).unwrap();
        assert_eq!(nak.opts().msg_type(), Some(MessageType::Nak));
        assert_eq!(nak.yiaddr(), Ipv4Addr::UNSPECIFIED);
    }
    let outcome = server.handle(&packet(mac(2), MessageType::Release, Some(held), vec![]), None, NOW);
    assert_eq!(outcome.ended, []);
    assert_eq!(server.lease(held, NOW).unwrap().mac, mac(1));
}

#[test]
fn addresses_outside_the_pool_are_refused() {
    let mut server = Server::new(scope(50, 99));
    for address in [ip(0), ip(1), ip(49), ip(100), ip(255), Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::LOCALHOST] {
        let renew = packet(mac(1), MessageType::Request, Some(address), vec![]);
        let reply = server.handle(&renew, None, NOW).reply.unwrap();
        assert_eq!(decode(&reply).opts().msg_type(), Some(MessageType::Nak), "{address}");
        assert_eq!(*reply.to.ip(), Ipv4Addr::BROADCAST);
    }
}

#[test]
fn a_full_pool_offers_nothing_until_a_lease_ends() {
    let mut server = Server::new(scope(50, 51));
    lease(&mut server, mac(1), NOW);
    lease(&mut server, mac(2), NOW.plus(5));
    let discover = packet(mac(3), MessageType::Discover, None, vec![]);
    assert_eq!(server.handle(&discover, None, NOW.plus(10)).reply, None);
    assert!(server.handle(&discover, None, NOW.plus(600)).reply.is_some());
    assert_eq!(server.handle(&packet(mac(4), MessageType::Discover, None, vec![]), None, NOW.plus(601)).reply, None);
}

#[test]
fn a_declined_address_rests_and_one_device_cannot_decline_the_pool_away() {
    let mut server = Server::new(scope(50, 59));
    let mut declined = Vec::new();
    for round in 0..5 {
        let address = lease(&mut server, mac(1), NOW.plus(round));
        declined.push(address);
        server.handle(
            &packet(mac(1), MessageType::Decline, None, vec![Opt::RequestedIpAddress(address)]),
            None,
            NOW.plus(round),
        );
    }
    declined.dedup();
    assert_eq!(declined.len(), 3, "two rest, the third decline is ignored");
    assert_eq!(server.leases(NOW.plus(5)).count(), 1);
}

#[test]
fn one_device_gets_its_share_of_answers_and_others_theirs() {
    let mut server = Server::new(scope(50, 99));
    lease(&mut server, mac(1), NOW);
    let discover = packet(mac(1), MessageType::Discover, None, vec![]);
    let answered = (0..100).filter(|_| server.handle(&discover, None, NOW).reply.is_some()).count();
    assert!((10..=20).contains(&answered), "{answered}");
    assert!(server.handle(&packet(mac(2), MessageType::Discover, None, vec![]), None, NOW).reply.is_some());
    assert!(server.handle(&discover, None, NOW.plus(10)).reply.is_some());
}

#[test]
fn inform_is_told_everything_but_an_address() {
    let mut server = Server::new(scope(50, 99));
    let options = vec![Opt::ClassIdentifier(b"SluiceHub".to_vec()), wanting(&[43])];
    let outcome = server.handle(&packet(mac(1), MessageType::Inform, Some(ip(9)), options), Some(&sample()), NOW);
    let reply = outcome.reply.unwrap();
    assert_eq!(*reply.to.ip(), ip(9));
    let ack = decode(&reply);
    assert_eq!((ack.yiaddr(), ack.ciaddr()), (Ipv4Addr::UNSPECIFIED, ip(9)));
    assert!(ack.opts().contains(OptionCode::VendorExtensions));
    assert!(!ack.opts().contains(OptionCode::AddressLeaseTime));
    assert_eq!(server.leases(NOW).count(), 0);
    let foreign = packet(mac(1), MessageType::Inform, Some(Ipv4Addr::new(192, 0, 2, 9)), vec![]);
    assert_eq!(server.handle(&foreign, Some(&sample()), NOW).reply, None, "no reflector");
}

#[test]
fn a_scope_that_could_not_be_served_is_refused() {
    let make = |first, last, seconds| Scope::new("10.77.0.1/24".parse().unwrap(), first, last, seconds);
    assert_eq!(make(ip(9), ip(8), 600), Err(ScopeError::Range));
    assert_eq!(make(ip(9), Ipv4Addr::new(10, 77, 1, 8), 600), Err(ScopeError::Range));
    assert_eq!(make(ip(1), ip(9), 600), Err(ScopeError::Reserved));
    assert_eq!(make(ip(2), ip(255), 600), Err(ScopeError::Reserved));
    assert_eq!(make(ip(2), ip(9), 1), Err(ScopeError::Lease));
    let wide = Scope::new("10.0.0.1/8".parse().unwrap(), "10.1.0.0".parse().unwrap(), "10.2.0.0".parse().unwrap(), 600);
    assert_eq!(wide, Err(ScopeError::Size));
}

#[test]
fn broken_packets_get_no_answer() {
    let good = packet(mac(1), MessageType::Discover, None, vec![]);
    type Spoil = fn(&mut Vec<u8>);
    let cases: [(&str, Spoil, Malformed); 8] = [
        ("reply", |p| p[0] = 2, Malformed::Header),
        ("long hardware address", |p| p[2] = 255, Malformed::Header),
        ("relayed", |p| p[24] = 10, Malformed::Relayed),
        ("group address", |p| p[28] = 1, Malformed::Header),
        ("no cookie", |p| p[236] = 0, Malformed::Header),
        ("server's type", |p| p[242] = 5, Malformed::Kind),
        ("option over the end", |p| p[241] = 200, Malformed::Option(53)),
        ("too long", |p| p.resize(MAX_PACKET + 1, 0), Malformed::Length),
    ];
    for (what, spoil, fault) in cases {
        let mut server = Server::new(scope(50, 99));
        let mut bytes = good.clone();
        spoil(&mut bytes);
        let outcome = server.handle(&bytes, None, NOW);
        assert_eq!(outcome.seen, Err(fault), "{what}");
        assert_eq!(outcome.reply, None, "{what}");
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic_and_change_nothing(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let mut server = Server::new(scope(50, 99));
        let outcome = server.handle(&bytes, None, NOW);
        prop_assert!(outcome.seen.is_err() && outcome.reply.is_none() && server.leases(NOW).count() == 0);
    }

    #[test]
    fn damaged_packets_never_panic(
        cut in 0_usize..400, at in 0_usize..400, byte: u8, tail in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let options = vec![Opt::ClassIdentifier(b"SluiceHub:m7".to_vec()), wanting(&[43, 143]), Opt::MaxMessageSize(700)];
        let mut bytes = packet(mac(1), MessageType::Discover, None, options);
        if let Some(slot) = bytes.get_mut(at) { *slot = byte; }
        bytes.truncate(cut.max(240));
        bytes.extend(tail);
        let mut server = Server::new(scope(50, 99));
        if let Some(reply) = server.handle(&bytes, Some(&sample()), NOW).reply {
            prop_assert!((300..=1472).contains(&reply.bytes.len()));
            decode(&reply);
        }
        server.check();
    }

    #[test]
    fn answers_fit_what_the_client_takes(size: u16, url in "https://[a-z]{1,240}") {
        let mut document = sample();
        document.service.discovery_url = url;
        let options = vec![
            Opt::ClassIdentifier(b"SluiceHub".to_vec()), wanting(&[43, 114, 143]), Opt::MaxMessageSize(size),
        ];
        let mut server = Server::new(scope(50, 99));
        let reply = server.handle(&packet(mac(1), MessageType::Discover, None, options), Some(&document), NOW).reply;
        let reply = reply.unwrap();
        prop_assert!(reply.bytes.len() <= usize::from(size.saturating_sub(28).clamp(548, 1472)));
        prop_assert!(decode(&reply).opts().contains(OptionCode::AddressLeaseTime));
    }
}
