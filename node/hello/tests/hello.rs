//! ClientHellos of a real client, cut, doubled, damaged and made up.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::sync::Arc;

use proptest::{collection::vec, prelude::*};
use rustls::{ClientConfig, ClientConnection, RootCertStore, crypto::aws_lc_rs, version};
use sluice_node_hello::{ClientHello, HelloError, MAX_BYTES, MAX_PROTOCOLS, Progress, read};

/// What rustls sends first.
fn real(name: &str, alpn: &[&[u8]], tls12: bool) -> Vec<u8> {
    let versions: &[&rustls::SupportedProtocolVersion] = if tls12 { &[&version::TLS12] } else { &[&version::TLS13] };
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    let mut connection = ClientConnection::new(Arc::new(config), name.to_owned().try_into().unwrap()).unwrap();
    let mut wire = Vec::new();
    connection.write_tls(&mut wire).unwrap();
    wire
}

/// The handshake message inside records.
fn message(wire: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    let mut rest = wire;
    while let [_, _, _, high, low, behind @ ..] = rest {
        let (fragment, next) = behind.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        message.extend_from_slice(fragment);
        rest = next;
    }
    message
}

/// The message in records of at most `size` bytes.
fn in_records(message: &[u8], size: usize) -> Vec<u8> {
    let record = |part: &[u8]| [&[22, 3, 1][..], &u16::try_from(part.len()).unwrap().to_be_bytes(), part].concat();
    message.chunks(size).flat_map(record).collect()
}

/// A ClientHello with these extensions.
fn made_up(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let long = |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat();
    let extensions: Vec<u8> =
        extensions.iter().flat_map(|(kind, content)| [&kind.to_be_bytes()[..], &long(content)].concat()).collect();
    let body = [&[3, 3][..], &[7; 32], &[0], &long(&[0x13, 0x01]), &[1, 0], &long(&extensions)].concat();
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    in_records(&[&[1][..], &length[1..], &body].concat(), 16_000)
}

fn sni(names: &[&[u8]]) -> (u16, Vec<u8>) {
    let list: Vec<u8> = names
        .iter()
        .flat_map(|name| [&[0][..], &u16::try_from(name.len()).unwrap().to_be_bytes(), name].concat())
        .collect();
    (0, [&u16::try_from(list.len()).unwrap().to_be_bytes(), &list[..]].concat())
}

fn alpn(protocols: &[&[u8]]) -> (u16, Vec<u8>) {
    let list: Vec<u8> =
        protocols.iter().flat_map(|name| [&[u8::try_from(name.len()).unwrap()][..], name].concat()).collect();
    (16, [&u16::try_from(list.len()).unwrap().to_be_bytes(), &list[..]].concat())
}

fn done(wire: &[u8]) -> ClientHello {
    match read(wire) {
        Ok(Progress::Done(hello)) => hello,
        other => panic!("{other:?}"),
    }
}

#[test]
fn real_clients_are_understood() {
    for tls12 in [false, true] {
        let hello = done(&real("Login.ACME.test", &[b"h2", b"http/1.1"], tls12));
        assert_eq!(hello.server_name.as_deref(), Some("login.acme.test"));
        assert_eq!(hello.alpn, [b"h2".to_vec(), b"http/1.1".to_vec()]);
        assert!(hello.offers(b"h2") && !hello.offers(b"sluice-tunnel/1"));
    }
    assert_eq!(done(&real("10.0.0.1", &[], false)), ClientHello::default());
}

#[test]
fn made_up_one_is_read_like_a_real_one() {
    let hello = done(&made_up(&[sni(&[b"a.test"]), (4711, vec![1, 2, 3]), alpn(&[b"h2"])]));
    assert_eq!(hello, ClientHello { server_name: Some("a.test".to_owned()), alpn: vec![b"h2".to_vec()] });
}

#[test]
fn saying_something_twice_is_refused() {
    for twice in [
        made_up(&[sni(&[b"a.test"]), sni(&[b"b.test"])]),
        made_up(&[sni(&[b"a.test", b"b.test"])]),
        made_up(&[alpn(&[b"h2"]), alpn(&[b"h2"])]),
        made_up(&[(4711, vec![]), (4711, vec![])]),
    ] {
        assert_eq!(read(&twice), Err(HelloError::Duplicate));
    }
}

