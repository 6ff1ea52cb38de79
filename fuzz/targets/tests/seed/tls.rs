//! ClientHellos, PROXY headers, certificates, requests.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P384_SHA384, SanType};
use rustls::{ClientConfig, ClientConnection, RootCertStore, crypto::aws_lc_rs};
use sluice_control_pki::{Leaf, Usage};
use sluice_fuzz_targets::fixtures::{NOW, authority, p256};

use super::{Seed, seed};

pub(crate) fn seeds() -> Vec<Seed> {
    let mut seeds = hellos();
    seeds.extend(proxies());
    seeds.extend(certificates());
    seeds.extend(requests());
    seeds
}

fn long(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &long(content)].concat()
}

fn server_name(names: &[&str]) -> Vec<u8> {
    let names: Vec<u8> = names.iter().flat_map(|name| [vec![0], long(name.as_bytes())].concat()).collect();
    extension(0, &long(&names))
}

fn alpn(protocols: &[&str]) -> Vec<u8> {
    let list: Vec<u8> =
        protocols.iter().flat_map(|p| [vec![u8::try_from(p.len()).unwrap()], p.as_bytes().to_vec()].concat()).collect();
    extension(16, &long(&list))
}

/// A ClientHello message.
fn message(extensions: &[Vec<u8>]) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 4, 0x13, 1, 0x13, 2, 1, 0]);
    body.extend(long(&extensions.concat()));
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[1][..], &length[1..], &body].concat()
}

fn records(message: &[u8], size: usize) -> Vec<u8> {
    message.chunks(size).flat_map(|piece| [vec![22, 3, 1], long(piece)].concat()).collect()
}

fn hello(extensions: &[Vec<u8>]) -> Vec<u8> {
    records(&message(extensions), 1 << 14)
}

