//! Names, codes, targets, declarations, answers of systems of record.

use serde_json::{Value, json};
use sluice_node_identity::{Fingerprint, JoinCode, JoinSecret};

use super::{Seed, seed as one};

const ROUNDUP: &str = include_str!("../../../../integrations/roundup.toml");

pub(crate) fn seeds() -> Vec<Seed> {
    let mut seeds = codes();
    seeds.extend(names());
    seeds.extend(targets());
    seeds.extend(declarations());
    seeds.extend(answers());
    seeds
}

fn codes() -> Vec<Seed> {
    let code = JoinCode {
        url: "https://node.sluice.test:8443".into(),
        root_pin: Fingerprint::of(b"root"),
        policy_thumbprint: "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k".into(),
        secret: JoinSecret::new([3; 16]),
    }
    .to_string();
    vec![
        one("join_code", "good-code", code.clone()),
        one("join_code", "good-with-line-end", format!("  {code}\r\n")),
        one("join_code", "bad-prefix", code.replacen("slj1", "slj2", 1)),
        one("join_code", "bad-cut", &code[..code.len() - 4]),
        one("join_code", "bad-padding", format!("{code}=")),
        one("join_code", "bad-wrapped", format!("{}\n{}", &code[..40], &code[40..])),
        one("join_code", "bad-empty", "slj1_"),
        one("join_code", "bad-unused-bits", "AwMDAwMDAwMDAwMDAwMDAx"),
    ]
}

fn names() -> Vec<Seed> {
    let good = [
        "spiffe://sluice.test/control",
        "spiffe://sluice.test/tenant/acme/gateway/dmz-1",
        "spiffe://sluice.test/tenant/acme/hub/h1",
        "02:00:00:00:00:01",
        "AwMDAwMDAwMDAwMDAwMDAw",
        "eth0.7",
        "br-lan@if3",
        "a",
        "connector",
    ];
    let bad = [
        "spiffe://sluice.test/control/",
        "spiffe://Sluice.test/control",
        "spiffe://sluice.test//control",
        "spiffe://sluice.test/tenant/acme/owner/x",
        "spiffe://sluice.test/tenant/acme/gateway/dmz-1?x",
        "spiffe://sluice.test/tenant/../gateway/x",
        "SPIFFE://a/control",
        "ff:ff:ff:ff:ff:ff",
        "00:00:00:00:00:00",
        "+2:00:00:00:00:01",
        "2:0:0:0:0:1",
        "../etc",
        "a/b",
        "\"x\"",
        "",
        "-",
        "\u{fc}",
        "a b",
    ];
    vec![
        one("names", "good-names", good.join("\n")),
        one("names", "good-longest", "a".repeat(63)),
        one("names", "bad-names", bad.join("\n")),
        one("names", "bad-long", "a".repeat(300)),
    ]
}

fn targets() -> Vec<Seed> {
    let targets = [
        "tcp:roundup.dc.test:8080",
        "tcp:10.9.0.5:636",
        "tcp:[2001:db8::1]:443",
        "tcp:localhost:80",
        "tcp:a_b.test:1",
        "tcp:[::ffff:1.2.3.4]:9",
        "udp:host:53",
        "mon-fri 06:00-18:00",
        "sat,sun 22:00-04:00",
        "1433-1434",
    ];
    let wrong = [
        "tcp:host",
        "tcp::80",
        "tcp:127.1:80",
        "tcp:0x7f.1:80",
        "tcp:2130706433:80",
        "tcp:[127.0.0.1]:80",
        "tcp:::1:80",
        "tcp:[::1]80",
        "tcp:host:65536",
        "tcp:host:-1",
        "tcp:host:+80",
        "tcp:host:080",
        "tcp:Host:80",
        "tcp:ho st:80",
        "tcp:host/x:80",
        "tcp:user@host:80",
        "tcp:[fe80::1%25eth0]:80",
        "tcp:host.:80",
        "tcp:host:",
        "icmp:host:1",
        "mon-fri 06:00-06:00",
        "mon,mon 06:00-18:00",
        "1434-1433",
        "",
    ];
    vec![
        one("target", "good-targets", targets.join("\n")),
        one("target", "bad-targets", wrong.join("\n")),
        one("target", "bad-long", format!("tcp:{}:80", "a.".repeat(130))),
    ]
}

