//! Single stories, each one a promise.

use std::time::Duration;

use sluice_connector_wire::{
    ClassPair, Transport,
    race::{MAX_FINISHING, Pace},
};

use crate::world::{Change, Tcp, World};

const STANDARD: ClassPair = ClassPair::Standard;

fn on(world: &World, pair: ClassPair) -> Option<Transport> {
    world.view(pair).in_use.map(|used| used.transport)
}

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn within(world: &mut World, time: Duration, done: impl Fn(&World) -> bool) -> bool {
    let end = world.now + time;
    world.run_until(end, done)
}

#[test]
fn c2_quic_is_used_where_it_works_and_nothing_else_is_dialled() {
    let mut world = World::new(1);
    world.run_for(secs(60));
    for pair in ClassPair::ALL {
        assert_eq!(on(&world, pair), Some(Transport::Quic));
    }
    assert_eq!(world.dials(), 3, "one dial a lane");
}

#[test]
fn c2_blocked_udp_costs_a_quarter_second_once_and_is_remembered() {
    let mut world = World::new(2);
    world.change(Change::Udp(0, false));
    let race = Pace::default().stagger + Duration::from_millis(150);
    assert!(within(&mut world, race, |world| on(world, STANDARD) == Some(Transport::Tcp)));
    world.run_for(secs(60));
    // The gateway restarts; on a network known to block UDP, TCP comes first.
    world.change(Change::Restart { loud: true, away: 0 });
    world.run_for(Duration::from_millis(30));
    assert_eq!(on(&world, STANDARD), None);
    assert!(within(&mut world, Pace::default().pause_min + Duration::from_millis(130), |world| world.works(STANDARD)));
}

#[test]
fn c2_a_gateway_that_restarts_twice_is_dialled_soon_both_times() {
    let mut world = World::new(4);
    world.run_for(secs(60));
    // Away for long enough that pauses between dials have grown.
    world.change(Change::Restart { loud: true, away: 12_000 });
    assert!(!within(&mut world, secs(12), |world| world.works(STANDARD)));
    assert!(within(&mut world, secs(30), |world| world.works(STANDARD)));
    world.run_for(secs(1));
    world.change(Change::Restart { loud: true, away: 0 });
    world.run_for(Duration::from_millis(30));
    assert_eq!(on(&world, STANDARD), None);
    assert!(within(&mut world, Pace::default().pause_min + secs(1), |world| world.works(STANDARD)));
}

#[test]
fn c2_quic_that_comes_to_work_is_taken_and_tcp_lets_its_streams_end() {
    let mut world = World::new(3);
    world.change(Change::Udp(0, false));
    world.run_for(secs(60));
    world.change(Change::Streams(STANDARD, 2));
    world.change(Change::Udp(0, true));
    assert!(within(&mut world, secs(601), |world| {
        ClassPair::ALL.iter().all(|pair| on(world, *pair) == Some(Transport::Quic))
    }));
    assert_eq!(world.view(STANDARD).finishing, 1, "the streams on TCP go on");
    world.run_for(secs(3600));
    assert_eq!(world.view(STANDARD).finishing, 1, "for as long as they like");
}

#[test]
fn c2_probes_for_quic_get_rarer() {
    let mut world = World::new(4);
    world.change(Change::Udp(0, false));
    world.run_for(secs(3600));
    let before = world.dials();
    world.run_for(secs(3600));
    // Every 10 minutes and an attempt, spread down to half of it; only the standard lane.
    assert!((6..=12).contains(&(world.dials() - before)), "{}", world.dials() - before);
}

#[test]
fn c2_address_change_moves_quic_and_redials_tcp_at_once() {
    let mut world = World::new(5);
    world.run_for(secs(20));
    let used = world.view(STANDARD).in_use.unwrap().link;
    world.change(Change::Move(1));
    world.run_for(secs(20));
    assert_eq!(world.view(STANDARD).in_use.unwrap().link, used, "the same connection at another address");
    assert!(world.works(STANDARD));
    assert_eq!(world.dials(), 3);
    // The next network blocks UDP: QUIC dies there, and TCP takes over as soon as that is known.
    world.change(Change::Udp(2, false));
    world.change(Change::Move(2));
    assert!(within(&mut world, secs(5), |world| on(world, STANDARD) == Some(Transport::Tcp)));
    world.run_for(secs(30));
    world.change(Change::Udp(0, false));
    world.change(Change::Move(0));
    let race = Pace::default().stagger + Duration::from_millis(150);
    assert!(within(&mut world, race, |world| ClassPair::ALL.iter().all(|pair| world.works(*pair))));
}