#[test]
fn bad_lists_are_refused() {
    assert_eq!(read(&made_up(&[sni(&[])])), Err(HelloError::Malformed));
    assert_eq!(read(&made_up(&[sni(&[b"10.0.0.1"])])), Err(HelloError::BadName));
    assert_eq!(read(&made_up(&[alpn(&[])])), Err(HelloError::BadAlpn));
    assert_eq!(read(&made_up(&[alpn(&[b""])])), Err(HelloError::BadAlpn));
    assert_eq!(read(&made_up(&[alpn(&[&b"x"[..]; MAX_PROTOCOLS + 1])])), Err(HelloError::BadAlpn));
}

#[test]
fn other_protocols_are_refused_at_their_first_bytes() {
    for (bytes, error) in [
        (&b"GET / HTTP/1.1\r\n"[..], HelloError::NotTls),
        (b"\x16\x02", HelloError::NotTls),
        (b"SSH-2.0-x", HelloError::NotTls),
        (b"\x15\x03\x01\x00\x02\x01\x00", HelloError::NotTls),
        (b"\x16\x03\x01\x00\x00", HelloError::NotTls),
        (b"\x16\x03\x01\xff\xff", HelloError::NotTls),
        (b"\x16\x03\x01\x00\x01\x02", HelloError::NotClientHello),
        (b"\x16\x03\x01\x00\x04\x01\xff\xff\xff", HelloError::TooLong),
    ] {
        assert_eq!(read(bytes), Err(error), "{bytes:?}");
    }
    assert_eq!(read(b""), Ok(Progress::More));
}

#[test]
fn endless_hello_is_refused_at_the_bound() {
    let wire = in_records(&[&[1, 0, 0x3f, 0xff][..], &[0; 0x3fff]].concat(), 1);
    assert_eq!(read(&wire[..MAX_BYTES - 1]), Ok(Progress::More));
    assert_eq!(read(&wire[..MAX_BYTES]), Err(HelloError::TooLong));
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in vec(any::<u8>(), 0..2_000)) {
        let _answer = read(&bytes);
    }

    #[test]
    fn any_handshake_message_is_survived(body in vec(any::<u8>(), 0..600), size in 1..600_usize) {
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        let _answer = read(&in_records(&[&[1][..], &length[1..], &body].concat(), size));
    }

    #[test]
    fn damaged_hellos_are_survived(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut wire = real("login.acme.test", &[b"h2"], false);
        let at = at.index(wire.len());
        wire[at] = byte;
        let _answer = read(&wire);
    }

    #[test]
    fn records_may_cut_the_message_anywhere(size in 5..4_000_usize, label in "[a-z][a-z0-9]{0,20}") {
        let name = format!("{label}.test");
        let message = message(&real(&name, &[b"sluice-tunnel/1"], false));
        let hello = done(&in_records(&message, size));
        prop_assert_eq!(hello.server_name, Some(name));
        prop_assert_eq!(hello.alpn, vec![b"sluice-tunnel/1".to_vec()]);
    }

    /// Every shorter prefix says "more", every longer one says the same as the whole.
    #[test]
    fn answers_never_change_with_more_bytes(behind in vec(any::<u8>(), 0..100), size in 5..700_usize) {
        let wire = in_records(&message(&real("login.acme.test", &[b"h2"], false)), size);
        let whole = read(&wire);
        for end in 0..wire.len() {
            prop_assert_eq!(read(&wire[..end]), Ok(Progress::More));
        }
        prop_assert_eq!(read(&[wire, behind].concat()), whole);
    }

    #[test]
    fn refusals_never_change_with_more_bytes(bytes in vec(prop_oneof![Just(22_u8), Just(3), Just(1), Just(0), any::<u8>()], 0..80)) {
        let mut settled = None;
        for end in 0..=bytes.len() {
            let answer = read(&bytes[..end]);
            if let Some(settled) = &settled {
                prop_assert_eq!(&answer, settled);
            } else if answer != Ok(Progress::More) {
                settled = Some(answer);
            }
        }
    }
}
