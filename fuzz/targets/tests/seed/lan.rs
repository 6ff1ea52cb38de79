//! DHCP, DNS, router solicitations.

use super::{Seed, seed as one};

pub(crate) fn seeds() -> Vec<Seed> {
    let mut seeds = dhcp();
    seeds.extend(dns());
    seeds.extend(solicitations());
    seeds
}

/// A client's packet with these options, end mark included, and its length in front.
fn packet(mac: u8, ciaddr: [u8; 4], options: &[&[u8]]) -> Vec<u8> {
    let mut bytes = vec![1, 1, 6, 0, 0xaa, 0xbb, 0xcc, mac, 0, 0, 0x80, 0];
    bytes.extend(ciaddr);
    bytes.extend([0; 12]);
    bytes.extend([2, 0, 0, 0, 0, mac]);
    bytes.resize(236, 0);
    bytes.extend([99, 130, 83, 99]);
    for option in options {
        bytes.extend_from_slice(option);
    }
    bytes.push(255);
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], &bytes].concat()
}

const NONE: [u8; 4] = [0; 4];
const DISCOVER: &[u8] = &[53, 1, 1];
const REQUEST: &[u8] = &[53, 1, 3];
const CLASS: &[u8] = b"\x3c\x09SluiceHub";
const WANTED: &[u8] = &[55, 6, 1, 3, 6, 43, 114, 143];

fn dhcp() -> Vec<Seed> {
    let asks = |last: u8| [50, 4, 10, 77, 0, last];
    let session = [
        packet(1, NONE, &[DISCOVER, CLASS, WANTED]),
        packet(1, NONE, &[REQUEST, &asks(12), &[54, 4, 10, 77, 0, 1], CLASS, WANTED]),
        packet(1, [10, 77, 0, 12], &[REQUEST, CLASS]),
        packet(1, [10, 77, 0, 12], &[&[53, 1, 7]]),
    ];
    let crowd: Vec<u8> = (1..=9).flat_map(|mac| packet(mac, NONE, &[REQUEST, &asks(9 + mac)])).collect();
    let decline: Vec<u8> = (10..14)
        .flat_map(|at| [packet(1, NONE, &[REQUEST, &asks(at)]), packet(1, NONE, &[&[53, 1, 4], &asks(at)])].concat())
        .collect();
    let mut relayed = packet(1, NONE, &[DISCOVER]);
    relayed[2 + 24] = 10;
    let mut group = packet(1, NONE, &[DISCOVER]);
    group[2 + 28] = 1;
    let mut reply = packet(1, NONE, &[DISCOVER]);
    reply[2] = 2;
    vec![
        one("dhcp", "good-session", session.concat()),
        one("dhcp", "good-discover", session[0].clone()),
        one("dhcp", "good-crowd", crowd),
        one("dhcp", "good-decline", decline),
        one("dhcp", "good-inform", packet(1, [10, 77, 0, 200], &[&[53, 1, 8], CLASS, WANTED])),
        one(
            "dhcp",
            "good-same-address",
            [packet(1, NONE, &[REQUEST, &asks(12)]), packet(2, NONE, &[REQUEST, &asks(12)])].concat(),
        ),
        one("dhcp", "good-outside-the-pool", packet(1, NONE, &[REQUEST, &asks(200)])),
        one("dhcp", "good-split-option", packet(1, NONE, &[DISCOVER, b"\x3c\x03Slu", b"\x3c\x06iceHub", WANTED])),
        one(
            "dhcp",
            "good-long-client-id",
            packet(1, NONE, &[DISCOVER, &[&[61, 250][..], &[7; 250]].concat(), CLASS, WANTED]),
        ),
        one("dhcp", "good-tiny-limit", packet(1, NONE, &[DISCOVER, &[57, 2, 0, 1], CLASS, WANTED])),
        one("dhcp", "good-pads", packet(1, NONE, &[&[0; 60], DISCOVER])),
        one("dhcp", "bad-other-server", packet(1, NONE, &[REQUEST, &asks(12), &[54, 4, 9, 9, 9, 9]])),
        one("dhcp", "bad-no-kind", packet(1, NONE, &[CLASS])),
        one("dhcp", "bad-server-kind", packet(1, NONE, &[&[53, 1, 2]])),
        one("dhcp", "bad-option-runs-over", packet(1, NONE, &[DISCOVER, &[60, 200]])),
        one("dhcp", "bad-empty-kind", packet(1, NONE, &[&[53, 0]])),
        one("dhcp", "bad-short-address", packet(1, NONE, &[DISCOVER, &[50, 3, 1, 2, 3]])),
        one("dhcp", "bad-relayed", relayed),
        one("dhcp", "bad-group-address", group),
        one("dhcp", "bad-reply", reply),
        one("dhcp", "bad-short", [0, 3, 1, 1, 6]),
    ]
}

fn query(flags: u16, counts: [u16; 4], rest: &[&[u8]]) -> Vec<u8> {
    let mut bytes = vec![0x12, 0x34];
    bytes.extend(flags.to_be_bytes());
    bytes.extend(counts.iter().flat_map(|count| count.to_be_bytes()));
    bytes.extend(rest.concat());
    bytes
}