#[test]
fn c2_quic_that_dies_young_gives_way_to_tcp() {
    let mut world = World::new(6);
    world.run_for(secs(1));
    world.change(Change::Udp(0, false));
    assert!(within(&mut world, secs(4), |world| on(world, STANDARD) == Some(Transport::Tcp)));
    world.change(Change::Udp(0, true));
    let dials = world.dials();
    world.run_for(secs(5));
    assert_eq!(on(&world, STANDARD), Some(Transport::Tcp), "not at once again");
    assert!(world.dials() <= dials + 3);
    assert!(within(&mut world, secs(60), |world| on(world, STANDARD) == Some(Transport::Quic)));
}

#[test]
fn c2_where_only_a_slow_proxy_passes_the_tunnel_comes_up_all_the_same() {
    let mut world = World::new(7);
    world.change(Change::Udp(0, false));
    world.change(Change::ProxyTakes(12_000));
    assert!(within(&mut world, secs(14), |world| world.works(STANDARD)));
    world.run_for(secs(20));
    for pair in ClassPair::ALL {
        assert!(world.works(pair));
    }
}

#[test]
fn c2_gateway_that_refuses_is_dialled_seldom_and_soon_again_when_it_is_back() {
    let mut world = World::new(8);
    world.change(Change::Udp(0, false));
    world.change(Change::Tcp(0, Tcp::Refused));
    world.run_for(secs(600));
    let before = world.dials();
    world.run_for(secs(600));
    assert!(world.dials() - before <= 80, "{} dials in 10 minutes", world.dials() - before);
    world.change(Change::Tcp(0, Tcp::Works));
    assert!(within(&mut world, secs(31), |world| world.works(STANDARD)));
}

#[test]
fn c2_link_that_is_down_for_five_seconds_is_back_soon_after() {
    for seed in 0..20 {
        let mut world = World::new(seed);
        world.run_for(secs(20));
        world.change(Change::Link(false));
        world.run_for(secs(5));
        world.change(Change::Link(true));
        assert!(within(&mut world, secs(4), |world| ClassPair::ALL.iter().all(|pair| world.works(*pair))), "{seed}");
    }
}

#[test]
fn c2_leaving_gateway_keeps_its_streams_and_is_found_again_after_its_restart() {
    let mut world = World::new(9);
    world.run_for(secs(20));
    world.change(Change::Streams(STANDARD, 1));
    world.change(Change::Leave);
    world.run_for(secs(25));
    assert_eq!((on(&world, STANDARD), world.view(STANDARD).finishing), (None, 1));
    assert_eq!(world.view(ClassPair::Bulk).finishing, 0, "an empty one is closed");
    world.change(Change::Restart { loud: true, away: 0 });
    assert!(within(&mut world, secs(2), |world| ClassPair::ALL.iter().all(|pair| world.works(*pair))));
}

#[test]
fn stopping_agent_lets_streams_end_and_no_longer_than_it_said() {
    let mut world = World::new(10);
    world.run_for(secs(20));
    world.change(Change::Streams(STANDARD, 1));
    world.stop_with_streams();
    let began = world.now;
    assert!(within(&mut world, secs(60), World::finished));
    let took = world.now - began;
    assert!(took >= Pace::default().drain && took < Pace::default().drain + secs(1), "{took:?}");
}

#[test]
fn c2_address_that_never_rests_makes_no_dial_storm() {
    let mut world = World::new(11);
    world.change(Change::Udp(0, false));
    world.change(Change::Udp(1, false));
    // The checks count the dials of each minute.
    for n in 0..600_u32 {
        world.change(Change::Move(u8::from(n % 2 == 0)));
        world.run_for(Duration::from_millis(200));
    }
    assert!(within(&mut world, secs(31), |world| world.works(STANDARD)));
}

#[test]
fn c4_connection_whose_certificate_ends_is_replaced_before_and_keeps_its_streams() {
    let mut world = World::new(12);
    world.run_for(secs(20));
    let before = world.view(STANDARD).in_use.unwrap().link;
    world.change(Change::Streams(STANDARD, 1));
    world.change(Change::Age(STANDARD));
    assert!(within(&mut world, secs(2), |world| world.view(STANDARD).in_use.is_some_and(|used| used.link != before)));
    world.run_for(secs(60));
    assert_eq!(world.view(STANDARD).finishing, 1);
}

#[test]
fn c2_a_gateway_that_leaves_again_and_again_does_not_make_connections_pile_up() {
    let mut world = World::new(14);
    for _ in 0..20 {
        assert!(within(&mut world, secs(60), |world| world.works(STANDARD)));
        world.change(Change::Streams(STANDARD, 1));
        world.change(Change::Leave);
        world.change(Change::Return);
        world.run_for(secs(30));
    }
    assert_eq!(world.view(STANDARD).finishing, MAX_FINISHING);
    assert!(world.works(STANDARD));
}
