#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use proptest::prelude::*;
use sluice_connector_mux::{Connection, End};
use sluice_connector_wire::Transport;

use super::*;

/// Opens nothing: the connection behind it has gone.
fn opener() -> Opener {
    let (io, _far) = tokio::io::duplex(64);
    Connection::over_tcp(io, End::Gateway).opener()
}

fn facts(connector: &str, sid: &str, pair: ClassPair) -> Facts {
    let connector = connector.parse().unwrap();
    Facts { connector, sid: sid.to_owned(), pair, transport: Transport::Tcp, cnf: String::new() }
}

const STANDARD: ClassPair = ClassPair::Standard;

fn sids(ways: &[Way]) -> Vec<&str> {
    ways.iter().map(|way| way.leg.facts.sid.as_str()).collect()
}

#[tokio::test]
async fn a_connectors_newest_tunnel_is_asked_first_however_busy_it_is() {
    let (registry, limits) = (Registry::default(), Limits::default());
    let insert = |connector: &str, sid: &str, streams: u32| {
        let registered = registry.insert(facts(connector, sid, STANDARD), opener(), &limits).unwrap();
        registered.leg.heard_ping(Some(900), streams, 10);
        registered
    };
    let _held = [insert("dc-1", "dead line", 0), insert("dc-2", "other", 3), insert("dc-1", "alive", 5)];
    let ways = registry.ways(&["dc-1".parse().unwrap(), "dc-2".parse().unwrap()], STANDARD);
    assert_eq!(sids(&ways), ["other", "alive", "dead line"]);
}

#[tokio::test]
async fn among_connectors_counts_the_round_trip_time_times_the_load() {
    let (registry, limits) = (Registry::default(), Limits::default());
    let insert = |connector: &str, rtt: u32, streams: u32, room: u32| {
        let registered = registry.insert(facts(connector, connector, STANDARD), opener(), &limits).unwrap();
        registered.leg.heard_ping(Some(rtt), streams, room);
        registered
    };
    let _held = [
        insert("near-busy", 2_000, 99, 10),
        insert("far-idle", 40_000, 0, 10),
        insert("near-full", 2_000, 0, 0),
        insert("noise", 20, 30, 10),
    ];
    let all = ["near-busy", "far-idle", "near-full", "noise"].map(|id| id.parse().unwrap());
    assert_eq!(sids(&registry.ways(&all, STANDARD)), ["noise", "far-idle", "near-busy", "near-full"]);
    assert_eq!(sids(&registry.ways(&all[..1], STANDARD)), ["near-busy"], "nobody who was not asked for");
}

#[tokio::test]
async fn a_stream_goes_to_its_pair_and_not_to_what_retires() {
    let (registry, limits) = (Registry::default(), Limits::default());
    let insert = |pair| registry.insert(facts("dc-1", "one", pair), opener(), &limits).unwrap();
    let [interactive, standard, bulk] = ClassPair::ALL.map(insert);
    let numbers = |pair| -> Vec<ClassPair> {
        registry.ways(&["dc-1".parse().unwrap()], pair).iter().map(|way| way.leg.facts.pair).collect()
    };
    use ClassPair::{Bulk, Interactive, Standard};
    assert_eq!(numbers(Interactive), [Interactive, Standard, Bulk]);
    assert_eq!(numbers(Bulk), [Bulk, Standard, Interactive]);
    // A second connection of the pair: the newest gets what is new, until it goes.
    let newer = insert(Bulk);
    let first = |pair| registry.ways_of(&"dc-1".parse().unwrap(), "one", pair).first().unwrap().leg.clone();
    assert!(Arc::ptr_eq(&first(Bulk), &newer.leg));
    drop(newer);
    assert!(Arc::ptr_eq(&first(Bulk), &bulk.leg));
    bulk.retire();
    assert_eq!(numbers(Bulk), [Standard, Interactive]);
    standard.retire();
    interactive.retire();
    assert!(numbers(Standard).is_empty());
    assert!(registry.live().borrow().is_empty(), "a tunnel that takes no streams is none to control");
    assert!(registry.ways_of(&"dc-2".parse().unwrap(), "one", Bulk).is_empty());
}

