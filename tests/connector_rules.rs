//! The connector that ships follows what administrators and a customer with a policy key of his own decide.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod real_control;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use real_control::{PATIENCE, World, said, sluice};
use serde_json::Value;

/// A control with a tenant, and a connector that has joined it.
struct Site {
    world: World,
    connector: Child,
    config: PathBuf,
}

impl Site {
    fn new() -> Self {
        let world = World::owned();
        world.tenant();
        let (code, config, state) = (world.path("code"), world.path("connector.toml"), world.path("connector"));
        let save = ["--save", code.to_str().unwrap()];
        let add = ["node", "add", "dc-1", "--tenant", "acme", "--role", "connector", "--site", "branch"];
        world.good(&[&add[..], &save].concat());
        fs::set_permissions(&code, fs::Permissions::from_mode(0o600)).unwrap();
        let text =
            format!("state_dir = {state:?}\n[control]\njoin_code_file = {code:?}\naddress = \"{}\"\n", world.address);
        fs::write(&config, text).unwrap();
        let log = fs::File::create(world.path("connector.log")).unwrap();
        let mut command = sluice(&["connector", "--config", config.to_str().unwrap()]);
        let connector = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let site = Self { world, connector, config };
        site.until("a document", |site| site.explained("tcp:nothing.test:1").is_ok());
        site
    }

    /// What `explain` says about a target for control; `Err` while there is no document.
    fn explained(&self, target: &str) -> Result<(bool, Value), String> {
        let words = ["connector", "explain", "--to", target, "--as", "control", "--json", "--config"];
        let output = sluice(&[&words[..], &[self.config.to_str().unwrap()]].concat()).output().unwrap();
        let answer: Value = serde_json::from_slice(&output.stdout).map_err(|_| said(&output))?;
        assert_eq!(output.status.success(), answer["allowed"].as_bool().unwrap(), "{answer}");
        Ok((output.status.success(), answer))
    }

    fn allowed(&self, target: &str) -> bool {
        self.explained(target).unwrap().0
    }

