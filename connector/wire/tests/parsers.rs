//! Random, truncated and changed bytes never panic a parser and never pass one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod world;

use proptest::prelude::*;
use sluice_connector_wire::{
    AgentHello, AgentSays, ClassPair, FrameError, GatewaySays, MAX_FRAME, OpenReply, OpenRequest, Peer, RelayOpen,
    SignedAllowList, StreamClaims, Target, VerifyingKey, decode_frame, encode_frame, frame_length, sign_allow_list,
    sign_stream_token,
};
use sluice_node_identity::UnixTime;
use world::{NOW, World};

proptest! {
    #[test]
    fn random_bytes_are_no_frame_no_certificate_no_target(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(decode_frame::<AgentHello>(&bytes).is_err());
        prop_assert!(decode_frame::<OpenRequest>(&bytes).is_err());
        prop_assert!(decode_frame::<OpenReply>(&bytes).is_err());
        prop_assert!(decode_frame::<RelayOpen>(&bytes).is_err());
        prop_assert!(decode_frame::<AgentSays>(&bytes).is_err());
        prop_assert!(decode_frame::<GatewaySays>(&bytes).is_err());
        prop_assert!(Peer::from_leaf(&bytes).is_err());
        if let Ok(target) = String::from_utf8_lossy(&bytes).parse::<Target>() {
            prop_assert_eq!(target.to_string().parse::<Target>().unwrap(), target);
        }
    }

    #[test]
    fn random_text_is_no_token(text in "[A-Za-z0-9_.-]{0,400}") {
        prop_assert!(World::new().admit_direct(&text).is_err());
    }

    #[test]
    fn a_changed_or_cut_token_is_refused(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let mut world = World::new();
        let token = sign_stream_token(&world.claims(), &world.gateway).unwrap();
        let mut bytes = token.clone().into_bytes();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        let changed = String::from_utf8_lossy(&bytes).into_owned();
        prop_assume!(changed != token);
        prop_assert!(world.admit_direct(&changed).is_err());
        world.admit_direct(&token).expect("a refused variant spends nothing");
    }

    #[test]
    fn a_changed_list_is_refused(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let world = World::new();
        let signed = sign_allow_list(&world.list, &world.policy, Vec::new()).unwrap();
        let mut bytes = signed.jws.clone().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let changed = SignedAllowList { jws: String::from_utf8_lossy(&bytes).into_owned(), ..signed.clone() };
        prop_assume!(changed != signed);
        prop_assert!(world.fresh_keeper(None).offer(&changed, UnixTime(NOW)).is_err());
    }

    #[test]
    fn random_json_is_no_key(kty in "EC|RSA|OKP|oct", crv in "P-256|Ed25519|P-384", x in "[A-Za-z0-9_-]{0,90}", y in "[A-Za-z0-9_-]{0,90}") {
        let jwk = serde_json::json!({ "kty": kty, "crv": crv, "x": x, "y": y, "n": x, "e": y });
        if let Ok(key) = VerifyingKey::from_jwk(&jwk) {
            prop_assert!(!key.verifies(b"message", &[0; 64]));
            prop_assert_eq!(VerifyingKey::from_jwk(&key.to_jwk()).unwrap(), key);
        }
    }

    #[test]
    fn frames_come_back_as_they_were_sent(sid in "[A-Za-z0-9_-]{0,4000}") {
        let bytes = encode_frame(&AgentHello { sid: sid.clone(), pair: ClassPair::default() }).unwrap();
        let length = frame_length([bytes[0], bytes[1]]).unwrap();
        prop_assert_eq!(length, bytes.len() - 2);
        prop_assert_eq!(decode_frame::<AgentHello>(&bytes[2..]).unwrap().sid, sid);
        prop_assert!(decode_frame::<AgentHello>(&bytes[2..bytes.len() - 1]).is_err());
    }
}

#[test]
fn frames_are_bounded_both_ways() {
    assert_eq!(frame_length([0, 0]), Err(FrameError::Length(0)));
    assert_eq!(frame_length([0x20, 0x00]), Ok(MAX_FRAME));
    assert_eq!(frame_length([0x20, 0x01]), Err(FrameError::Length(MAX_FRAME + 1)));
    assert!(encode_frame(&AgentHello { sid: "x".repeat(MAX_FRAME), pair: ClassPair::default() }).is_err());
    assert!(encode_frame(&AgentHello { sid: "x".repeat(70_000), pair: ClassPair::default() }).is_err());
}

#[test]
fn unknown_and_repeated_members_are_refused() {
    assert!(decode_frame::<AgentHello>(br#"{"sid":"a","more":1}"#).is_err());
    assert!(decode_frame::<AgentHello>(br#"{"sid":"a","sid":"b"}"#).is_err());
    assert!(decode_frame::<OpenRequest>(br#"{"kind":"direct","token":"a","more":1}"#).is_err());
    assert!(decode_frame::<OpenRequest>(br#"{"kind":"sealed"} x"#).is_err());
    assert!(decode_frame::<AgentSays>(br#"{"say":"retire"}"#).is_ok());
    assert!(
        decode_frame::<AgentSays>(br#"{"say":"ping","number":-1,"rtt_micros":null,"streams":0,"room":0}"#).is_err()
    );
    assert!(decode_frame::<GatewaySays>(br#"{"say":"pong","number":1,"number":2}"#).is_err());
    let world = World::new();
    let mut claims = serde_json::to_value(world.claims()).unwrap();
    claims["admin"] = true.into();
    assert!(serde_json::from_value::<StreamClaims>(claims).is_err());
}

#[test]
fn a_request_never_shows_its_token_in_a_log() {
    let text = format!("{:?}", OpenRequest::Direct { token: "secret-token".to_owned() });
    assert!(!text.contains("secret-token"), "{text}");
}
