//! The built command as control, gateway and connector: a user signs in once and opens an app with no inbound port.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod behind_connector;

use std::time::{Duration, Instant};

use behind_connector::World;
use nix::sys::signal::Signal;

#[test]
fn c2_c5_g2_signed_in_user_reaches_an_app_behind_a_connector_and_others_do_not() {
    let mut world = World::up();
    world.start("gateway");
    world.line("gateway", "joined");
    world.start("connector");
    world.line("gateway", "tunnel is up");

    let bob = world.eventually("bob", "wiki.acme.test", |page| page.contains("seen by the app"));
    assert!(bob.contains("sluice-identity: ey"), "the app got no assertion: {bob}");
    assert!(bob.contains("x-login: bob"), "{bob}");
    assert!(!bob.contains("__Host-"), "the app saw our cookie: {bob}");
    // One login is enough for the second app; its target is this machine, which the resource does not name.
    let hidden = world.curl("bob", &["https://hidden.acme.test/"]);
    assert!(!hidden.contains("seen by the app") && !hidden.contains("<form"), "{hidden}");
    world.line("connector", "refused");
    let carol = world.sign_in("carol", "wiki.acme.test");
    assert!(!carol.contains("seen by the app"), "{carol}");

    world.stop("control", Signal::SIGKILL);
    let without = world.curl("bob", &["https://wiki.acme.test/again"]);
    assert!(without.contains("GET /again") && without.contains("seen by the app"), "{without}");
    for pair in ["interactive", "standard", "bulk"] {
        world.line("gateway", &format!("pair={pair} transport=quic"));
    }
    let began = Instant::now();
    for role in ["gateway", "connector"] {
        let status = world.stop(role, Signal::SIGTERM);
        assert!(status.success(), "{role}: {status}\n{}", world.log(role));
        assert!(!world.log(role).contains("ERROR"), "{}", world.log(role));
    }
    assert!(began.elapsed() < Duration::from_secs(30), "nothing ran: a minute of drain is not waited for");
}
