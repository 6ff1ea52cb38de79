//! A gateway that is not ours any more wants the whole connector for itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod house;

use std::time::Duration;

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use house::{
    GATEWAY, House, PATIENCE, echo, exchange, tunnels,
    two::{SECOND, Two, answer},
};
use sluice_connector_agent::Limits;
use sluice_connector_wire::StreamClaims;
use sluice_node_identity::{StateEvent, StateView};
use tokio::time::{sleep, timeout};

fn rules(target: &str) -> Vec<sluice_connector_wire::AllowRule> {
    vec![House::rule("roundup", target, &[GATEWAY, SECOND], &["127.0.0.1/32"])]
}

/// The honest gateway's user is served.
async fn serves(two: &Two, target: &str) {
    let mut stream = two.honest("roundup", target).await.unwrap();
    assert_eq!(exchange(&mut stream, b"not disturbed").await.unwrap(), b"not disturbed");
}

/// Streams that were begun and say nothing.
struct Siege(FuturesUnordered<BoxFuture<'static, String>>);

impl Siege {
    /// Begins `many`, of which the agent keeps `asking` and refuses the others at once.
    async fn lay(two: &Two, many: usize, asking: usize) -> Self {
        let mut streams: FuturesUnordered<BoxFuture<'static, String>> = FuturesUnordered::new();
        let mut begun = 0;
        while begun < many {
            for _ in 0..(many - begun).min(asking * 2) {
                let mut stream = two.half_open().await;
                streams.push(async move { answer(&mut stream).await }.boxed());
                begun += 1;
            }
            while streams.len() > asking {
                let next = timeout(PATIENCE, streams.next()).await.expect("what is too much is refused at once");
                assert_eq!(next.unwrap(), "connector_busy");
            }
        }
        Self(streams)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c5_a_broken_in_gateway_that_hoards_streams_takes_nobody_elses_room() {
    let target = format!("tcp:{}", echo().await);
    let two = Two::up(Limits { streams: 40, ..Limits::default() }, rules(&target)).await;
    // Streams that the list allows it, as many as it can get.
    let mut hoarded = Vec::new();
    for number in 0..40 {
        let (answer, stream) = two.ask(&two.claims("roundup", &target, number)).await;
        hoarded.extend((answer == "open").then_some(stream));
        assert!(answer == "open" || (answer == "connector_busy" && hoarded.len() >= 30), "{answer}");
    }
    assert_eq!(hoarded.len(), 30, "three quarters");
    serves(&two, &target).await;
    // And as many as it can begin, which say nothing.
    let _silent = Siege::lay(&two, 200, Limits::default().asking).await;
    serves(&two, &target).await;
    // By now the honest gateway has heard how much room it has.
    sleep(Duration::from_secs(2)).await;
    serves(&two, &target).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c5_half_open_streams_at_an_agent_are_bounded_and_leave_when_their_gateway_lets_go() {
    let long = std::env::var_os("SLUICE_LONG").is_some_and(|long| long == "1");
    let (many, asking) = (if long { 10_000 } else { 500 }, 64);
    let target = format!("tcp:{}", echo().await);
    let limits = Limits { asking, handshake: Duration::from_secs(300), ..Limits::default() };
    let two = Two::up(limits, rules(&target)).await;
    let siege = Siege::lay(&two, many, asking).await;
    serves(&two, &target).await;
    assert_eq!(siege.0.len(), asking);
    drop(siege);
    let again = async {
        let mut number = 0;
        while two.ask(&two.claims("roundup", &target, number)).await.0 != "open" {
            number += 1;
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, again).await.expect("room again");
}

#[tokio::test(flavor = "multi_thread")]
async fn c4_a_locked_callers_key_at_another_tunnel_is_refused() {
    let target = format!("tcp:{}", echo().await);
    let two = Two::up(Limits::default(), rules(&target)).await;
    // The broken-in gateway has stolen the other's key, and both what it signs with and where it sits are known here.
    let stolen = StreamClaims { iss: SECOND.to_owned(), ..two.claims("roundup", &target, 1) };
    assert_eq!(two.ask_with_the_others_key(&stolen).await.0, "token_wrong_caller");
    // Even before the list without that key has come.
    let mut view = StateView::default();
    let key = format!("node/{SECOND}").parse().unwrap();
    view.apply(StateEvent::Delta { prev: 0, seq: 1, key, value: Some(true.into()) }).unwrap();
    two.agent.obey(&view);
    tunnels(&two.server, 0).await;
    let stolen = StreamClaims { iss: SECOND.to_owned(), ..two.claims("roundup", &target, 2) };
    assert_ne!(two.ask_with_the_others_key(&stolen).await.0, "open");
    assert_eq!(two.ask(&two.claims("roundup", &target, 3)).await.0, "open", "its own is");
}