fn declarations() -> Vec<Seed> {
    // Comments and the last sections are left out, so that mutations hit something.
    let lines: Vec<&str> = ROUNDUP.lines().filter(|line| !line.starts_with('#')).collect();
    let whole = lines.join("\n");
    let change = |name, from: &str, to: &str| {
        assert!(whole.contains(from), "{from} is not in the declaration");
        one("declaration", name, whole.replacen(from, to, 1))
    };
    vec![
        one("declaration", "good-roundup", whole.clone()),
        change("bad-schema", "schema = 1", "schema = 2"),
        change("bad-url", "https://roundup.acme.test/t/", "ftp://roundup.acme.test/"),
        change("bad-climbing-path", "path = \"rest/data/user\"", "path = \"../../user\""),
        change("bad-column", "{title}", "{nope}"),
        change("bad-brace", "{title}", "{title"),
        change("bad-unknown-key", "schema = 1", "schema = 1\nshema = 1"),
        change("bad-header", "\"X-Requested-With\" = \"sluice\"", "\"X\\r\\nHost\" = \"sluice\""),
        change("bad-header-value", "\"X-Requested-With\" = \"sluice\"", "\"X-Requested-With\" = \"a\\r\\nHost: b\""),
        one("declaration", "bad-deep", format!("a = {}", "[".repeat(2000))),
        one("declaration", "bad-empty", ""),
    ]
}

fn answers() -> Vec<Seed> {
    let issue = |id: Value, title: &str| {
        json!({ "id": id, "title": title, "status": { "id": "1", "name": "open" }, "activity": "2027-01-10.08:00:00",
                "assignedto": { "id": "3", "username": "ann" } })
    };
    let page = |rows: Vec<Value>| json!({ "data": { "collection": rows } }).to_string();
    let full: Vec<Value> = (0..100).map(|id| json!({ "id": id })).collect();
    let again = page(full.clone());
    let row = |value: Value| json!({ "data": { "attributes": value } }).to_string();
    let pages = |name, lines: &[&str]| one("paging", name, lines.join("\n"));
    let detail = |name, text: String| one("detail", name, text);
    vec![
        pages("good-issues", &[&format!("200  {}", page(vec![issue(json!("7"), "a"), issue(json!(8), "b")]))]),
        pages(
            "good-users",
            &[&format!("200  {}", page(vec![json!({ "id": "1", "username": "ann", "address": "ann@acme.test" })]))],
        ),
        pages("good-full-page", &[&format!("200  {again}"), &format!("200  {}", page(vec![]))]),
        pages("good-after-waiting", &["429 3 ", "503  ", &format!("200  {}", page(vec![]))]),
        pages("good-repeated-page", &[&format!("200  {again}"), &format!("200  {again}")]),
        pages(
            "good-numbers",
            &[&format!("200  {}", page(vec![json!({ "id": 1, "username": 1e300, "address": 0.1 })]))],
        ),
        pages("bad-always-busy", &["429 1 "; 8]),
        pages("bad-long-wait", &["503 4294967295 "]),
        pages("bad-unauthorized", &["401  "]),
        pages("bad-not-json", &["200  <html>"]),
        pages("bad-no-items", &["200  {\"data\":{\"collection\":{}}}"]),
        pages("bad-no-key", &[&format!("200  {}", page(vec![json!({ "title": "x" })]))]),
        pages("bad-key", &[&format!("200  {}", page(vec![json!({ "id": 1.5 })]))]),
        pages("bad-status", &["302  "]),
        detail("good-row", format!("200  {}", row(issue(json!("7"), "a")))),
        detail("good-row-without-key", format!("200  {}", row(json!({ "title": "x", "assignedto": null })))),
        detail("bad-other-row", format!("200  {}", row(issue(json!("8"), "a")))),
        detail("bad-gone", "404  ".into()),
        detail("bad-not-json", "200  null".into()),
        detail("bad-type", format!("200  {}", row(json!({ "id": 7, "title": {}, "assignedto": { "id": "x" } })))),
    ]
}
