//! The racing and reconnecting machine in a simulated world, against what anybody may expect of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod checks;
mod single;
mod world;

use std::time::Duration;

use proptest::prelude::*;
use sluice_connector_wire::{ClassPair, Transport, race::Pace};
use world::{Change, Tcp, World};

fn change() -> impl Strategy<Value = Change> {
    let tcp = prop_oneof![3 => Just(Tcp::Works), 1 => Just(Tcp::Refused), 1 => Just(Tcp::Silent)];
    prop_oneof![
        4 => (0..3_u8).prop_map(Change::Move),
        2 => any::<bool>().prop_map(Change::Link),
        3 => (0..3_u8, any::<bool>()).prop_map(|(network, works)| Change::Udp(network, works)),
        3 => (0..3_u8, tcp).prop_map(|(network, tcp)| Change::Tcp(network, tcp)),
        2 => (0..8_000_u64).prop_map(Change::ProxyTakes),
        2 => (1..400_u64).prop_map(Change::Delay),
        3 => (any::<bool>(), 0..40_000_u64).prop_map(|(loud, away)| Change::Restart { loud, away }),
        1 => Just(Change::Leave),
        1 => Just(Change::Return),
        1 => (0..3_usize).prop_map(|lane| Change::Age(ClassPair::ALL[lane])),
        4 => (0..3_usize, 0..3_usize).prop_map(|(lane, open)| Change::Streams(ClassPair::ALL[lane], open)),
    ]
}

fn pause() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0..400_u64, 4 => 0..8_000_u64, 1 => 0..120_000_u64]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn c2_whatever_the_world_does_the_tunnel_keeps_its_promises_and_comes_back(
        seed: u64,
        story in proptest::collection::vec((pause(), change()), 0..50),
        udp_at_last: bool,
    ) {
        let mut world = World::new(seed);
        for (pause, change) in story {
            world.run_for(Duration::from_millis(pause));
            world.change(change);
        }
        world.make_well(udp_at_last);
        let pace = Pace::default();
        // Noticing (3 s), a pause, an attempt that hangs, and the race itself; then the same for the other lanes.
        world.run_for((pace.pause_max + pace.attempt + Duration::from_secs(10)) * 2);
        for pair in ClassPair::ALL {
            prop_assert!(world.works(pair), "{pair} is not back: {:?}", world.view(pair));
        }
        world.run_for(pace.probe_max + pace.attempt * 2 + Duration::from_secs(60));
        let best = if udp_at_last { Transport::Quic } else { Transport::Tcp };
        let before = world.dials();
        world.run_for(Duration::from_secs(300));
        for pair in ClassPair::ALL {
            prop_assert_eq!(world.view(pair).in_use.map(|used| used.transport), Some(best));
            prop_assert!(world.works(pair));
        }
        prop_assert!(!udp_at_last || world.dials() == before, "a good connection is left alone");
        world.stop_and_finish();
    }
}