    fn until(&self, what: &str, happens: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !happens(self) {
            let log = || fs::read_to_string(self.world.path("connector.log")).unwrap_or_default();
            assert!(begun.elapsed() < PATIENCE, "{what} does not come: {}\n{}", log(), self.world.log());
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn resource(&self, id: &str, more: &[&str]) {
        let add = ["resource", "add", id, "--tenant", "acme", "--site", "branch", "--for-control"];
        self.world.good(&[&add[..], more].concat());
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.connector.kill().unwrap();
        self.connector.wait().unwrap();
    }
}

#[test]
fn c5_g7_rules_and_exceptions_reach_the_connector_and_explain_says_which_decides() {
    let mut site = Site::new();
    site.resource("sql", &["--target", "sql.test", "--protocol", "udp", "--ports", "1433-1434"]);
    site.until("the resource", |site| site.allowed("udp:sql.test:1434"));
    for other in ["tcp:sql.test:1434", "udp:sql.test:1435", "udp:other.test:1433"] {
        let (allowed, said) = site.explained(other).unwrap();
        assert!(!allowed && said["decision"] == "no_rule", "{said}");
    }
    site.resource("rdp", &["--target", "10.1.0.1:3389", "--hosts", "10.1.0.0/16"]);
    site.until("the network", |site| site.allowed("tcp:10.1.77.7:3389"));
    assert!(!site.allowed("tcp:10.2.0.1:3389"));

    let long = ["exception", "add", "--tenant", "acme", "--site", "branch", "--target", "tcp:pump.test:22"];
    let long = [&long[..], &["--caller", "control", "--why", "repair", "--for"]].concat();
    let refused = site.world.admin(&[&long[..], &["25h"]].concat());
    assert!(!refused.status.success() && said(&refused).contains("24 h"), "{}", said(&refused));
    assert!(!site.allowed("tcp:pump.test:22"));
    let made = site.world.good(&[&long[..], &["4h"]].concat());
    let id = made["id"].as_str().unwrap();
    site.until("the exception", |site| site.allowed("tcp:pump.test:22"));
    let (_, answer) = site.explained("tcp:pump.test:22").unwrap();
    let decision = &answer["decision"]["allowed"];
    assert_eq!(decision["rule"], format!("exception/{id}"));
    assert_eq!((&decision["resource"], &decision["until"]), (&made["id"], &made["until"]));
    site.world.good(&["exception", "remove", id, "--tenant", "acme"]);
    site.until("its end", |site| !site.allowed("tcp:pump.test:22"));

    // What the connector keeps is enough: nobody else is asked.
    site.world.end(Signal::SIGKILL);
    assert!(site.allowed("udp:sql.test:1433"));
}

#[test]
fn c5_explain_that_cannot_say_does_not_look_like_a_denial() {
    let folder = tempfile::tempdir().unwrap();
    let (config, state) = (folder.path().join("connector.toml"), folder.path().join("state"));
    let asked = || {
        let words = ["connector", "explain", "--to", "tcp:x.test:1", "--as", "control", "--config"];
        sluice(&[&words[..], &[config.to_str().unwrap()]].concat()).output().unwrap()
    };
    let unreadable = asked();
    assert_eq!(unreadable.status.code(), Some(64));
    assert_eq!(said(&unreadable).matches("No such file").count(), 1, "{}", said(&unreadable));
    fs::write(&config, format!("state_dir = {state:?}\n")).unwrap();
    let stranger = asked();
    assert_eq!(stranger.status.code(), Some(2), "{}", said(&stranger));
    assert!(said(&stranger).contains("join code"), "{}", said(&stranger));
}

#[test]
fn c5_control_cannot_widen_a_list_whose_key_the_customer_holds() {
    let mut site = Site::new();
    site.resource("one", &["--target", "one.test:443"]);
    site.until("the resource", |site| site.allowed("tcp:one.test:443"));
    let key = site.world.path("policy.pem");
    let key = key.to_str().unwrap();
    let made = site.world.good(&["policy", "key", "new", "--out", key]);
    assert_eq!(fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!site.world.admin(&["policy", "key", "new", "--out", key]).status.success(), "overwritten");
    let held = site.world.good(&["policy", "adopt", "--tenant", "acme", "--key", key]);
    assert_eq!((held["held_by"].as_str(), &held["thumbprint"]), (Some("customer"), &made["thumbprint"]));
    assert!(held["lists"][0]["words"].as_str().unwrap().contains("waits for your signature"), "{held}");
    assert!(!site.world.home.join("keystore/tenant.acme.policy.sealed").exists(), "control has kept the key");

    // An administrator, or whoever has broken into control, adds a resource: nothing changes at the connector.
    site.resource("two", &["--target", "two.test:443"]);
    let shown = site.world.admin(&["policy", "pending", "--tenant", "acme"]);
    let pending: Value = serde_json::from_slice(&shown.stdout).unwrap();
    let item = &pending["items"][0];
    let added = "+ rule two: tcp two.test port 443 for control";
    assert!(item["changes"].to_string().contains(added), "{pending}");
    thread::sleep(Duration::from_secs(2));
    assert!(!site.allowed("tcp:two.test:443") && site.allowed("tcp:one.test:443"));

    // Another key is told so; with his own the customer signs, and the connector goes over to it.
    let other = site.world.path("other.pem");
    site.world.good(&["policy", "key", "new", "--out", other.to_str().unwrap()]);
    let sign = |key: &str| site.world.admin(&["policy", "sign", "--tenant", "acme", "--key", key, "--yes"]);
    let refused = sign(other.to_str().unwrap());
    assert!(!refused.status.success() && said(&refused).contains("held by customer"), "{}", said(&refused));
    let signed = sign(key);
    assert!(signed.status.success(), "{}", said(&signed));
    site.until("the signed list", |site| site.allowed("tcp:two.test:443"));
    let after = site.world.good(&["policy", "show", "--tenant", "acme"]);
    assert_eq!((&after["lists"][0]["waits"], &after["lists"][0]["state"]), (&false.into(), &"good".into()));
    assert_eq!(site.world.good(&["policy", "pending", "--tenant", "acme"])["items"], Value::Array(vec![]));

    // A new connector's code names the new key, and it takes the very first list that the customer signs for it.
    let code = site.world.good(&["node", "add", "dc-2", "--tenant", "acme", "--role", "connector", "--site", "branch"]);
    let code: sluice_node_identity::JoinCode = code["code"].as_str().unwrap().parse().unwrap();
    assert_eq!(code.policy_thumbprint, made["thumbprint"].as_str().unwrap());
    // The next key is signed by the one before it, by the customer alone.
    let next = ["policy", "adopt", "--tenant", "acme", "--key", other.to_str().unwrap()];
    assert!(!site.world.admin(&next).status.success());
    site.world.good(&[&next[..], &["--old-key", key]].concat());
    assert!(sign(other.to_str().unwrap()).status.success());
    site.resource("three", &["--target", "three.test:443"]);
    // A job that signs what says the same leaves this one alone.
    let job = ["policy", "sign", "--tenant", "acme", "--unchanged", "--key", other.to_str().unwrap()];
    let left = site.world.admin(&job);
    assert_eq!(left.status.code(), Some(1), "{}", said(&left));
    assert!(site.world.path("other.pem.signed/acme.dc-1.jws").exists());
    assert!(sign(other.to_str().unwrap()).status.success());
    site.until("the list under the third key", |site| site.allowed("tcp:three.test:443"));
    // Without the record nobody can say what changes: nothing is signed blindly then.
    fs::remove_dir_all(site.world.path("other.pem.signed")).unwrap();
    site.resource("four", &["--target", "four.test:443"]);
    let blind = sign(other.to_str().unwrap());
    assert!(!blind.status.success() && said(&blind).contains("is missing"), "{}", said(&blind));
    assert!(site.world.good(&["audit", "verify", "--tenant", "acme"])["intact"].as_bool().unwrap());
    let acts = site.world.good(&["audit", "show", "--tenant", "acme"]).to_string();
    assert_eq!((acts.matches("policy.adopt").count(), acts.matches("policy.sign").count()), (2, 3));
    assert!(!site.world.log().contains("ERROR"), "{}", site.world.log());
    site.world.end(Signal::SIGTERM);
}
