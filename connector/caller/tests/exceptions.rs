//! Exceptions end at the agent, by its own clock, whether anybody tells it or not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod house;

use std::time::Duration;

use house::{GATEWAY, House, PATIENCE, Up, echo, now};
use sluice_connector_server::OpenError;
use sluice_connector_wire::{AllowRule, Exception};
use sluice_node_identity::UnixTime;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{sleep, timeout},
};

fn refused(opened: Result<impl Sized, OpenError>) -> String {
    match opened {
        Err(OpenError::Refused { code, .. }) => code,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("opened"),
    }
}

/// Nothing but the agent and a gateway runs here: no control could withdraw anything.
#[tokio::test(flavor = "multi_thread")]
async fn g7_an_exception_ends_at_the_agent_without_control_also_for_a_running_stream() {
    let target = format!("tcp:{}", echo().await);
    let always = House::rule("always", &target, &[GATEWAY], &["127.0.0.1/32"]);
    let (made, until) = (now(), now().plus(4));
    let exception = Some(Exception { made, until });
    let once =
        AllowRule { exception, name: "exception/once".to_owned(), resource: "once".parse().unwrap(), ..always.clone() };
    let up = Up::with(vec![always, once]).await;
    let mut kept = up.direct("always", &target).await.unwrap();
    let mut cut = up.direct("once", &target).await.unwrap();
    for stream in [&mut kept, &mut cut] {
        stream.write_all(b"x").await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'x');
    }
    let ended = timeout(PATIENCE, cut.read_u8()).await.expect("cut in time");
    assert!(ended.is_err(), "a stream that is cut must not look as if it had ended well");
    assert!(now() >= until, "cut too early");
    assert_eq!(refused(up.direct("once", &target).await), "not_allowed");
    kept.write_all(b"y").await.unwrap();
    assert_eq!(kept.read_u8().await.unwrap(), b'y');
}

/// A list's own end is no exception's end: what runs goes on, nothing new begins.
#[tokio::test(flavor = "multi_thread")]
async fn c5_a_list_that_ends_lets_running_streams_be() {
    let target = format!("tcp:{}", echo().await);
    let house = House::new();
    let server = house.tunnel_server(Default::default());
    let gateway = house::run_gateway(&house, server.clone()).await;
    let agent = house.agent(Default::default());
    let rules = vec![House::rule("roundup", &target, &[GATEWAY], &["127.0.0.1/32"])];
    let ends: UnixTime = now().plus(4);
    agent.apply(&house.document_until(gateway, 1, rules, ends)).unwrap();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let running = tokio::spawn({
        let agent = agent.clone();
        async move { agent.run(stopped).await }
    });
    let up = Up { house, server, gateway, agent, stop, running };
    up.tunnels(1).await;
    let mut stream = up.direct("roundup", &target).await.unwrap();
    while now() <= ends {
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(refused(up.direct("roundup", &target).await), "list_expired");
    stream.write_all(b"x").await.unwrap();
    assert_eq!(timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap(), b'x');
}
