//! The tunnel's own words: frames, stream tokens, allow-lists, keys.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use sluice_connector_mux::read_frame;
use sluice_connector_wire::{
    AgentHello, AgentSays, AllowList, AllowListKeeper, Gatekeeper, GatewaySays, MAX_EXCEPTION, MAX_FRAME,
    MAX_LIST_LIFE, MAX_TOKEN_LIFE, OpenReply, OpenRequest, Presented, Question, Refusal, RelayOpen, SignedAllowList,
    StreamKind, TOKEN_LEEWAY, Target, VerifyingKey, decode_frame, encode_frame, explain, frame_length, thumbprint,
};

use crate::{
    codec::{accepted, json, run, text},
    fixtures::{CNF, GATEWAY, NOW, SID, keeper, payload, policy_key, sign_ed25519, sign_p256, signed_allow_list},
};

const MANY: usize = 8;

/// Frames: survive a round trip, and the shell takes exactly the bytes of one frame.
///
/// The bytes are read as they are, and once more behind a length that is right.
pub fn tunnel_frame(data: &[u8]) {
    one_frame(data);
    let body = data.get(2..).unwrap_or_default();
    one_frame(&[&u16::try_from(body.len()).unwrap_or(u16::MAX).to_be_bytes()[..], body].concat());
}

fn one_frame(data: &[u8]) {
    frame::<AgentHello>(data);
    frame::<AgentSays>(data);
    frame::<GatewaySays>(data);
    frame::<OpenReply>(data);
    frame::<RelayOpen>(data);
    if let Some(OpenRequest::Direct { token }) = frame::<OpenRequest>(data) {
        let shown = format!("{:?}", OpenRequest::Direct { token: token.clone() });
        assert!(token.len() < 12 || !shown.contains(&token), "a token is shown");
    }
}

fn frame<T: Serialize + DeserializeOwned>(data: &[u8]) -> Option<T> {
    let mut rest = data;
    let read: Option<T> = run(read_frame(&mut rest, std::time::Duration::from_secs(5))).ok();
    let taken = data.len() - rest.len();
    assert!(taken <= 2 + MAX_FRAME);
    let pure: Option<T> = data.split_first_chunk::<2>().and_then(|(header, behind)| {
        let body = behind.get(..frame_length(*header).ok()?)?;
        decode_frame(body).ok()
    });
    assert_eq!(read.is_some(), pure.is_some(), "shell and core read frames differently");
    let message = read?;
    accepted();
    let written = encode_frame(&message).expect("what fits a frame, fits it again");
    let again: T = decode_frame(&written[2..]).unwrap();
    assert_eq!(encode_frame(&again).unwrap(), written);
    Some(message)
}

