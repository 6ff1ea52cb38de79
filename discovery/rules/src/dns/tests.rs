#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use hickory_proto::op::Query;
use proptest::prelude::*;

use super::*;
use crate::document::sample;

const HUB: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 77, 0, 50));

fn lan() -> Vec<IpNetwork> {
    vec!["10.77.0.1/24".parse().unwrap(), "2001:db8:77::1/64".parse().unwrap()]
}

fn zone() -> Zone {
    Zone::new(Some(&sample()), &lan(), Some("acme.test"), true)
}

fn question(text: &str, kind: RecordType) -> Message {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(text).unwrap(), kind));
    message
}

fn ask(zone: &Zone, query: &Message, admitted: bool) -> Message {
    match zone.judge(&query.to_vec().unwrap(), HUB, admitted, Carrier::Udp) {
        Verdict::Reply(bytes) => Message::from_vec(&bytes).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn texts(message: &Message) -> Vec<String> {
    message.answers.iter().map(|record| record.data.to_string()).collect()
}

#[test]
fn e2_a_hub_in_staging_finds_its_enrolment_and_check_in() {
    let zone = zone();
    for (text, kind, expected) in [
        ("est.acme.test.", RecordType::A, vec!["192.0.2.10"]),
        ("EST.Acme.Test.", RecordType::AAAA, vec!["2001:db8:1::10"]),
        ("checkin.acme.test.", RecordType::A, vec!["10.77.0.1"]),
        ("checkin.acme.test.", RecordType::AAAA, vec!["2001:db8:77::1"]),
        ("_sluice-est._tcp.acme.test.", RecordType::SRV, vec!["0 0 443 est.acme.test."]),
        ("est.acme.test.", RecordType::HTTPS, vec![]),
    ] {
        let answer = ask(&zone, &question(text, kind), false);
        assert_eq!(answer.metadata.response_code, ResponseCode::NoError, "{text}");
        assert_eq!(answer.metadata.id, 4711);
        assert_eq!(texts(&answer), expected, "{text}");
    }
    let hint = ask(&zone, &question("_sluice._tcp.acme.test.", RecordType::TXT), false);
    assert!(texts(&hint)[0].contains("\"tenant\":\"acme\""));
}

#[test]
fn g7_staging_learns_no_other_name() {
    for admitted in [false, true] {
        let query = question("intranet.acme.test.", RecordType::A).to_vec().unwrap();
        let verdict = zone().judge(&query, HUB, admitted, Carrier::Udp);
        assert_eq!(matches!(verdict, Verdict::Forward(_)), admitted);
    }
    let closed = Zone::new(Some(&sample()), &lan(), None, false);
    let answer = ask(&closed, &question("intranet.acme.test.", RecordType::A), true);
    assert_eq!(answer.metadata.response_code, ResponseCode::Refused, "no resolver is configured");
    let early = Zone::new(None, &lan(), None, true);
    let answer = ask(&early, &question("est.acme.test.", RecordType::A), false);
    assert_eq!(answer.metadata.response_code, ResponseCode::Refused, "no document yet");
}

#[test]
fn strangers_and_answers_are_not_answered() {
    let query = question("est.acme.test.", RecordType::A);
    let bytes = query.to_vec().unwrap();
    for source in ["192.0.2.99", "2001:db8:78::2", "127.0.0.1", "::1"] {
        assert_eq!(zone().judge(&bytes, source.parse().unwrap(), true, Carrier::Udp), Verdict::Drop, "{source}");
    }
    assert_ne!(zone().judge(&bytes, "fe80::7".parse().unwrap(), false, Carrier::Udp), Verdict::Drop);
    let response = Message::response(1, OpCode::Query).to_vec().unwrap();
    assert_eq!(zone().judge(&response, HUB, true, Carrier::Udp), Verdict::Drop, "two resolvers would loop");
    assert_eq!(zone().judge(&[0; 2000], HUB, true, Carrier::Udp), Verdict::Drop);
}

#[test]
fn odd_questions_are_refused() {
    let zone = zone();
    let code = |query: &Message| ask(&zone, query, true).metadata.response_code;
    for kind in [RecordType::ANY, RecordType::AXFR] {
        assert_eq!(code(&question("est.acme.test.", kind)), ResponseCode::Refused);
    }
    let mut chaos = question("version.bind.", RecordType::TXT);
    chaos.queries[0].set_query_class(DNSClass::CH);
    assert_eq!(code(&chaos), ResponseCode::Refused);
    let mut update = question("est.acme.test.", RecordType::A);
    update.metadata.op_code = OpCode::Update;
    assert_eq!(code(&update), ResponseCode::NotImp);
    let mut two = question("est.acme.test.", RecordType::A);
    two.add_query(two.queries[0].clone());
    assert_eq!(code(&two), ResponseCode::FormErr);
    assert_eq!(code(&question("_sluice-x._tcp.acme.test.", RecordType::SRV)), ResponseCode::NXDomain);
    let mut future = question("est.acme.test.", RecordType::A);
    let mut edns = Edns::new();
    edns.set_version(1);
    future.edns = Some(edns);
    assert_eq!(u16::from(code(&future)), 16, "BADVERS");
}

#[test]
fn a_long_answer_is_cut_for_udp_and_whole_over_tcp() {
    let mut document = sample();
    document.service.est_addresses = (1..=40).map(|n| IpAddr::from([192, 0, 2, n])).collect();
    let zone = Zone::new(Some(&document), &lan(), None, false);
    let query = question("est.acme.test.", RecordType::A);
    let short = ask(&zone, &query, false);
    assert!(short.metadata.truncation && short.answers.is_empty());
    let Verdict::Reply(bytes) = zone.judge(&query.to_vec().unwrap(), HUB, false, Carrier::Tcp) else { panic!() };
    assert_eq!(Message::from_vec(&bytes).unwrap().answers.len(), 40);
}

#[test]
fn only_the_answer_to_the_question_is_relayed() {
    let query = question("www.example.org.", RecordType::A).to_vec().unwrap();
    let Verdict::Forward(asked) = zone().judge(&query, HUB, true, Carrier::Udp) else { panic!() };
    assert_eq!(Message::from_vec(&asked.ask(99)).unwrap().metadata.id, 99);
    let mut answer = question("www.example.org.", RecordType::A);
    answer.metadata.id = 99;
    answer.metadata.message_type = MessageType::Response;
    let good = answer.to_vec().unwrap();
    assert_eq!(Message::from_vec(&asked.relay(&good, 99).unwrap()).unwrap().metadata.id, 4711);
    assert_eq!(asked.relay(&good, 98), None, "another id");
    assert_eq!(asked.relay(&asked.ask(99), 99), None, "a question");
    let mut other = answer.clone();
    other.queries[0].set_name(Name::from_ascii("evil.example.org.").unwrap());
    assert_eq!(asked.relay(&other.to_vec().unwrap(), 99), None, "another name");
    let many = Record::from_rdata(Name::from_ascii("www.example.org.").unwrap(), 1, rdata(HUB));
    answer.answers = vec![many; 60];
    let cut = Message::from_vec(&asked.relay(&answer.to_vec().unwrap(), 99).unwrap()).unwrap();
    assert!(cut.metadata.truncation && cut.metadata.id == 4711 && cut.metadata.message_type == MessageType::Response);
    let failed = Message::from_vec(&asked.failed().unwrap()).unwrap();
    assert_eq!(failed.metadata.response_code, ResponseCode::ServFail);
}

proptest! {
    #[test]
    fn random_bytes_never_panic_nor_get_much_back(bytes in prop::collection::vec(any::<u8>(), 0..600), admitted: bool) {
        if let Verdict::Reply(reply) = zone().judge(&bytes, HUB, admitted, Carrier::Udp) {
            prop_assert!(reply.len() <= usize::from(MAX_UDP));
            prop_assert!(Message::from_vec(&reply).unwrap().answers.is_empty());
        }
    }

    #[test]
    fn damaged_questions_and_answers_never_panic(at in 0_usize..64, byte: u8, cut in 0_usize..64) {
        let mut bytes = question("www.example.org.", RecordType::A).to_vec().unwrap();
        if let Some(slot) = bytes.get_mut(at) { *slot = byte; }
        bytes.truncate(bytes.len().saturating_sub(cut));
        let verdict = zone().judge(&bytes, HUB, true, Carrier::Udp);
        if let Verdict::Forward(asked) = verdict {
            let _any = asked.relay(&bytes, 1);
            prop_assert!(asked.failed().is_some());
        }
    }
}
