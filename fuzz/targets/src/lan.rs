//! What devices on a hub LAN send: DHCP, DNS, router solicitations; and the document that says how to answer.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::OnceLock,
};

use ipnetwork::IpNetwork;
use sluice_discovery_rules::{
    EdgeDocument,
    advert::is_solicitation,
    dhcp::{Outcome, Scope, Server},
    discovery_hint,
    dns::{Carrier, MAX_UDP, Question, Verdict, Zone},
};
use sluice_qos_plan::{Generation, classify};

use crate::{
    codec::{accepted, json},
    fixtures::{self, NOW},
};

const LAN: &str = "10.77.0.1/24";
const DEVICE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 20));
const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9));

fn scope() -> Scope {
    let (first, last) = (Ipv4Addr::new(10, 77, 0, 10), Ipv4Addr::new(10, 77, 0, 17));
    let scope = Scope::new(LAN.parse().unwrap(), first, last, 600).unwrap();
    scope.with_extras(vec![Ipv4Addr::new(10, 77, 0, 1)], Some("branch.acme.test".into())).unwrap()
}

/// DHCP packets, each behind its length in two bytes, a second apart: answers go to who asked and fit its buffer, and
/// no address ever has two holders.
pub fn dhcp(mut data: &[u8]) {
    let document = fixtures::edge_document();
    let (scope, mut server, mut now) = (scope(), Server::new(scope()), NOW);
    while let Some((length, rest)) = data.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
        let (packet, behind) = rest.split_at(length);
        data = behind;
        now = now.plus(1);
        let outcome = server.handle(packet, Some(&document), now);
        is_answer_to(packet, &outcome, &scope);
        let leases: Vec<_> = server.leases(now).collect();
        let holders: BTreeSet<_> = leases.iter().map(|(_, lease)| lease.mac).collect();
        assert_eq!(holders.len(), leases.len(), "a device has two leases");
        assert!(leases.len() <= scope.size() as usize);
        for (address, lease) in leases {
            assert!(scope.pool_contains(address) && server.address_of(lease.mac, now) == Some(address));
        }
        if let Ok(seen) = outcome.seen
            && let Some(bound) = seen.bound
        {
            assert_eq!(server.lease(bound, now).unwrap().mac, seen.mac);
        }
    }
    assert!(server.expire(now.plus(700)).len() <= scope.size() as usize);
    assert_eq!(server.leases(now.plus(700)).count(), 0, "a lease never ends");
}

fn is_answer_to(packet: &[u8], outcome: &Outcome, scope: &Scope) {
    let Some(reply) = &outcome.reply else { return };
    accepted();
    assert!(outcome.seen.is_ok(), "a malformed packet was answered");
    let bytes = &reply.bytes;
    assert!((300..=1472).contains(&bytes.len()));
    assert_eq!((bytes[0], &bytes[4..8], &bytes[28..44]), (2, &packet[4..8], &[&packet[28..34], &[0; 10]].concat()[..]));
    let given = Ipv4Addr::new(bytes[16], bytes[17], bytes[18], bytes[19]);
    assert!(given.is_unspecified() || scope.pool_contains(given), "{given} is not in the pool");
    assert_eq!(reply.to.port(), 68);
    let to = *reply.to.ip();
    assert!(
        to.is_broadcast() || IpNetwork::contains(&LAN.parse().unwrap(), IpAddr::V4(to)),
        "an answer leaves the LAN"
    );
    let mut options = &bytes[240..];
    let mut codes = BTreeSet::new();
    while let [code, length, rest @ ..] = options {
        if *code == 255 {
            break;
        }
        assert!(codes.insert(*code), "option {code} stands twice");
        options = &rest[usize::from(*length)..];
    }
    assert!(options.first() == Some(&255) && codes.contains(&53) && codes.contains(&54));
}

fn zone() -> &'static Zone {
    static ZONE: OnceLock<Zone> = OnceLock::new();
    ZONE.get_or_init(|| {
        let lan = [LAN.parse().unwrap(), "2001:db8:77::1/64".parse().unwrap()];
        Zone::new(Some(&fixtures::edge_document()), &lan, Some("branch.acme.test"), true)
    })
}

