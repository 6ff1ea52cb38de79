//! The built command where the site lets nothing out but a web proxy with a password: tunnel and all.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod behind_connector;
#[path = "../connector/egress/tests/world/mod.rs"]
mod world;

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use behind_connector::{PATIENCE, World};
use nix::sys::signal::Signal;
use world::{LOGIN_WANTED, Squid, folder};

#[test]
fn c2_c3_a_user_reaches_an_app_though_the_connector_has_only_a_web_proxy() {
    let place = folder();
    let hash = Command::new("openssl").args(["passwd", "-apr1", "s3cret"]).output().unwrap();
    world::write(&place.path().join("passwd"), &format!("svc:{}", String::from_utf8(hash.stdout).unwrap()));
    let mut system = World::up();
    // The proxy resolves names, as they are written in this file; the connector does not.
    let hosts = format!("hosts_file {}\n", system.path("hosts"));
    let rules = format!("{hosts}auth_param basic program /usr/lib/squid/basic_ncsa_auth {{}}/passwd\n{LOGIN_WANTED}");
    let squid = Squid::start(place, &rules, false, &[]);
    let password = system.secret("proxy-password", "s3cret\n");
    let before = fs::read_to_string(system.path("connector.toml")).unwrap();
    let section = format!(
        "[web_proxy]\nurl = \"{}\"\nuser = \"svc\"\npassword_file = {password:?}\nallow_basic_in_clear = true\n",
        squid.proxy
    );
    system.write("connector.toml", &format!("{before}{section}"));
    system.start("gateway");
    system.line("gateway", "joined");
    system.start("connector");
    system.line("gateway", "tunnel is up");
    let bob = system.eventually("bob", "wiki.acme.test", |page| page.contains("seen by the app"));
    assert!(bob.contains("x-login: bob"), "{bob}");
    system.line("connector", &format!("through the web proxy {}", squid.proxy));
    assert!(system.stop("connector", Signal::SIGTERM).success());
    // A tunnel is in the proxy's log when it has ended.
    let until = Instant::now() + PATIENCE;
    let log = loop {
        let log = fs::read_to_string(squid.folder.path().join("access.log")).unwrap();
        if log.contains("CONNECT gw.acme.test:443 svc") {
            break log;
        }
        assert!(Instant::now() < until, "{log}");
        std::thread::sleep(Duration::from_millis(100));
    };
    let asked_twice = log.lines().filter(|line| line.contains("/407")).count();
    assert!(asked_twice <= 2, "the login is shown without being asked again: {log}");
    let connector = system.log("connector");
    assert!(!connector.contains("s3cret") && !connector.contains("ERROR"), "{connector}");
}