/// Stream tokens: what is granted is granted by a rule, once, to the one who presents it. An `s` in front has header and
/// claims (a line each) signed by the gateway.
pub fn stream_token(data: &[u8]) {
    let token = match data.split_first() {
        Some((b's', signed)) => {
            let mut parts = signed.splitn(2, |byte| *byte == b'\n');
            sign_ed25519(2, parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
        }
        _ => text(data),
    };
    let mut gatekeeper = Gatekeeper::new(keeper(), MANY);
    let direct = Presented { kind: StreamKind::Direct, caller: GATEWAY, sid: SID, cnf: CNF };
    for other in [
        Presented { kind: StreamKind::Sealed, ..direct },
        Presented { caller: "dmz-9", ..direct },
        Presented { sid: "AAAA", ..direct },
        Presented { cnf: "AAAA", ..direct },
    ] {
        assert!(gatekeeper.admit(&token, &other, NOW).is_err(), "granted to {other:?}");
    }
    match gatekeeper.admit(&token, &direct, NOW) {
        Ok(granted) => {
            accepted();
            let claims = payload(&token).unwrap();
            let claim = |name: &str| claims[name].as_str().unwrap().to_owned();
            assert_eq!((claim("iss"), claim("aud")), (GATEWAY.to_owned(), "dc-1".to_owned()));
            assert_eq!((claim("sid"), claim("cnf")), (SID.to_owned(), CNF.to_owned()));
            let (iat, exp) = (claims["iat"].as_u64().unwrap(), claims["exp"].as_u64().unwrap());
            assert!(iat < exp && exp - iat <= MAX_TOKEN_LIFE);
            assert!(iat <= NOW.0 + TOKEN_LEEWAY && NOW.0 <= exp + TOKEN_LEEWAY);
            let host = &granted.target().host;
            assert!(host == "roundup.dc.test" || host.ends_with(".web.dc.test"), "{host} is on no rule");
            assert!(gatekeeper.list().unwrap().still_allows(&granted, NOW).is_some());
            assert_eq!(gatekeeper.admit(&token, &direct, NOW).unwrap_err(), Refusal::Spent);
        }
        Err(refusal) => {
            let reply = encode_frame(&OpenReply::from(&refusal)).expect("a refusal fits a frame");
            assert!(token.len() < 12 || !text(&reply).contains(&token), "a refusal repeats the token");
        }
    }
}

/// Allow-lists: a refused one changes nothing, a taken one goes forward. An `s` in front has the list signed by the
/// tenant's policy key.
pub fn allow_list(data: &[u8]) {
    let signed = match data.split_first() {
        Some((b's', list)) => {
            let kid = policy_key().thumbprint();
            let header = format!(r#"{{"alg":"ES256","typ":"sluice-allow-list+jwt","kid":"{kid}"}}"#);
            let jws = sign_p256(1, header.as_bytes(), list);
            SignedAllowList { jws, ..signed_allow_list().clone() }
        }
        _ => match json(data) {
            Some(signed) => signed,
            None => return,
        },
    };
    let mut keeper = keeper();
    let (before, position) = (list_of(&keeper), keeper.position().cloned().unwrap());
    if keeper.offer(&signed, NOW).is_err() {
        assert_eq!(
            (list_of(&keeper), keeper.position()),
            (before, Some(&position)),
            "a refused list changed something"
        );
        return;
    }
    accepted();
    let (list, after) = (list_of(&keeper).unwrap(), keeper.position().cloned().unwrap());
    assert!((after.epoch, after.version) >= (position.epoch, position.version), "the list went back");
    assert_eq!((list.tenant.as_str(), list.connector.as_str()), ("acme", "dc-1"));
    assert!(list.not_after >= NOW && list.not_after.since(NOW) <= MAX_LIST_LIFE + 300);
    for rule in &list.rules {
        let end = rule.exception.map_or(0, |exception| exception.until.since(exception.made));
        assert!(end <= MAX_EXCEPTION, "an exception of {end} s");
        let target = Target { protocol: rule.protocol, host: "roundup.dc.test".to_owned(), port: rule.ports.from };
        let _said = explain(&list, &Question { caller: GATEWAY, resource: None, target: &target }, NOW);
    }
    let meant: AllowList = serde_json::from_value(payload(&signed.jws).unwrap()).unwrap();
    assert_eq!(list, meant, "something else than what was signed");
    keeper.offer(&signed, NOW).expect("the same list again is fine");
    if (after.epoch, after.version) > (position.epoch, position.version) {
        assert!(keeper.offer(signed_allow_list(), NOW).is_err(), "the list went back");
    }
}

fn list_of(keeper: &AllowListKeeper) -> Option<AllowList> {
    keeper.current().map(|checked| checked.list().clone())
}

/// Keys: one spelling after reading, never a private one, and none that verifies anything.
pub fn jwk(data: &[u8]) {
    let Ok(jwk) = serde_json::from_slice::<Value>(data) else { return };
    let Ok(key) = VerifyingKey::from_jwk(&jwk) else { return };
    assert!(["d", "p", "q", "k"].iter().all(|member| jwk.get(member).is_none()), "a private key was taken");
    accepted();
    let written = key.to_jwk();
    assert_eq!(VerifyingKey::from_jwk(&written).as_ref(), Ok(&key));
    assert_eq!(thumbprint(&written), Ok(key.thumbprint()));
    for signature in [&[][..], &[0; 64], &[0; 384], data] {
        assert!(!key.verifies(b"sluice", signature), "a key verifies what nobody signed");
    }
}