#[tokio::test]
async fn what_one_connector_has_too_much_of_closes_its_oldest_and_nobody_elses() {
    let limits = Limits { tunnels: 3, tunnels_per_connector: 2, connections_per_pair: 2, ..Limits::default() };
    let registry = Registry::default();
    let insert = |connector: &str, sid: &str| registry.insert(facts(connector, sid, STANDARD), opener(), &limits);
    let closed = |registered: &Registered<'_>| registered.leg.close.is_cancelled();
    let (other, first, second) =
        (insert("dc-2", "x").unwrap(), insert("dc-1", "a").unwrap(), insert("dc-1", "b").unwrap());
    assert_eq!(insert("dc-3", "y").unwrap_err(), NotTaken::Full);
    let third = insert("dc-1", "c").unwrap();
    assert!(closed(&first) && !closed(&second) && !closed(&third) && !closed(&other));
    let again = insert("dc-1", "c").unwrap();
    assert!(!closed(&third));
    let _one_more = insert("dc-1", "c").unwrap();
    assert!(closed(&third) && !closed(&again), "one pair has two connections");
    assert_eq!(insert("dc-2", "c").unwrap_err(), NotTaken::SessionInUse);
    assert_eq!(registry.close_connector(&"dc-1".parse().unwrap()), 2);
    assert!(closed(&second) && closed(&again) && !closed(&other));
    registry.leave();
    assert_eq!(insert("dc-2", "x").unwrap_err(), NotTaken::Leaving);
}

#[tokio::test]
async fn connections_are_counted_from_before_their_hello() {
    let limits = Limits { connections: 3, connections_per_connector: 2, ..Limits::default() };
    let registry = Registry::default();
    let enter = |connector: &str| registry.enter(&connector.parse().unwrap(), &limits);
    let (one, _two) = (enter("dc-1").unwrap(), enter("dc-1").unwrap());
    assert_eq!(enter("dc-1").unwrap_err(), NotTaken::TooManyOfConnector);
    let _other = enter("dc-2").unwrap();
    assert_eq!(enter("dc-3").unwrap_err(), NotTaken::TooManyConnections);
    drop(one);
    enter("dc-1").unwrap();
}

/// One step of what may happen to a registry.
#[derive(Clone, Debug)]
enum Step {
    Insert { connector: u8, sid: u8, pair: u8 },
    Drop(prop::sample::Index),
    Retire(prop::sample::Index),
    CloseConnector(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (0..3_u8, 0..6_u8, 0..3_u8).prop_map(|(connector, sid, pair)| Step::Insert { connector, sid, pair }),
        2 => any::<prop::sample::Index>().prop_map(Step::Drop),
        1 => any::<prop::sample::Index>().prop_map(Step::Retire),
        1 => (0..3_u8).prop_map(Step::CloseConnector),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever happens: ways are exactly the connections that live, each once, nobody else's, within the bounds.
    #[test]
    fn ways_are_exactly_what_lives(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _inside = runtime.enter();
        let limits = Limits { tunnels: 6, tunnels_per_connector: 2, connections_per_pair: 2, ..Limits::default() };
        let (registry, mut held) = (Registry::default(), Vec::<Registered<'_>>::new());
        for step in steps {
            match step {
                Step::Insert { connector, sid, pair } => {
                    let new = facts(&format!("dc-{connector}"), &sid.to_string(), ClassPair::ALL[usize::from(pair)]);
                    let owner = held.iter().find(|one| !one.leg.close.is_cancelled() && one.leg.facts.sid == new.sid);
                    let foreign = owner.is_some_and(|owner| owner.leg.facts.connector != new.connector);
                    let inserted = registry.insert(new, opener(), &limits);
                    prop_assert_eq!(inserted.is_err(), foreign);
                    held.extend(inserted);
                }
                Step::Drop(at) if !held.is_empty() => drop(held.swap_remove(at.index(held.len()))),
                Step::Retire(at) if !held.is_empty() => at.get(&held).retire(),
                Step::CloseConnector(connector) => {
                    registry.close_connector(&format!("dc-{connector}").parse().unwrap());
                }
                Step::Drop(_) | Step::Retire(_) => {}
            }
            for connector in 0..3 {
                let id: NodeId = format!("dc-{connector}").parse().unwrap();
                let ways = registry.ways(std::slice::from_ref(&id), STANDARD);
                let lives = |one: &&Registered<'_>| one.leg.facts.connector == id && !one.leg.is_retired();
                let mut expected: Vec<_> = held.iter().filter(lives).map(|one| Arc::as_ptr(&one.leg)).collect();
                let mut found: Vec<_> = ways.iter().map(|way| Arc::as_ptr(&way.leg)).collect();
                expected.sort_unstable();
                found.sort_unstable();
                prop_assert_eq!(found, expected);
                let tunnels: BTreeSet<&str> = sids(&ways).into_iter().collect();
                prop_assert!(tunnels.len() <= limits.tunnels_per_connector);
            }
        }
        held.clear();
        let table = registry.lock();
        prop_assert!(table.tunnels.is_empty() && table.by_connector.is_empty(), "nothing is left behind");
    }
}
