//! Documents that are refused, whole.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn document() -> serde_json::Value {
    json!({
        "tenant": "acme", "login_host": "login.acme.test", "session_seconds": 3600,
        "session_key": "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE",
        "splices": [{"server_name": "node.sluice.test", "to": "[2001:db8::1]:8443", "proxy_protocol": true}],
        "apps": [
            {"id": "wiki", "name": "Wiki", "host": "wiki.acme.test", "groups": ["staff"], "user_header": "X-Remote-User",
             "upstream": {"kind": "direct", "address": "192.0.2.1:80", "tls_server_name": null, "networks": []}},
            {"id": "roundup", "name": "Roundup", "host": "roundup.acme.test", "groups": [], "user_header": null,
             "upstream": {"kind": "resource", "resource": "roundup", "connectors": ["dc-1"], "target": "tcp:roundup:8080",
                          "host_header": "roundup:8080"}},
            {"id": "feed", "name": "Feed", "host": "feed.acme.test", "groups": ["staff"], "user_header": null,
             "upstream": {"kind": "control", "address": "control.test:8443", "server_name": "pages.sluice.test"}}
        ],
        "relay": {"callers": ["spiffe://sluice.test/control"]}
    })
}

fn plan(document: serde_json::Value) -> Result<Plan, BadDocument> {
    serde_json::from_value::<GatewayDocument>(document).unwrap().try_into()
}

#[test]
fn a_good_document_is_taken() {
    let plan = plan(document()).unwrap();
    assert_eq!(plan.app("wiki.acme.test").unwrap().id.as_str(), "wiki");
    assert!(plan.splice("node.sluice.test").is_some());
    assert!(
        plan.terminates("login.acme.test") && plan.terminates("feed.acme.test") && !plan.terminates("node.sluice.test")
    );
    assert!(plan.may_relay(&"spiffe://sluice.test/control".parse().unwrap()));
    assert!(!plan.may_relay(&"spiffe://other.test/control".parse().unwrap()));
}

#[test]
fn each_fault_refuses_the_whole_document() {
    let broken = |path: &str, value: serde_json::Value| {
        let mut document = document();
        *document.pointer_mut(path).unwrap() = value;
        plan(document).unwrap_err()
    };
    assert_eq!(broken("/session_key", json!("AQ")), BadDocument::SessionKey);
    assert_eq!(broken("/session_seconds", json!(86_401)), BadDocument::SessionSeconds);
    assert_eq!(broken("/session_seconds", json!(1)), BadDocument::SessionSeconds);
    assert_eq!(broken("/apps/0/host", json!("login.acme.test")), BadDocument::Duplicate("login.acme.test".into()));
    assert_eq!(broken("/apps/0/host", json!("node.sluice.test")), BadDocument::Duplicate("node.sluice.test".into()));
    assert_eq!(broken("/apps/0/host", json!("feed.acme.test")), BadDocument::Duplicate("feed.acme.test".into()));
    assert_eq!(broken("/apps/0/host", json!("Wiki.acme.test")), BadDocument::Host("Wiki.acme.test".into()));
    assert_eq!(broken("/apps/0/host", json!("*.acme.test")), BadDocument::Host("*.acme.test".into()));
    assert_eq!(broken("/apps/0/host", json!("wiki")), BadDocument::Host("wiki".into()));
    assert_eq!(broken("/apps/0/id", json!("feed")), BadDocument::DuplicateApp("feed".into()));
    assert_eq!(broken("/apps/0/upstream/address", json!("192.0.2.1")), BadDocument::Address("192.0.2.1".into()));
    assert_eq!(broken("/apps/0/upstream/address", json!("a:0")), BadDocument::Address("a:0".into()));
    assert_eq!(broken("/apps/1/upstream/target", json!("udp:a:1")), BadDocument::Target("udp:a:1".into()));
    assert_eq!(broken("/apps/1/upstream/connectors", json!([])), BadDocument::Connectors("roundup".into()));
    assert_eq!(broken("/apps/1/upstream/host_header", json!("a\r\nb")), BadDocument::HostHeader("roundup".into()));
    assert_eq!(broken("/relay/callers/0", json!("control")), BadDocument::Caller("control".into()));
    assert!(matches!(broken("/apps/0/user_header", json!("Cookie")), BadDocument::UserHeader { .. }));
    assert!(matches!(broken("/apps/0/user_header", json!("sluice_identity")), BadDocument::UserHeader { .. }));
    assert!(matches!(broken("/splices/0/to", json!("::1:443")), BadDocument::Address(_)));
}

#[test]
fn secrets_do_not_show() {
    let document: GatewayDocument = serde_json::from_value(document()).unwrap();
    assert!(!format!("{document:?}").contains("AQEB"));
    assert!(!format!("{:?}", Plan::try_from(document).unwrap()).contains("AQEB"));
}

proptest! {
    #[test]
    fn any_text_in_any_place_never_panics(text in ".{0,40}", place in 0usize..9) {
        let places = ["/login_host", "/session_key", "/splices/0/server_name", "/splices/0/to", "/apps/0/host",
            "/apps/0/upstream/address", "/apps/1/upstream/target", "/apps/1/upstream/host_header", "/apps/0/user_header"];
        let mut document = document();
        *document.pointer_mut(places[place]).unwrap() = json!(text);
        if let Ok(document) = serde_json::from_value::<GatewayDocument>(document) {
            let _plan = Plan::try_from(document);
        }
    }
}