const EST: &[u8] = b"\x03est\x04acme\x04test\0";
const WWW: &[u8] = b"\x03www\x07example\x04test\0";
const A: &[u8] = &[0, 1, 0, 1];
const OPT: &[u8] = &[0, 0, 41, 4, 0xd0, 0, 0, 0, 0, 0, 0];
/// An address, the name pointing to the question's.
const ANSWER: &[u8] = &[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 80];

fn dns() -> Vec<Seed> {
    let ask = |name, rest: &[&[u8]]| one("dns_query", name, query(0x0100, [1, 0, 0, 0], rest));
    let say = |name, flags, counts, rest: &[&[u8]]| one("dns_answer", name, query(flags, counts, rest));
    let long = [&[63][..], &[b'a'; 63], &[63], &[b'b'; 63], &[63], &[b'c'; 63], &[61], &[b'd'; 61], &[0]].concat();
    vec![
        ask("good-est", &[EST, A]),
        ask("good-est-ipv6", &[EST, &[0, 28, 0, 1]]),
        ask("good-case", &[b"\x03EsT\x04aCme\x04TEST\0", A]),
        ask("good-service", &[b"\x0b_sluice-est\x04_tcp\x06branch\x04acme\x04test\0", &[0, 33, 0, 1]]),
        ask("good-hint", &[b"\x07_sluice\x04_tcp\x06branch\x04acme\x04test\0", &[0, 16, 0, 1]]),
        ask("good-other", &[WWW, A]),
        ask("good-long", &[&long, A]),
        ask("good-transfer", &[EST, &[0, 252, 0, 1]]),
        ask("good-any", &[EST, &[0, 255, 0, 1]]),
        ask("good-chaos", &[b"\x07version\x04bind\0", &[0, 16, 0, 3]]),
        ask("good-root", &[&[0], &[0, 2, 0, 1]]),
        ask("good-loop", &[&[0xc0, 12], A]),
        ask("good-forward-pointer", &[&[0xc0, 200], A]),
        ask("good-truncated", &[b"\x03est"]),
        one("dns_query", "good-edns", query(0x0100, [1, 0, 0, 1], &[EST, A, OPT])),
        one(
            "dns_query",
            "good-edns-version",
            query(0x0100, [1, 0, 0, 1], &[EST, A, &[0, 0, 41, 4, 0xd0, 0, 9, 0, 0, 0, 0]]),
        ),
        one("dns_query", "good-two-questions", query(0x0100, [2, 0, 0, 0], &[EST, A, WWW, A])),
        one("dns_query", "good-no-question", query(0x0100, [0; 4], &[])),
        one("dns_query", "good-many-claimed", query(0x0100, [u16::MAX; 4], &[EST, A])),
        one("dns_query", "good-update", query(0x2800, [1, 0, 0, 0], &[EST, &[0, 6, 0, 1]])),
        one("dns_query", "bad-response", query(0x8180, [1, 0, 0, 0], &[EST, A])),
        one("dns_query", "bad-short", [0x12, 0x34, 1]),
        say("good-answer", 0x8180, [1, 1, 0, 0], &[WWW, A, ANSWER]),
        say("good-no-such-name", 0x8183, [1, 0, 0, 0], &[WWW, A]),
        say("good-too-long", 0x8180, [1, 40, 0, 0], &[WWW, A, &ANSWER.repeat(40)]),
        say("good-case", 0x8180, [1, 0, 0, 0], &[b"\x03WWW\x07example\x04test\0", A]),
        say("bad-other-name", 0x8180, [1, 0, 0, 0], &[EST, A]),
        say("bad-other-kind", 0x8180, [1, 0, 0, 0], &[WWW, &[0, 28, 0, 1]]),
        say("bad-query", 0x0100, [1, 0, 0, 0], &[WWW, A]),
        say("bad-no-question", 0x8180, [0, 1, 0, 0], &[ANSWER]),
        say("bad-cut", 0x8180, [1, 1, 0, 0], &[WWW, A, &ANSWER[..9]]),
        say("bad-pointer-loop", 0x8180, [1, 1, 0, 0], &[WWW, A, &[0xc0, 33, 0, 1]]),
    ]
}

fn solicitations() -> Vec<Seed> {
    let ask = |name, options: &[u8]| one("solicitation", name, [&[133, 0, 1, 2, 0, 0, 0, 0][..], options].concat());
    vec![
        ask("good-bare", &[]),
        ask("good-source", &[1, 1, 2, 0, 0, 0, 0, 1]),
        ask("good-unknown-option", &[14, 1, 2, 3, 4, 5, 6, 7]),
        ask("bad-option-of-nothing", &[1, 0, 2, 0, 0, 0, 0, 1]),
        ask("bad-option-runs-over", &[1, 2, 2, 0, 0, 0, 0, 1]),
        ask("bad-half-option", &[1]),
        one("solicitation", "bad-advertisement", [134, 0, 0, 0, 0, 0, 0, 0]),
        one("solicitation", "bad-short", [133, 0]),
    ]
}
