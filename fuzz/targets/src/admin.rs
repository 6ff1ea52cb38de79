//! What reaches control from its administrators and from gateways' users.

use sluice_control_server::{
    admin_api::ImportHubs,
    pages::{AssertionRefused, Expected, Spent, verify},
};
use sluice_node_identity::{Principal, SpiffeId};

use crate::{
    codec::{accepted, json, text},
    fixtures::{NOW, assertion_key, payload, sign_p256},
};

/// Lists of hubs: every row names a hub that can have a certificate.
pub fn hub_import(data: &[u8]) {
    let Some(list) = json::<ImportHubs>(data) else { return };
    accepted();
    for hub in list.hubs {
        let principal = Principal::Hub { tenant: "acme".parse().unwrap(), id: hub.id };
        let name = SpiffeId { trust_domain: "sluice.test".parse().unwrap(), principal };
        assert_eq!(name.to_string().parse(), Ok(name));
        assert!(hub.site.as_str().len() <= 63);
    }
}

/// A gateway's word about its user: believed only for this tenant, this login host, the feed, now, and once. An `s` in
/// front has header and claims (a line each) signed by the gateway.
pub fn assertion(data: &[u8]) {
    let token = match data.split_first() {
        Some((b's', signed)) => {
            let mut parts = signed.splitn(2, |byte| *byte == b'\n');
            sign_p256(3, parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
        }
        _ => text(data),
    };
    let (key, tenant) = (assertion_key(), "acme".parse().unwrap());
    let expected = Expected { tenant: &tenant, login_host: "login.acme.test", key: key.jwk() };
    let Ok(assertion) = verify(&token, &expected, NOW) else { return };
    accepted();
    let claims = payload(&token).unwrap();
    assert_eq!(claims["tenant"], "acme");
    assert_eq!(claims["iss"], "https://login.acme.test");
    assert_eq!(claims["aud"], "feed");
    let (iat, exp) = (claims["iat"].as_u64().unwrap(), claims["exp"].as_u64().unwrap());
    assert!(iat < exp && exp - iat <= 60 && iat <= NOW.0 + 30 && NOW.0 < exp + 30);
    assert_eq!(serde_json::to_value(&assertion).unwrap(), claims);
    let other = "other".parse().unwrap();
    for stranger in [
        Expected { tenant: &other, ..expected },
        Expected { login_host: "login.other.test", ..expected },
        Expected { key: &serde_json::Value::Null, ..expected },
    ] {
        assert!(verify(&token, &stranger, NOW).is_err(), "believed for {stranger:?}");
    }
    assert_eq!(verify(&token, &expected, NOW.plus(200)), Err(AssertionRefused::Time));
    let (mut spent, gateway) = (Spent::default(), "dmz-1".parse().unwrap());
    spent.spend(&gateway, &assertion, NOW).unwrap();
    assert_eq!(spent.spend(&gateway, &assertion, NOW), Err(AssertionRefused::Replayed));
}