/// DNS queries: strangers hear nothing, devices in staging are never forwarded for, answers fit and belong to the
/// question.
pub fn dns_query(data: &[u8]) {
    assert_eq!(zone().judge(data, STRANGER, true, Carrier::Udp), Verdict::Drop);
    for (admitted, carrier) in
        [(false, Carrier::Udp), (false, Carrier::Tcp), (true, Carrier::Udp), (true, Carrier::Tcp)]
    {
        match zone().judge(data, DEVICE, admitted, carrier) {
            Verdict::Drop => {}
            Verdict::Reply(reply) => {
                accepted();
                assert_eq!((&reply[..2], reply[2] & 0x80), (&data[..2], 0x80), "an answer to something else");
                assert!(carrier == Carrier::Tcp || reply.len() <= usize::from(MAX_UDP));
                let again = zone().judge(&reply, DEVICE, admitted, carrier);
                assert_eq!(again, Verdict::Drop, "an answer was answered");
            }
            Verdict::Forward(question) => {
                assert!(admitted, "a device in staging was forwarded for");
                let asked = question.ask(0xabcd);
                assert_eq!((&asked[..2], &asked[2..]), (&[0xab, 0xcd][..], &data[2..]));
                is_bounced(&question, &asked);
            }
        }
    }
}

fn is_bounced(question: &Question, asked: &[u8]) {
    assert_eq!(question.relay(asked, 0xabcd), None, "a question passed for an answer");
    let mut echo = asked.to_vec();
    echo[2] |= 0x80;
    assert_eq!(question.relay(&echo, 0xabce), None, "a guessed id was taken");
    if let Some(failed) = question.failed() {
        assert_eq!(failed[2] & 0x80, 0x80);
    }
}

/// Answers of the resolver to one question: only to that question, with that id, and no longer than the client takes.
pub fn dns_answer(data: &[u8]) {
    static QUESTION: OnceLock<Question> = OnceLock::new();
    let question = QUESTION.get_or_init(|| {
        let query = b"\x12\x34\x01\x00\0\x01\0\0\0\0\0\0\x03www\x07example\x04test\0\0\x01\0\x01";
        let Verdict::Forward(question) = zone().judge(query, DEVICE, true, Carrier::Udp) else { panic!() };
        question
    });
    let id = data.first_chunk::<2>().map_or(0, |id| u16::from_be_bytes(*id));
    let Some(reply) = question.relay(data, id) else { return };
    accepted();
    assert_eq!((&reply[..2], reply[2] & 0x80), (&[0x12, 0x34][..], 0x80));
    assert!(reply.len() <= 512, "{} bytes for a client that takes 512", reply.len());
    assert_eq!(question.relay(data, id.wrapping_add(1)), None, "any id is taken");
}

/// Router solicitations: an unspecified source never gets more than a real one.
pub fn solicitation(data: &[u8]) {
    let (own, none) = (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 7), Ipv6Addr::UNSPECIFIED);
    let (from_own, from_none) = (is_solicitation(data, own), is_solicitation(data, none));
    if from_own {
        accepted();
    }
    assert!(from_own || !from_none);
    assert!(!from_own || (data.len() >= 8 && data.len().is_multiple_of(8) && data[..2] == [133, 0]));
}

/// Documents of edges: what passes the check can be served.
pub fn edge_document(data: &[u8]) {
    let Some(document) = json::<EdgeDocument>(data) else { return };
    let hint: serde_json::Value = serde_json::from_str(&discovery_hint(&document)).unwrap();
    if document.check().is_err() {
        return;
    }
    accepted();
    assert_eq!(hint["discovery"], document.service.discovery_url);
    if let Ok(script) = classify(&document.qos, Generation::FIRST) {
        crate::kernel::is_script(&script);
    }
    let zone = Zone::new(Some(&document), &[LAN.parse().unwrap()], Some("branch.acme.test"), false);
    let query = b"\x12\x34\x01\x00\0\x01\0\0\0\0\0\0\x03est\x04acme\x04test\0\0\x01\0\x01";
    assert!(matches!(zone.judge(query, DEVICE, false, Carrier::Udp), Verdict::Reply(_)));
    let mut server = Server::new(scope());
    let mut discover = vec![0; 240];
    discover[..3].copy_from_slice(&[1, 1, 6]);
    discover[28..34].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
    discover[236..].copy_from_slice(&[99, 130, 83, 99]);
    discover.extend([53, 1, 1, 55, 3, 43, 114, 143, 60, 9]);
    discover.extend(b"SluiceHub\xff");
    let outcome = server.handle(&discover, Some(&document), NOW);
    is_answer_to(&discover, &outcome, &scope());
}
