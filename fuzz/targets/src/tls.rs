//! What comes before TLS: ClientHellos and PROXY headers.

use std::net::SocketAddr;

use rustls::server::Acceptor;
use sluice_node_hello::{ClientHello, MAX_BYTES, MAX_PROTOCOLS, Progress, read};

use crate::{
    codec::{accepted, cuts, run},
    proxy_reader, proxy_writer,
};

/// ClientHellos: an answer never changes when more bytes come, and the TLS library that will do the handshake reads
/// the same names.
pub fn client_hello(data: &[u8]) {
    let whole = read(data);
    for cut in cuts(data) {
        match read(&data[..cut]) {
            Ok(Progress::More) => {}
            early => assert_eq!(early, whole, "the first {cut} bytes were judged otherwise"),
        }
    }
    match &whole {
        Ok(Progress::Done(hello)) => {
            accepted();
            has_sound_names(hello);
            let behind = [data, b"\x17\x03\x03\x00\x01x"].concat();
            assert_eq!(read(&behind), whole, "what follows a ClientHello changed it");
            if data.len() <= MAX_BYTES {
                agrees_with_rustls(data, hello);
            }
        }
        Ok(Progress::More) => assert!(data.len() < MAX_BYTES, "more was asked for than is ever looked at"),
        Err(_) => {}
    }
}

fn has_sound_names(hello: &ClientHello) {
    if let Some(name) = &hello.server_name {
        assert!(name.len() <= 253 && *name == name.to_ascii_lowercase(), "{name:?}");
        assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_')), "{name:?}");
        assert!(name.parse::<std::net::IpAddr>().is_err(), "an address passed for a name");
    }
    assert!(hello.alpn.len() <= MAX_PROTOCOLS && hello.alpn.iter().all(|protocol| hello.offers(protocol)));
}

fn agrees_with_rustls(data: &[u8], ours: &ClientHello) {
    let (mut acceptor, mut rest) = (Acceptor::default(), data);
    while !rest.is_empty() {
        if !acceptor.read_tls(&mut rest).is_ok_and(|read| read > 0) {
            return;
        }
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(accepted)) => {
                let theirs = accepted.client_hello();
                let name = theirs.server_name().map(str::to_ascii_lowercase);
                assert_eq!(ours.server_name, name, "two readers, two server names");
                let alpn: Vec<Vec<u8>> = theirs.alpn().into_iter().flatten().map(<[u8]>::to_vec).collect();
                assert_eq!(ours.alpn, alpn, "two readers, two lists of protocols");
                return;
            }
            // It may refuse what is none of our business (versions, key shares).
            Err(_) => return,
        }
    }
}

/// PROXY headers: bounded, prefix by prefix, and what the gateway writes is what control reads.
pub fn proxy_header(data: &[u8]) {
    let (found, taken) = read_header(data);
    assert!(taken <= 16 + 512, "{taken} bytes were taken for a header");
    let Some(source) = found else { return };
    accepted();
    for cut in cuts(&data[..taken]).into_iter().filter(|cut| *cut < taken) {
        assert_eq!(read_header(&data[..cut]).0, None, "a header was read from a part of itself");
    }
    if let Some(source) = source {
        let destination: SocketAddr = "192.0.2.1:443".parse().unwrap();
        let written = proxy_writer::proxy_v2(source, destination);
        assert_eq!(read_header(&written), (Some(Some(source)), written.len()), "the gateway writes otherwise");
    }
}

fn read_header(data: &[u8]) -> (Option<Option<SocketAddr>>, usize) {
    let mut rest = data;
    let found = run(proxy_reader::read(&mut rest)).ok();
    (found, data.len() - rest.len())
}
