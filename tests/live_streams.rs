//! The built command: live streams are seen from the console's API and from the connector's machine, one is killed,
//! and nothing of them stays on the connector's disk.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod behind_connector;

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::fs::MetadataExt,
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use behind_connector::{PATIENCE, World};
use serde_json::Value;

/// A killed stream ends within a second; a loaded machine gets five.
const SOON: Duration = Duration::from_secs(5);

/// A world in which bob is signed in and the connector works.
fn working() -> World {
    let mut world = World::up();
    for (role, word) in [("gateway", "joined"), ("connector", "tunnel is up")] {
        world.start(role);
        world.line(role, word);
    }
    world.eventually("bob", "wiki.acme.test", |page| page.contains("seen by the app"));
    world
}

fn download(world: &World) -> Child {
    let mut curl = world.browser("bob");
    curl.args(["--no-buffer", "https://wiki.acme.test/slow"]);
    curl.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// The first stream that `list` gives and that has brought more than a page.
fn busy_stream(list: impl Fn() -> Value, member: &str) -> Value {
    let begun = Instant::now();
    loop {
        let listed = list();
        let busy = |stream: &&Value| stream["down"].as_u64().is_some_and(|down| down > 4096);
        if let Some(found) = listed[member].as_array().and_then(|all| all.iter().find(busy)) {
            return found.clone();
        }
        assert!(begun.elapsed() < PATIENCE, "no busy stream: {listed}");
        thread::sleep(Duration::from_millis(100));
    }
}

fn local(world: &World) -> Value {
    let config = world.path("connector.toml");
    serde_json::from_slice(&world.ended("connector", &["streams", "--json", "--config", &config])).unwrap()
}

fn page(world: &World, path: &str) -> String {
    let mut tcp = TcpStream::connect(world.status()).unwrap();
    write!(tcp, "GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", world.status()).unwrap();
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn c5_a_killed_stream_ends_within_a_second_and_is_audited() {
    let world = working();
    let mut slow = download(&world);
    let list = || world.admin(&["streams", "--tenant", "acme", "--connector", "connector"]);
    let stream = busy_stream(list, "items");
    assert_eq!((&stream["caller"], &stream["resource"]), (&"gateway".into(), &"wiki".into()), "{stream}");
    assert!(stream["subject"].as_str().unwrap().ends_with("bob"), "{stream}");
    let here = busy_stream(|| local(&world), "streams");
    assert_eq!(here["id"], stream["id"]);
    let table = world.ended("connector", &["streams", "--config", &world.path("connector.toml")]);
    assert!(String::from_utf8(table).unwrap().contains(stream["id"].as_str().unwrap()));
    assert!(page(&world, "/health").starts_with("HTTP/1.1 200"), "{}", page(&world, "/health"));
    assert!(page(&world, "/metrics").contains("\nsluice_connector_streams_opened_total "));

    assert!(slow.try_wait().unwrap().is_none(), "the download has ended by itself");
    world.admin(&["stream", "kill", stream["stream"].as_str().unwrap(), "--tenant", "acme"]);
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = slow.try_wait().unwrap() {
            break status;
        }
        assert!(begun.elapsed() < SOON, "the stream goes on: {}", world.log("connector"));
        thread::sleep(Duration::from_millis(10));
    };
    assert!(!status.success(), "broken off must not look like ended");
    world.line("connector", "killed by an administrator");
    let log = world.log("connector");
    let line = log.lines().find(|line| line.contains("killed by an administrator")).unwrap();
    for word in ["subject=\"user/bob\"", "caller=\"gateway\"", "resource=wiki", "bytes_down=", "rule=", "milliseconds="]
    {
        assert!(line.contains(word), "{word} not in {line}");
    }
    let audit = world.admin(&["audit", "show", "--tenant", "acme"]);
    let kills: Vec<_> =
        audit["items"].as_array().unwrap().iter().filter(|entry| entry["act"] == "stream.kill").collect();
    assert_eq!(kills.len(), 1, "{audit}");
    assert_eq!(kills[0]["subject"], format!("stream/{}", stream["stream"].as_str().unwrap()));
    // What is new goes on.
    // What is refused says as much: this one by the dial guard, for the rule names no network.
    world.curl("bob", &["https://hidden.acme.test/"]);
    world.line("connector", "stream refused");
    let log = world.log("connector");
    let line = log.lines().find(|line| line.contains("stream refused") && line.contains("hidden")).unwrap();
    for word in ["subject=\"user/bob\"", "caller=\"gateway\"", "resource=hidden", "rule=", "code=\"target_forbidden\""]
    {
        assert!(line.contains(word), "{word} not in {line}");
    }
    let again = world.curl("bob", &["https://wiki.acme.test/again"]);
    assert!(again.contains("seen by the app"), "{again}");
}

#[test]
fn c1_nothing_at_rest_but_identity_list_and_configuration() {
    let world = working();
    let mut slow = download(&world);
    busy_stream(|| local(&world), "streams");
    let folder = world.path("connector-state");
    let meta = fs::metadata(&folder).unwrap();
    assert_eq!(meta.mode() & 0o7777, 0o700, "{folder}");
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(&folder).unwrap() {
        let entry = entry.unwrap();
        let meta = entry.metadata().unwrap();
        assert!(meta.is_file(), "{:?}", entry.path());
        assert_eq!(meta.mode() & 0o7777, 0o600, "{:?}", entry.path());
        let name = entry.file_name().into_string().unwrap();
        found.insert(name.trim_end_matches(".new").to_owned(), fs::read_to_string(entry.path()).unwrap_or_default());
    }
    let known = ["allow-list.json", "config.json", "contact.json", "identity.json", "state.json"];
    assert!(found.keys().all(|name| known.contains(&name.as_str())), "{:?}", found.keys());
    assert!(found.contains_key("identity.json") && found.contains_key("config.json"), "{:?}", found.keys());
    for (name, text) in &found {
        for passed in ["/slow", "user/bob", "x-login", "seen by the app", "wiki.acme.test"] {
            assert!(!text.contains(passed), "{name} holds {passed}");
        }
    }
    slow.kill().unwrap();
    slow.wait().unwrap();
}
