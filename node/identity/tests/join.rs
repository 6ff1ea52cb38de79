//! Join codes: the text, and who may use one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use proptest::{collection::vec, prelude::*};
use sluice_node_identity::{
    CodeBinding, CodeUse, Fingerprint, JoinCode, JoinCodeError, JoinSecret, SpiffeId, UnixTime, proof_message,
};

fn code(random: [u8; 16]) -> JoinCode {
    JoinCode {
        url: "https://node.sluice.test:8443".to_owned(),
        root_pin: Fingerprint::of(b"root"),
        policy_thumbprint: "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs".to_owned(),
        secret: JoinSecret::new(random),
    }
}

fn key(number: u8) -> Fingerprint {
    Fingerprint::of(&[number])
}

fn free(valid_until: u64) -> CodeBinding {
    let digest = JoinSecret::new([1; 16]).digest();
    CodeBinding { digest, valid_until: UnixTime(valid_until), bound: None, alarmed: false }
}

fn right() -> Fingerprint {
    JoinSecret::new([1; 16]).digest()
}

#[derive(Clone, Debug)]
struct Attempt {
    key: u8,
    is_right: bool,
    later: u64,
}

fn attempt() -> impl Strategy<Value = Attempt> {
    let later = prop_oneof![0..200_u64, 80_000..90_000_u64];
    (0..3_u8, prop::bool::weighted(0.8), later).prop_map(|(key, is_right, later)| Attempt { key, is_right, later })
}

proptest! {
    #[test]
    fn code_survives_printing_and_copying(random in any::<[u8; 16]>()) {
        let code = code(random);
        prop_assert_eq!(format!("  {code}\n").parse::<JoinCode>(), Ok(code));
    }

    #[test]
    fn any_text_is_survived(text in ".{0,300}", bytes in vec(any::<u8>(), 0..300)) {
        use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
        let _refused = text.parse::<JoinCode>();
        let _refused = format!("slj1_{text}").parse::<JoinCode>();
        let _refused = format!("slj1_{}", URL_SAFE_NO_PAD.encode(bytes)).parse::<JoinCode>();
        let _refused = JoinSecret::from_text(&text);
        let _refused = text.parse::<SpiffeId>();
    }

    #[test]
    fn cut_or_altered_code_is_never_another_code(random in any::<[u8; 16]>(), at in any::<prop::sample::Index>(), byte in b'!'..b'~') {
        let whole = code(random).to_string();
        let cut = &whole[..at.index(whole.len())];
        prop_assert!(cut.parse::<JoinCode>().is_err());
        let mut altered = whole.clone().into_bytes();
        let at = at.index(altered.len());
        altered[at] = byte;
        if let Ok(read) = String::from_utf8(altered).unwrap().parse::<JoinCode>() {
            prop_assert_eq!(read.secret.to_text().len(), 22);
        }
    }

    #[test]
    fn spiffe_names_survive_printing(tenant in "[a-z0-9]{1,20}", id in "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", role in "gateway|edge|connector|hub") {
        let text = format!("spiffe://sluice.test/tenant/{tenant}/{role}/{id}");
        prop_assert_eq!(text.parse::<SpiffeId>().unwrap().to_string(), text);
    }

    /// One key at most ever gets a certificate for a code, in time or within a day of its first use.
    #[test]
    fn c4_code_serves_one_key_in_time(attempts in vec(attempt(), 0..40)) {
        let mut code = free(900);
        let mut now = UnixTime(0);
        let mut served: Option<(u8, UnixTime)> = None;
        let mut alarmed = false;
        for Attempt { key: number, is_right, later } in attempts {
            now = now.plus(later);
            let digest = if is_right { right() } else { JoinSecret::new([2; 16]).digest() };
            let expected = match served {
                _ if !is_right => "refused",
                None if now.0 > 900 => "refused",
                None => "bound",
                Some((first, at)) if first == number && now.since(at) <= 86_400 => "repeated",
                Some((first, _)) if first == number => "refused",
                Some(_) => "second key",
            };
            let got = match code.attempt(&digest, &key(number), now) {
                CodeUse::Bind(next) => {
                    code = next;
                    served = Some((number, now));
                    "bound"
                }
                CodeUse::Repeat => "repeated",
                CodeUse::SecondKey(next) => {
                    code = next;
                    alarmed = true;
                    "second key"
                }
                CodeUse::Refused => "refused",
            };
            prop_assert_eq!(got, expected);
            prop_assert_eq!(code.alarmed, alarmed);
            prop_assert_eq!(code.bound.clone(), served.map(|(number, at)| (key(number), at)));
        }
    }
}

#[test]
fn text_without_the_prefix_is_told_apart_from_a_damaged_one() {
    assert_eq!("hello".parse::<JoinCode>(), Err(JoinCodeError::Prefix));
    assert_eq!("slj1_".parse::<JoinCode>(), Err(JoinCodeError::Damaged));
    assert_eq!("slj1_e30".parse::<JoinCode>(), Err(JoinCodeError::Damaged));
}

#[test]
fn secret_never_shows_in_debug_output() {
    let code = code([7; 16]);
    assert!(!format!("{code:?}").contains(&code.secret.to_text()));
    assert!(format!("{code:?}").contains("redacted"));
}

#[test]
fn proof_depends_on_nonce_and_request() {
    let message = proof_message(b"nonce", b"request");
    assert_ne!(message, proof_message(b"nonce2", b"request"));
    assert_ne!(message, proof_message(b"nonce", b"request2"));
    assert_ne!(message, proof_message(b"noncer", b"equest"));
}

#[test]
fn names_of_other_shapes_are_refused() {
    for bad in [
        "",
        "spiffe://",
        "spiffe:///control",
        "https://sluice.test/control",
        "spiffe://sluice.test",
        "spiffe://sluice.test/",
        "spiffe://sluice.test/control/",
        "spiffe://sluice.test//control",
        "spiffe://Sluice.test/control",
        "spiffe://sluice.test/tenant/acme/gateway",
        "spiffe://sluice.test/tenant/acme/gateway/a/b",
        "spiffe://sluice.test/tenant/acme/admin/a",
        "spiffe://sluice.test/tenant/../gateway/a",
        "spiffe://sluice.test/tenant/a%63me/gateway/a",
        "spiffe://user@sluice.test/control",
        "spiffe://sluice.test:443/control",
        "spiffe://sluice.test/control?x",
        "spiffe://sluice.test/control#x",
        "spiffe://sluice.test/tenant/-a/gateway/a",
        "spiffe://sluice.test/tenant/A/gateway/a",
    ] {
        assert!(bad.parse::<SpiffeId>().is_err(), "{bad}");
    }
}
