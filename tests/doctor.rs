//! The built command's doctor, in a world that works and in worlds where something is in the way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod behind_connector;

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    sync::Arc,
    thread,
    time::Duration,
};

use behind_connector::World;
use nix::sys::signal::Signal;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{ServerConfig, ServerConnection, StreamOwned, pki_types::PrivatePkcs8KeyDer};
use serde_json::Value;

/// Whether nothing is in the way, and the steps.
fn doctor(world: &World, config: &str) -> (bool, Vec<Value>) {
    let output = world.sluice(&["connector", "doctor", "--json", "--config", &world.path(config)]).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let steps = report["steps"].as_array().unwrap().clone();
    let bad = steps.iter().any(|step| step["verdict"] == "bad");
    assert_eq!(output.status.code(), Some(i32::from(bad)), "{steps:#?}");
    (!bad, steps)
}

fn step<'a>(steps: &'a [Value], what: &str) -> &'a Value {
    steps.iter().find(|step| step["what"] == what).unwrap_or_else(|| panic!("no {what} in {steps:#?}"))
}

/// The verdict of a step, which must say these words.
fn verdict<'a>(steps: &'a [Value], what: &str, words: &[&str]) -> &'a str {
    let step = step(steps, what);
    let said = format!("{} {}", step["said"], step["todo"]);
    assert!(words.iter().all(|word| said.contains(word)), "{words:?} not in {step}");
    step["verdict"].as_str().unwrap()
}

/// The connector's file with another address for control.
fn elsewhere(world: &World, name: &str, control: &str) {
    let text = fs::read_to_string(world.path("connector.toml")).unwrap();
    let lines = text.lines().map(|line| {
        if line.starts_with("address = ") { format!("address = {control:?}\n") } else { format!("{line}\n") }
    });
    world.write(name, &lines.collect::<String>());
}

#[test]
fn c5_the_doctor_names_what_is_in_the_way_and_nothing_else() {
    let mut world = World::up();
    let (_, steps) = doctor(&world, "connector.toml");
    assert_eq!(verdict(&steps, "identity", &["not joined yet", "join code"]), "note");
    assert_eq!(verdict(&steps, "control: TLS", &["control"]), "good");
    assert_eq!(verdict(&steps, "service", &["no connector answers"]), "note");

    for (role, word) in [("gateway", "joined"), ("connector", "tunnel is up")] {
        world.start(role);
        world.line(role, word);
    }
    world.eventually("bob", "wiki.acme.test", |page| page.contains("seen by the app"));
    let (_, steps) = doctor(&world, "connector.toml");
    for (what, words) in [
        ("configuration", &["connector.toml"][..]),
        ("state directory", &["0700", "0600"]),
        ("service", &["1 of 1 gateways"]),
        ("identity", &["connector connector of acme", "good until"]),
        ("control: TCP", &["answers"]),
        ("control: TLS", &["nobody opens TLS"]),
        ("clock", &["agrees"]),
        ("allow-list", &["signature good"]),
        ("gateway gateway: TCP", &["takes tunnels"]),
        ("target wiki", &["answers at 127.0.0.1"]),
    ] {
        assert_eq!(verdict(&steps, what, words), "good", "{}", step(&steps, what));
    }
    // The one thing that is wrong in this world: a resource whose network nobody named.
    let bad: Vec<_> = steps.iter().filter(|step| step["verdict"] == "bad").map(|step| &step["what"]).collect();
    assert_eq!(bad, ["target hidden"]);
    verdict(&steps, "target hidden", &["127.0.0.1", "name its network in the resource"]);
    let words = world.sluice(&["connector", "doctor", "--config", &world.path("connector.toml")]).output().unwrap();
    let words = String::from_utf8(words.stdout).unwrap();
    assert!(
        words.contains("✓ good") && words.contains("✗ bad") && words.contains("One thing is in the way."),
        "{words}"
    );

    fs::set_permissions(world.path("connector-state/identity.json"), fs::Permissions::from_mode(0o640)).unwrap();
    for role in ["control", "connector", "gateway"] {
        world.stop(role, Signal::SIGKILL);
    }
    let (_, steps) = doctor(&world, "connector.toml");
    assert_eq!(verdict(&steps, "state directory", &["identity.json has mode 0640", "chmod 0600"]), "bad");
    assert_eq!(verdict(&steps, "service", &["no connector answers"]), "note");
    assert_eq!(verdict(&steps, "control: TCP", &["refused", "TCP"]), "bad");
    assert_eq!(verdict(&steps, "gateway gateway: TCP", &["refused"]), "bad");
    assert_eq!(verdict(&steps, "allow-list", &["signature good"]), "good");
}

