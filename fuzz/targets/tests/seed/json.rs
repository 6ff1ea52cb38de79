//! Documents, feeds, messages and frames whose content is JSON.

use serde_json::{Value, json};
use sluice_fuzz_targets::fixtures::{edge_document, gateway_document};

use super::{Seed, seed as one};

pub(crate) fn seeds() -> Vec<Seed> {
    let mut seeds = documents();
    seeds.extend(feeds());
    seeds.extend(node_api());
    seeds.extend(frames());
    seeds.extend(kernel());
    seeds
}

/// `value` with another one at `path`.
fn at(value: &Value, path: &str, new: Value) -> String {
    let mut value = value.clone();
    *value.pointer_mut(path).unwrap() = new;
    value.to_string()
}

fn documents() -> Vec<Seed> {
    let (gateway, edge) = (gateway_document(), serde_json::to_value(edge_document()).unwrap());
    let gate = |name, path, new| one("gateway_document", name, at(&gateway, path, new));
    let site = |name, path, new| one("edge_document", name, at(&edge, path, new));
    vec![
        one("gateway_document", "good-document", gateway.to_string()),
        gate("good-no-apps", "/apps", json!([])),
        gate("bad-host-twice", "/apps/0/host", json!("login.acme.test")),
        gate("bad-host-of-a-splice", "/apps/0/host", json!("node.sluice.test")),
        gate("bad-host-case", "/apps/0/host", json!("Wiki.acme.test")),
        gate("bad-key", "/session_key", json!("AQ")),
        gate("bad-seconds", "/session_seconds", json!(u64::MAX)),
        gate("bad-port", "/apps/0/upstream/address", json!("192.0.2.1:65536")),
        gate("bad-port-with-sign", "/apps/0/upstream/address", json!("192.0.2.1:+80")),
        gate("bad-target-number", "/apps/1/upstream/target", json!("tcp:127.1:8080")),
        gate("bad-target", "/apps/1/upstream/target", json!("udp:roundup:8080")),
        gate("bad-header", "/apps/0/user_header", json!("Host")),
        gate("bad-caller", "/relay/callers", json!(["spiffe://sluice.test/owner"])),
        one("edge_document", "good-document", edge.to_string()),
        site("good-no-classes", "/classes", json!([])),
        site("good-long-url", "/service/discovery_url", json!(format!("https://{}", "x".repeat(242)))),
        site("bad-url", "/service/discovery_url", json!("https://a\r\nb")),
        site("bad-host", "/service/est_host", json!("localhost")),
        site("bad-loopback", "/staging/0/address", json!("127.0.0.1")),
        site("bad-port", "/staging/0/port", json!(0)),
        site("bad-class", "/classes/0/vendor_class", json!("")),
        one(
            "hub_import",
            "good-list",
            json!({ "hubs": [
            { "id": "hub-1", "site": "branch-1", "serial": "A-1", "days": 30 }, { "id": "hub-2", "site": "branch-1" },
        ] })
            .to_string(),
        ),
        one("hub_import", "good-empty", r#"{"hubs":[]}"#),
        one("hub_import", "bad-path", r#"{"hubs":[{"id":"../hub","site":"branch-1"}]}"#),
        one("hub_import", "bad-case", r#"{"hubs":[{"id":"Hub","site":"branch-1"}]}"#),
        one("hub_import", "bad-days", r#"{"hubs":[{"id":"hub","site":"branch-1","days":-1}]}"#),
        one("hub_import", "bad-csv", "id,site\nhub-1,branch-1\n"),
    ]
}

fn feeds() -> Vec<Seed> {
    let event = |value: Value| value.to_string();
    let snapshot =
        event(json!({ "type": "snapshot", "seq": 4, "entries": { "hub/h1": { "enrolled": true }, "node/n": 1.5 } }));
    let delta = |prev: u64, seq: u64, value: Value| {
        event(json!({ "type": "delta", "prev": prev, "seq": seq, "key": "hub/h1", "value": value }))
    };
    let beat = |seq: u64| event(json!({ "type": "beat", "seq": seq }));
    let feed =
        [snapshot.clone(), delta(4, 9, json!({ "enrolled": false })), beat(9), delta(9, 10, Value::Null), beat(10)]
            .join("\n");
    let stream = format!(": hello\n\ndata: {snapshot}\n\nevent: x\r\ndata:{}\r\n\r\ndata: a\ndata: b\n\n", beat(4));
    let envelope = json!({ "version": 3, "schema": 1, "role": "edge", "document": { "a": [1, null, "x"] } });
    vec![
        one("watch", "good-feed", format!("{feed}\n{envelope}")),
        one("watch", "good-gap", [snapshot.clone(), delta(5, 6, json!(1)), beat(5), delta(4, 4, json!(2))].join("\n")),
        one("watch", "good-largest", [delta(0, u64::MAX, json!(1)), beat(u64::MAX), snapshot.clone()].join("\n")),
        one("watch", "good-backwards", [snapshot.clone(), delta(4, 1, json!(1)), delta(1, 0, Value::Null)].join("\n")),
        one("watch", "bad-gap", delta(5, 6, json!(1))),
        one("watch", "bad-type", r#"{"type":"reset","seq":1}"#),
        one("watch", "bad-twice", r#"{"type":"beat","type":"snapshot","seq":0}"#),
        one("watch", "bad-negative", r#"{"type":"beat","seq":-1}"#),
        one("watch", "bad-deep", format!("{}{}", "[".repeat(2000), "]".repeat(2000))),
        one("state_stream", "good-stream", stream.clone()),
        one("state_stream", "good-empty-data", "data\ndata:\n\ndata: \n\n"),
        one("state_stream", "good-mixed-ends", "data: a\r\ndata: b\n\r\n\r\n"),
        one("state_stream", "bad-cut", &stream[..30]),
        one("state_stream", "bad-comments", ":\n:\n\n:data: x\n\n"),
        one("state_stream", "bad-bare-cr", "data: a\r\rdata: b\r\r"),
    ]
}

fn node_api() -> Vec<Seed> {
    let api = |name, value: Value| one("node_api", name, value.to_string());
    vec![
        api(
            "good-join",
            json!({ "secret": "AwMDAwMDAwMDAwMDAwMDAw", "role": "edge", "csr": "-----BEGIN", "nonce": "n", "proof": "p" }),
        ),
        api("good-rejoin", json!({ "tenant": "acme", "id": "dmz-1", "csr": "c", "nonce": "n", "proof": "p" })),
        api(
            "good-joined",
            json!({ "trust_domain": "sluice.test", "tenant": "acme", "site": "hq", "role": "gateway", "id": "dmz-1",
            "chain": "c", "root": "r", "policy_thumbprint": "t" }),
        ),
        api("good-csr", json!({ "csr": "c" })),
        api("good-keys", json!({ "caller": { "kty": "OKP" }, "assertion": {} })),
        api("good-tunnels", json!({ "tunnels": [{ "connector": "dc-1", "sid": "AQEBAQEBAQEBAQEBAQEBAQ" }] })),
        api("good-factors", json!({ "login": "ann", "password": "correct horse", "client": "192.0.2.7" })),
        api(
            "good-check-ins",
            json!({ "seen": [{ "hub": "h1", "mac": "02:00:00:00:00:01", "address": "10.77.0.9", "at": 5 }] }),
        ),
        api("good-refusal", json!({ "version": 1, "reason": "r" })),
        api("good-error", json!({ "error": { "code": "c", "message": "m" } })),
        api("bad-unknown-field", json!({ "csr": "c", "name": "admin" })),
        api("bad-role", json!({ "secret": "s", "role": "control", "csr": "c", "nonce": "n", "proof": "p" })),
        api("bad-name", json!({ "tenant": "a/b", "id": "x", "csr": "c", "nonce": "n", "proof": "p" })),
        one("node_api", "bad-form", "csr=c&nonce"),
    ]
}

/// A frame with `bytes` of length in front.
fn framed(bytes: usize, value: &Value) -> Vec<u8> {
    let body = value.to_string().into_bytes();
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&length[4 - bytes..], &body].concat()
}

fn frames() -> Vec<Seed> {
    let tunnel = |name, value: Value| one("tunnel_frame", name, framed(2, &value));
    let wallet = |name, value: Value| one("wallet_frame", name, framed(4, &value));
    let place = json!({ "tenant": "acme", "integration": "roundup" });
    let ask = |ask: &str, more: Value| {
        let mut value = place.clone();
        value["ask"] = ask.into();
        value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        value
    };
    let write = |login: &str, password: &str| {
        ask("write", json!({ "owner": { "user": "ann" }, "credential": { "login": login, "password": password } }))
    };
    vec![
        tunnel("good-hello", json!({ "sid": "AQEBAQEBAQEBAQEBAQEBAQ" })),
        tunnel("good-direct", json!({ "kind": "direct", "token": "eyJhbGciOiJFZERTQSJ9.e30.AA" })),
        tunnel("good-sealed", json!({ "kind": "sealed" })),
        tunnel("good-open", json!({ "reply": "open" })),
        tunnel("good-refused", json!({ "reply": "refused", "code": "not_allowed", "message": "m", "retry": false })),
        tunnel("good-relay", json!({ "connector": "dc-1", "sid": "AQEBAQEBAQEBAQEBAQEBAQ" })),
        one("tunnel_frame", "good-followed", [framed(2, &json!({ "kind": "sealed" })), vec![22, 3, 1]].concat()),
        tunnel("good-sealed-with-unknown-fields", json!({ "kind": "sealed", "token": "x", "other": 1 })),
        tunnel("bad-kind", json!({ "kind": "udp" })),
        one("tunnel_frame", "bad-empty-frame", [0, 0]),
        one("tunnel_frame", "bad-long", [0xff, 0xff, b'{']),
        one("tunnel_frame", "bad-short", [0, 9, b'{', b'"']),
        wallet("good-read-service", ask("read_service", json!({}))),
        wallet("good-read-user", ask("read_user", json!({ "user": "ann" }))),
        wallet("good-write", write("ann", "correct horse")),
        wallet("good-exists", ask("exists", json!({ "owner": "service" }))),
        wallet("good-delete", ask("delete", json!({ "owner": "service" }))),
        wallet(
            "good-credential",
            json!({ "answer": "credential", "credential": { "login": "ann", "password": "correct horse" } }),
        ),
        wallet("good-absent", json!({ "answer": "absent" })),
        wallet("bad-login-with-colon", write("ann:x", "correct horse")),
        wallet("bad-password-with-line", write("ann", "correct\r\nhorse")),
        wallet("bad-empty-password", write("ann", "")),
        wallet("bad-long-login", write(&"a".repeat(321), "correct horse")),
        wallet("bad-ask", ask("read_all", json!({}))),
        one("wallet_frame", "bad-long", [0, 1, 0, 0, b'{']),
        one("wallet_frame", "bad-cut", [0, 0, 0]),
    ]
}

fn kernel() -> Vec<Seed> {
    let ask = |name, value: Value| one("kernel_message", name, value.to_string());
    let rule = |first: u16, last: u16, network: Value| json!({ "when": { "transport": "tcp", "ports": [first, last], "network": network }, "class": "bulk" });
    let device_of = |mac: &str, to: &str, address: &str| json!({ "ask": "devices", "changes": [{ "to": to, "mac": mac, "address": address }] });
    let device = |to: &str, address: &str| device_of("02:00:00:00:00:01", to, address);
    let port = |lan: &str, up: u32, down: Value| {
        json!({ "lan": { "interface": lan, "tcp_services": [53, 443], "udp_services": [53, 67, 123] },
                "wan": { "interface": "eth0.7", "up_kbit": up, "down_kbit": down } })
        .to_string()
    };
    vec![
        ask(
            "good-policy",
            json!({ "ask": "policy", "policy": { "rules": [rule(1, 2, Value::Null), rule(443, 443, json!("2001:db8::/32"))] } }),
        ),
        ask("good-empty-range", json!({ "ask": "policy", "policy": { "rules": [rule(2, 1, json!("10.0.0.1/8"))] } })),
        ask(
            "good-pinholes",
            json!({ "ask": "pinholes", "pinholes": [{ "transport": "udp", "address": "::ffff:1.2.3.4", "port": 0 }] }),
        ),
        ask("good-admit", device("admit", "10.77.0.9")),
        ask("good-restage", device("restage", "2001:db8:77::9")),
        ask("good-restage-all", json!({ "ask": "restage_all" })),
        ask("bad-answer", json!({ "answer": "refused", "reason": "r" })),
        ask("bad-injected-mac", device_of("02:00:00:00:00:01 } ; flush", "admit", "10.77.0.9")),
        ask("bad-injected-address", device("admit", "10.77.0.9\n")),
        ask("bad-zone", device("admit", "fe80::1%eth0")),
        ask("bad-command", json!({ "ask": "run", "command": "id" })),
        one("links", "good-ports", port("lan0", 100_000, json!(500_000))),
        one("links", "good-largest", port("lan0", u32::MAX, json!(u32::MAX))),
        one("links", "good-nothing", port("lan0", 0, json!(0))),
        one("links", "good-slowest", port("br-lan@eth1", 1, Value::Null)),
        one("links", "bad-quote", port("lan\"", 1, Value::Null)),
        one("links", "bad-long", port("a23456789012345x", 1, Value::Null)),
        one("links", "bad-path", port("../lan", 1, Value::Null)),
        one("links", "bad-option", port("-lan", 1, Value::Null)),
    ]
}
