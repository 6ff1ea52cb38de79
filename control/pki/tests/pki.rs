//! Authorities, requests and CMS, checked by rustls, OpenSSL and random bytes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "the crate is pure; its tests ask OpenSSL")]

use std::{io::Write, process::Command};

use proptest::prelude::*;
use rcgen::{CertificateParams, KeyPair, PublicKeyData, RsaKeySize, SigningKey};
use sluice_control_pki::{
    Authority, CertFacts, Csr, KeyKind, Leaf, NODE_SECONDS, PkiError, Usage, certs_only, pem_chain,
};
use sluice_node_identity::{Fingerprint, UnixTime};

const NOW: UnixTime = UnixTime(1_800_000_000);

fn root() -> Authority {
    Authority::create("test root", &KeyPair::generate().unwrap().serialize_der(), NOW, &[0x80; 16]).unwrap()
}

fn request(key: &KeyPair) -> Vec<u8> {
    let params = CertificateParams::new(vec!["whatever.example".to_owned()]).unwrap();
    params.serialize_request(key).unwrap().der().to_vec()
}

fn rsa(size: RsaKeySize) -> KeyPair {
    KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size).unwrap()
}

fn openssl(args: &[&str], input: &[u8]) -> String {
    let mut child = Command::new("openssl")
        .args(args)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("this test needs the openssl program");
    child.stdin.take().unwrap().write_all(input).unwrap();
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn a_leaf_carries_our_names_and_nothing_of_the_request() {
    let root = root();
    for key in [KeyPair::generate().unwrap(), rsa(RsaKeySize::_3072)] {
        let csr = Csr::from_der(&request(&key)).unwrap();
        assert_eq!(csr.key(), Fingerprint::of(&key.subject_public_key_info()));
        let name = "spiffe://sluice.test/tenant/acme/connector/dc-1".parse().unwrap();
        let leaf = Leaf {
            key: csr.spki(),
            name: Some(name),
            hosts: vec!["gw.acme.test".to_owned()],
            addresses: vec!["192.0.2.1".parse().unwrap()],
            usage: Usage::Both,
            seconds: NODE_SECONDS,
        };
        let issued = root.issue(&leaf, NOW, &[0xff; 16]).unwrap();
        let facts = CertFacts::of(&issued.der).unwrap();
        assert_eq!((facts.key, facts.name, facts.not_after), (csr.key(), leaf.name.clone(), NOW.plus(NODE_SECONDS)));
        let text = openssl(&["x509", "-noout", "-text"], issued.pem.as_bytes());
        for want in [
            "CN = dc-1",
            "URI:spiffe://sluice.test/tenant/acme/connector/dc-1, DNS:gw.acme.test, IP Address:192.0.2.1",
            "CA:FALSE",
            "TLS Web Server Authentication, TLS Web Client Authentication",
            "ff:ff:ff:ff:ff:ff:ff:ff:ff:ff:ff:ff:ff:ff:ff:ff",
        ] {
            assert!(text.contains(want), "{want} not in {text}");
        }
        assert!(!text.contains("whatever"), "{text}");
    }
}

#[test]
fn a_root_reopens_with_its_own_key_only_and_verifies_its_leaves() {
    let key = KeyPair::generate().unwrap();
    let root = Authority::create("r", &key.serialize_der(), NOW, &[1; 16]).unwrap();
    let again = Authority::open(&key.serialize_der(), root.pem()).unwrap();
    assert_eq!(again.pin(), root.pin());
    let other = KeyPair::generate().unwrap();
    assert!(matches!(Authority::open(&other.serialize_der(), root.pem()), Err(PkiError::Authority(_))));

    let spki = other.subject_public_key_info();
    let leaf = Leaf {
        key: &spki,
        name: None,
        hosts: vec!["a.test".into()],
        addresses: vec![],
        usage: Usage::Server,
        seconds: 60,
    };
    let issued = again.issue(&leaf, NOW, &[2; 16]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("root.pem");
    std::fs::write(&file, root.pem()).unwrap();
    let at = (NOW.0 + 1).to_string();
    let args = ["verify", "-x509_strict", "-attime", &at, "-CAfile", file.to_str().unwrap()];
    assert!(openssl(&args, issued.pem.as_bytes()).contains("OK"));
}

#[test]
fn weak_foreign_and_unproved_keys_are_refused() {
    let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let ed = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    for key in [p384, ed, rsa(RsaKeySize::_2048)] {
        assert_eq!(Csr::from_der(&request(&key)), Err(PkiError::Key));
    }
    let (a, b) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut forged = request(&a);
    let (from, to) = (a.der_bytes().to_vec(), b.der_bytes().to_vec());
    let at = forged.windows(from.len()).position(|window| window == from).unwrap();
    forged[at..at + to.len()].copy_from_slice(&to);
    assert_eq!(Csr::from_der(&forged), Err(PkiError::Proof));
}

#[test]
fn proofs_are_checked_with_the_requests_key() {
    for key in [KeyPair::generate().unwrap(), rsa(RsaKeySize::_3072)] {
        let csr = Csr::from_der(&request(&key)).unwrap();
        let proof = key.sign(b"message").unwrap();
        csr.verify(b"message", &proof).unwrap();
        assert_eq!(csr.verify(b"other", &proof), Err(PkiError::Proof));
        assert_eq!(csr.verify(b"message", &proof[1..]), Err(PkiError::Proof));
    }
    assert_eq!(Csr::from_der(&request(&rsa(RsaKeySize::_3072))).unwrap().kind(), KeyKind::Rsa);
}

#[test]
fn openssl_reads_the_cms_envelope() {
    let (a, b) = (root(), root());
    let cms = certs_only(&[a.der(), b.der()]).unwrap();
    let text = openssl(&["pkcs7", "-inform", "DER", "-print_certs"], &cms);
    let mut found = pem_chain(&text[text.find("-----BEGIN").unwrap()..]).unwrap();
    let mut want = vec![a.der().to_vec(), b.der().to_vec()];
    found.sort();
    want.sort();
    assert_eq!(found, want);
    assert!(matches!(certs_only(&[b"no certificate"]), Err(PkiError::Certificate(_))));
}

proptest! {
    #[test]
    fn random_bytes_are_no_request(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Csr::from_der(&bytes).is_err());
        prop_assert!(CertFacts::of(&bytes).is_err());
        prop_assert!(Csr::from_pem(&String::from_utf8_lossy(&bytes)).is_err());
    }

    #[test]
    fn a_request_with_a_changed_byte_is_refused(at in any::<prop::sample::Index>(), flip in 1u8..) {
        let mut der = request(&KeyPair::generate().unwrap());
        let at = at.index(der.len());
        der[at] ^= flip;
        prop_assert!(Csr::from_der(&der).is_err());
        prop_assert!(Csr::from_der(&der[..at]).is_err());
    }
}
