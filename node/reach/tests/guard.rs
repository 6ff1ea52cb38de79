//! Addresses in all spellings, against guards that name more or less.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use proptest::{collection::vec, prelude::*};
use sluice_node_reach::{DialGuard, Kind, MAX_ADDRESSES, NotPermitted, in_turns};

fn guard(networks: &[&str]) -> DialGuard {
    DialGuard::new(networks.iter().map(|network| network.parse().unwrap()))
}

fn passes(guard: &DialGuard, address: &str) -> bool {
    guard.permit(&[address.parse().unwrap()], 443).is_ok()
}

const REFUSED: [(&str, Kind); 43] = [
    ("127.0.0.1", Kind::Loopback),
    ("127.255.255.254", Kind::Loopback),
    ("::1", Kind::Loopback),
    ("::ffff:127.0.0.1", Kind::Loopback),
    ("64:ff9b::127.0.0.1", Kind::Never),
    ("2002:7f00:1::", Kind::Never),
    ("::127.0.0.1", Kind::Never),
    ("fe80::5efe:127.0.0.1", Kind::Never),
    ("169.254.169.254", Kind::Metadata),
    ("::ffff:169.254.169.254", Kind::Metadata),
    ("64:ff9b::a9fe:a9fe", Kind::Metadata),
    ("2002:a9fe:a9fe::1", Kind::Metadata),
    ("fd00:ec2::254", Kind::Metadata),
    ("fd20:ce::254", Kind::Metadata),
    ("100.100.100.200", Kind::Metadata),
    ("168.63.129.16", Kind::Metadata),
    ("192.0.0.192", Kind::Metadata),
    ("169.254.1.1", Kind::LinkLocal),
    ("fe80::1", Kind::LinkLocal),
    ("febf::1", Kind::LinkLocal),
    ("0.0.0.0", Kind::Never),
    ("0.1.2.3", Kind::Never),
    ("::", Kind::Never),
    ("::ffff:0.0.0.0", Kind::Never),
    ("224.0.0.1", Kind::Never),
    ("239.255.255.250", Kind::Never),
    ("240.0.0.1", Kind::Never),
    ("255.255.255.255", Kind::Never),
    ("ff02::1", Kind::Never),
    ("2001:0:53aa:64c:0:0:80ff:fffe", Kind::Never),
    ("100::1", Kind::Never),
    ("10.0.0.1", Kind::Own),
    ("172.16.0.1", Kind::Own),
    ("172.31.255.255", Kind::Own),
    ("192.168.1.1", Kind::Own),
    ("::ffff:192.168.1.1", Kind::Own),
    ("64:ff9b::10.0.0.1", Kind::Never),
    ("100.64.0.1", Kind::Own),
    ("100.127.255.255", Kind::Own),
    ("198.18.0.1", Kind::Own),
    ("fc00::1", Kind::Own),
    ("fdff::1", Kind::Own),
    ("64:ff9b:1::10.0.0.1", Kind::Own),
];

#[test]
fn c5_unnamed_special_addresses_are_refused_in_every_spelling() {
    for (text, kind) in REFUSED {
        let address: IpAddr = text.parse().unwrap();
        assert_eq!(guard(&[]).permit(&[address], 443), Err(NotPermitted::Refused { address, kind }), "{text}");
    }
}

#[test]
fn public_addresses_pass_without_being_named() {
    for text in [
        "1.1.1.1",
        "172.15.255.255",
        "172.32.0.1",
        "100.128.0.1",
        "2606:4700::1111",
        "64:ff9b::1.1.1.1",
        "::ffff:1.1.1.1",
    ] {
        assert!(passes(&guard(&[]), text), "{text}");
    }
}

#[test]
fn own_networks_pass_when_named() {
    let guard = guard(&["10.1.0.0/16", "fd00:1::/32"]);
    for text in ["10.1.2.3", "::ffff:10.1.2.3", "fd00:1::7"] {
        assert!(passes(&guard, text), "{text}");
    }
    for text in ["10.2.0.1", "192.168.0.1", "fd00:2::7", "127.0.0.1"] {
        assert!(!passes(&guard, text), "{text}");
    }
}

#[test]
fn naming_everything_opens_private_networks_but_nothing_worse() {
    let guard = guard(&["0.0.0.0/0", "::/0"]);
    for (text, kind) in REFUSED {
        assert_eq!(passes(&guard, text), kind == Kind::Own, "{text}");
    }
}

#[test]
fn loopback_and_link_local_pass_only_when_their_own_range_is_named() {
    assert!(passes(&guard(&["127.0.0.0/8"]), "127.0.0.1"));
    assert!(passes(&guard(&["127.0.0.1/32"]), "127.0.0.1"));
    assert!(passes(&guard(&["::1/128"]), "::1"));
    assert!(passes(&guard(&["169.254.7.0/24"]), "169.254.7.1"));
    assert!(!passes(&guard(&["127.0.0.1/32"]), "127.0.0.2"));
    assert!(!passes(&guard(&["126.0.0.0/7"]), "127.0.0.1"));
    assert!(!passes(&guard(&["::/64"]), "::1"));
}

#[test]
fn metadata_passes_only_when_named_alone() {
    assert!(passes(&guard(&["169.254.169.254/32"]), "169.254.169.254"));
    assert!(passes(&guard(&["fd00:ec2::254/128"]), "fd00:ec2::254"));
    for wide in ["169.254.169.254/31", "169.254.0.0/16", "fd00:ec2::/32"] {
        assert!(!passes(&guard(&[wide]), "169.254.169.254") && !passes(&guard(&[wide]), "fd00:ec2::254"), "{wide}");
    }
}