#[test]
fn c5_the_doctor_names_who_opens_tls_and_who_says_nothing() {
    let mut world = World::up();
    for (role, word) in [("gateway", "joined"), ("connector", "tunnel is up")] {
        world.start(role);
        world.line(role, word);
    }
    elsewhere(&world, "inspected.toml", &inspector());
    let (_, steps) = doctor(&world, "inspected.toml");
    let words = ["opens TLS on the way", "Corporate Inspection CA", "exempt node.sluice.test"];
    assert_eq!(verdict(&steps, "control: TLS", &words), "bad");

    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    elsewhere(&world, "mute.toml", &mute.local_addr().unwrap().to_string());
    let (_, steps) = doctor(&world, "mute.toml");
    assert_eq!(verdict(&steps, "control: TLS", &["no answer within"]), "bad");

    let whole = fs::read_to_string(world.path("connector.toml")).unwrap();
    world.write("forbidden.toml", &format!("forbidden_networks = ['127.0.0.0/8']\n{whole}"));
    let (_, steps) = doctor(&world, "forbidden.toml");
    assert_eq!(verdict(&steps, "target wiki", &["127.0.0.1", "forbidden_networks"]), "bad");

    // A key that the service would not start without; and a token's own folder, which it would not start without either.
    let (pin, tokens) = (world.path("pin"), world.path("connector-state/tokens"));
    fs::create_dir(&tokens).unwrap();
    let key = format!("{whole}\n[key]\npkcs11_module = '/none.so'\ntoken_label = 'dc'\npin_file = '{pin}'\n");
    world.write("key.toml", &key);
    let (_, steps) = doctor(&world, "key.toml");
    assert_eq!(verdict(&steps, "configuration", &["key.pin_file"]), "bad");
    world.write("pin", "1234");
    fs::set_permissions(&pin, fs::Permissions::from_mode(0o600)).unwrap();
    let (_, steps) = doctor(&world, "key.toml");
    assert_eq!(verdict(&steps, "state directory", &["tokens is no file"]), "bad");
    world.write("key.toml", &format!("{key}runtime_paths = ['{tokens}']\n"));
    let (_, steps) = doctor(&world, "key.toml");
    assert_eq!(verdict(&steps, "key", &["/none.so", "[key]"]), "bad");
    assert_eq!(verdict(&steps, "state directory", &["0700"]), "good");

    world.write("broken.toml", "state_dri = 'x'");
    let (well, steps) = doctor(&world, "broken.toml");
    assert!(!well && steps.len() == 1);
    verdict(&steps, "configuration", &["state_dri", "state_dir", "docs/configuration.md"]);
}

/// A proxy that answers for everybody with a certificate of its own authority. Gives its address.
fn inspector() -> String {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "Corporate Inspection CA");
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = vec!["node.sluice.test".to_owned()];
    let leaf = CertificateParams::new(names).unwrap().signed_by(&key, &authority).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
        .unwrap();
    let (config, listener) = (Arc::new(config), TcpListener::bind("127.0.0.1:0").unwrap());
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for tcp in listener.incoming().map_while(Result::ok) {
            inspect(tcp, config.clone());
        }
    });
    address
}

fn inspect(tcp: TcpStream, config: Arc<ServerConfig>) {
    tcp.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut tls = StreamOwned::new(ServerConnection::new(config).unwrap(), tcp);
    let _refused = tls.read(&mut [0; 1]).is_err() && tls.flush().is_err();
}