/// What our own TLS library sends.
fn rustls_hello() -> Vec<u8> {
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap();
    let mut config = config.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    config.alpn_protocols = vec![b"sluice-tunnel/1".to_vec()];
    let mut client = ClientConnection::new(Arc::new(config), "dmz-1.acme.test".try_into().unwrap()).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

fn hellos() -> Vec<Seed> {
    let plain = [server_name(&["login.acme.test"]), alpn(&["h2", "http/1.1"])];
    let versions = extension(43, &[2, 3, 4]);
    let groups = extension(10, &[0, 2, 0, 29]);
    let schemes = extension(13, &[0, 2, 4, 3]);
    let full = [plain[0].clone(), plain[1].clone(), versions, groups, schemes];
    let mut no_suites = hello(&plain);
    no_suites[45] = 1;
    let mut too_long = hello(&plain);
    too_long[6] = 1;
    let name = |names: &[&str]| hello(&[server_name(names)]);
    let one = |name, bytes: Vec<u8>| seed("client_hello", name, bytes);
    vec![
        one("good-rustls", rustls_hello()),
        one("good-plain", hello(&plain)),
        one("good-full", hello(&full)),
        one("good-no-extensions", hello(&[])),
        one("good-cve-2024-11738-split-over-records", records(&message(&full), 7)),
        one("good-one-byte-records", records(&message(&plain), 1)),
        one("good-upper-case", name(&["LOGIN.Acme.TEST"])),
        one("good-followed", [hello(&plain), b"\x14\x03\x03\0\x01\x01".to_vec()].concat()),
        one("bad-truncated", hello(&plain)[..60].to_vec()),
        one("bad-empty-record", [&[22, 3, 1, 0, 0][..], &hello(&plain)].concat()),
        one("bad-two-names", name(&["a.test", "b.test"])),
        one("bad-two-name-extensions", hello(&[server_name(&["a.test"]), server_name(&["b.test"])])),
        one("bad-address", name(&["192.0.2.1"])),
        one("bad-nul-in-name", name(&["login.acme.test\0.evil.test"])),
        one("bad-trailing-dot", name(&["login.acme.test."])),
        one("bad-empty-name", name(&[""])),
        one("bad-empty-protocol", hello(&[alpn(&["", "h2"])])),
        one("bad-many-protocols", hello(&[alpn(&["x"; 40])])),
        one("bad-odd-suites", no_suites),
        one("bad-length-of-a-megabyte", too_long),
        one("bad-http", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        one("bad-ssl2", vec![0x80, 0x2e, 1, 3, 1]),
        one("bad-alert", vec![21, 3, 3, 0, 2, 2, 40]),
        one("bad-server-hello", vec![22, 3, 3, 0, 4, 2, 0, 0, 0]),
        one("bad-empty", Vec::new()),
    ]
}

fn proxies() -> Vec<Seed> {
    const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
    let header = |version: u8, family: u8, body: &[u8]| [SIGNATURE, &[version, family], &long(body)].concat();
    let four = [192, 0, 2, 7, 10, 0, 0, 1, 0x12, 0x67, 1, 0xbb];
    let six = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[7], &[0; 15], &[1], &[0x12, 0x67, 1, 0xbb]].concat();
    let mapped = [&[0; 10][..], &[0xff, 0xff, 192, 0, 2, 7], &[0; 15], &[1], &[0x12, 0x67, 1, 0xbb]].concat();
    let one = |name, bytes: Vec<u8>| seed("proxy_header", name, bytes);
    vec![
        one("good-ipv4", [header(0x21, 0x11, &four), hello(&[])].concat()),
        one("good-ipv6", header(0x21, 0x21, &six)),
        one("good-mapped", header(0x21, 0x21, &mapped)),
        one("good-additions", header(0x21, 0x11, &[&four[..], &[4, 0, 3, 1, 2, 3]].concat())),
        one("good-local", header(0x20, 0, &[])),
        one("good-unspecified", header(0x21, 0, &[1, 2, 3])),
        one("bad-short-addresses", header(0x21, 0x11, &four[..11])),
        one("bad-udp", header(0x21, 0x12, &four)),
        one("bad-unix", header(0x21, 0x31, &[0; 216])),
        one("bad-version-1-in-2", header(0x11, 0x11, &four)),
        one("bad-too-long", header(0x21, 0x11, &[0; 513])),
        one("bad-version-1", b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 443\r\n".to_vec()),
        one("bad-tls", hello(&[])),
        one("bad-truncated", header(0x21, 0x11, &four)[..20].to_vec()),
    ]
}

fn certificates() -> Vec<Seed> {
    let key = KeyPair::try_from(p256(5)).unwrap();
    let spki = rcgen::PublicKeyData::subject_public_key_info(&key);
    let issue = |name: Option<&str>, hosts: &[&str]| {
        let leaf = Leaf {
            key: &spki,
            name: name.map(|name| name.parse().unwrap()),
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            addresses: Vec::new(),
            usage: Usage::Both,
            seconds: 604_800,
        };
        authority().issue(&leaf, NOW, &[3; 16]).unwrap()
    };
    let own = |uris: &[&str]| {
        let mut params = CertificateParams::default();
        params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
        params.self_signed(&key).unwrap().der().to_vec()
    };
    let gateway = issue(Some("spiffe://sluice.test/tenant/acme/gateway/dmz-1"), &["dmz-1.acme.test"]);
    let two = own(&["spiffe://sluice.test/control", "spiffe://sluice.test/tenant/acme/gateway/dmz-1"]);
    let chain = [gateway.pem.as_str(), authority().pem()].concat();
    let one = |name, bytes: Vec<u8>| seed("certificate", name, bytes);
    vec![
        one("good-gateway", gateway.der.clone()),
        one("good-hub", issue(Some("spiffe://sluice.test/tenant/acme/hub/h1"), &[]).der),
        one("good-control", issue(Some("spiffe://sluice.test/control"), &[]).der),
        one("bad-no-name", issue(None, &["est.acme.test"]).der),
        one("bad-two-names", two),
        one("bad-foreign-name", own(&["https://acme.test/"])),
        one("bad-role", own(&["spiffe://sluice.test/tenant/acme/owner/x"])),
        one("bad-bytes-behind", [gateway.der.clone(), vec![0]].concat()),
        one("bad-truncated", gateway.der[..200].to_vec()),
        one("bad-empty-bit-string", [0x30, 8, 0x30, 0, 0x30, 0, 3, 2, 0, 0].to_vec()),
        one("bad-indefinite-length", [0x30, 0x80, 0, 0].to_vec()),
        one("bad-long-length", [0x30, 0x84, 0xff, 0xff, 0xff, 0xff].to_vec()),
        seed("pem_chain", "good-chain", chain.clone()),
        seed("pem_chain", "good-one", gateway.pem.clone()),
        seed("pem_chain", "good-crlf", gateway.pem.replace('\n', "\r\n")),
        seed(
            "pem_chain",
            "bad-key-among-them",
            format!("{chain}-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
        ),
        seed("pem_chain", "bad-empty", ""),
        seed("pem_chain", "bad-end", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"),
        seed("pem_chain", "bad-base64", "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n"),
    ]
}

fn requests() -> Vec<Seed> {
    let key = KeyPair::try_from(p256(5)).unwrap();
    let other = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    let names = vec!["dmz-1.acme.test".to_owned()];
    let request = |key: &KeyPair| CertificateParams::new(names.clone()).unwrap().serialize_request(key).unwrap();
    let good = request(&key);
    let der = good.der().to_vec();
    let mut forged = der.clone();
    *forged.last_mut().unwrap() ^= 1;
    let as_certificate = good.pem().unwrap().replace("CERTIFICATE REQUEST", "CERTIFICATE");
    vec![
        seed("csr", "good-der", der.clone()),
        seed("csr", "good-pem", good.pem().unwrap()),
        seed("csr", "good-new-pem", good.pem().unwrap().replace("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST")),
        seed("csr", "bad-signature", forged),
        seed("csr", "bad-p384", request(&other).der().to_vec()),
        seed("csr", "bad-base64", STANDARD.encode(&der)),
        seed("csr", "bad-tag", as_certificate),
        seed("csr", "bad-bytes-behind", [der.clone(), vec![5, 0]].concat()),
        seed("csr", "bad-truncated", der[..90].to_vec()),
        seed("csr", "bad-empty", ""),
    ]
}