#[test]
fn what_can_never_be_dialled_cannot_be_named() {
    let guard = guard(&["0.0.0.0/32", "255.255.255.255/32", "ff02::1/128", "::/128", "224.0.0.0/4"]);
    for text in ["0.0.0.0", "255.255.255.255", "ff02::1", "::", "224.0.0.1"] {
        assert!(!passes(&guard, text), "{text}");
    }
}

#[test]
fn only_what_passed_is_dialled() {
    let addresses: Vec<IpAddr> =
        ["127.0.0.1", "1.1.1.1", "10.0.0.1", "::ffff:1.0.0.1"].map(|text| text.parse().unwrap()).into();
    let permitted = guard(&[]).permit(&addresses, 443).unwrap();
    let expected: Vec<SocketAddr> = ["1.1.1.1:443", "1.0.0.1:443"].map(|text| text.parse().unwrap()).into();
    assert_eq!(permitted.addresses(), expected);
    assert_eq!(permitted.first(), expected[0]);
}

#[test]
fn no_address_and_no_port_are_refused() {
    assert_eq!(guard(&[]).permit(&[], 443), Err(NotPermitted::NoAddress));
    assert_eq!(guard(&[]).permit(&[IpAddr::V4(Ipv4Addr::new(1, 1, 1, 1))], 0), Err(NotPermitted::NoPort));
}

#[test]
fn many_addresses_are_bounded() {
    let many = vec![IpAddr::V4(Ipv4Addr::new(1, 1, 1, 1)); 1_000];
    assert_eq!(guard(&[]).permit(&many, 1).unwrap().addresses().len(), MAX_ADDRESSES);
}

/// The standard library's view, where it has one.
fn model_is_public(v4: Ipv4Addr) -> bool {
    let [a, b, ..] = v4.octets();
    let shared = a == 100 && (64..128).contains(&b);
    let bench = a == 198 && (18..20).contains(&b);
    let ietf = v4.octets()[..3] == [192, 0, 0];
    let wire_server = v4 == Ipv4Addr::new(168, 63, 129, 16);
    !(v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_multicast() || v4.is_broadcast())
        && !(a == 0 || a >= 240 || shared || bench || ietf || wire_server)
}

fn special_v4() -> impl Strategy<Value = Ipv4Addr> {
    let near = prop::sample::select(vec![
        0_u32,
        0x0a00_0000,
        0x6440_0000,
        0x7f00_0000,
        0xa9fe_0000,
        0xac10_0000,
        0xc000_0000,
        0xc0a8_0000,
        0xc612_0000,
        0xe000_0000,
        0xf000_0000,
    ]);
    prop_oneof![
        any::<u32>(),
        (near, -300_i64..300)
            .prop_map(|(base, off)| u32::try_from((i64::from(base) + off).clamp(0, 0xffff_ffff)).unwrap())
    ]
    .prop_map(Ipv4Addr::from)
}

proptest! {
    #[test]
    fn v4_agrees_with_the_model_in_every_spelling(v4 in special_v4()) {
        let [a, b, c, d] = v4.octets();
        let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        let public = model_is_public(v4);
        for spelled in [
            IpAddr::V4(v4),
            IpAddr::V6(v4.to_ipv6_mapped()),
            IpAddr::V6(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low)),
            IpAddr::V6(Ipv6Addr::new(0x2002, high, low, 7, 0, 0, 0, 1)),
        ] {
            prop_assert_eq!(guard(&[]).permit(&[spelled], 1).is_ok(), public, "{}", spelled);
        }
    }

    #[test]
    fn what_passes_is_never_local_whatever_is_named(
        words in any::<[u16; 8]>(), prefix in 0..=96_u8, at in any::<u32>(), short in 0..=24_u8,
    ) {
        let v6 = Ipv6Addr::from(words);
        let v4 = Ipv4Addr::from(at);
        let guard = DialGuard::new([
            ipnetwork::IpNetwork::new(v6.into(), prefix).unwrap(),
            ipnetwork::IpNetwork::new(v4.into(), short).unwrap(),
        ]);
        for address in ["169.254.169.254", "fd00:ec2::254", "0.0.0.0", "::", "ff02::1", "::1"] {
            prop_assert!(!passes(&guard, address), "{}", address);
        }
        for address in [IpAddr::V4(v4), IpAddr::V6(v6)] {
            if let Ok(permitted) = guard.permit(&[address], 1) {
                let ip = permitted.first().ip();
                prop_assert!(!ip.is_multicast() && !ip.is_unspecified());
            }
        }
    }

    #[test]
    fn permitted_addresses_are_a_part_of_those_asked_for(list in vec(special_v4(), 0..30)) {
        let list: Vec<IpAddr> = list.into_iter().map(IpAddr::V4).collect();
        if let Ok(permitted) = guard(&["10.0.0.0/8"]).permit(&list, 9) {
            prop_assert!(permitted.addresses().iter().all(|at| at.port() == 9 && list.contains(&at.ip())));
        }
    }
}

proptest! {
    /// Nothing is lost or added; within a family the order stays; no family waits while the other has two turns.
    #[test]
    fn families_take_turns(addresses in vec(any::<IpAddr>(), 0..20)) {
        let turns = in_turns(&addresses, IpAddr::is_ipv4);
        let family = |all: &[IpAddr], four: bool| all.iter().copied().filter(|at| at.is_ipv4() == four).collect::<Vec<_>>();
        for four in [true, false] {
            prop_assert_eq!(family(&turns, four), family(&addresses, four));
        }
        prop_assert_eq!(turns.first(), addresses.first());
        for (at, pair) in turns.windows(2).enumerate() {
            if pair[0].is_ipv4() == pair[1].is_ipv4() {
                prop_assert!(family(&turns[at + 1..], !pair[0].is_ipv4()).is_empty());
            }
        }
    }
}
