//! The agent's table of live streams: what it shows, and that a stream in it can be ended alone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod house;

use house::{GATEWAY, House, PATIENCE, Up, echo, exchange};
use sluice_connector_agent::Agent;
use sluice_connector_caller::SealedAsk;
use sluice_connector_wire::ClassPair;
use sluice_node_identity::StreamId;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

async fn count(agent: &Agent, wanted: usize) {
    let mut count = agent.stream_count();
    timeout(PATIENCE, count.wait_for(|count| *count == wanted)).await.expect("in time").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn c5_live_streams_are_listed_with_who_what_and_bytes_and_one_can_be_killed() {
    let at = echo().await;
    let target = format!("tcp:{at}");
    let rules = vec![House::rule("roundup", &target, &[GATEWAY, "control"], &["127.0.0.1/32"])];
    let up = Up::with(rules).await;
    assert_eq!(up.agent.streams(), Default::default());
    let mut first = up.direct("roundup", &target).await.unwrap();
    first.write_all(b"12345").await.unwrap();
    first.read_exact(&mut [0; 5]).await.unwrap();
    let mut second = up.direct("roundup", &target).await.unwrap();
    second.write_all(b"x").await.unwrap();
    second.read_u8().await.unwrap();
    let (resource, tunnel) = ("roundup".parse().unwrap(), up.sid());
    let ask = SealedAsk {
        tenant: &"acme".parse().unwrap(),
        connector: &house::CONNECTOR.parse().unwrap(),
        sid: &tunnel,
        resource: &resource,
        target: &target.parse().unwrap(),
        subject: "service/sync",
        pair: ClassPair::default(),
    };
    let (caller, gateway) = (up.house.caller(), up.gateway_for_control());
    let sealed = timeout(PATIENCE, caller.open(&gateway, &ask)).await.expect("in time").unwrap();

    count(&up.agent, 3).await;
    let told = up.agent.streams();
    assert_eq!((told.total, told.streams.len()), (3, 3));
    assert!(told.streams.iter().all(|one| *one == one.clone().plain()));
    let find = |up: u64, sealed: bool| told.streams.iter().find(|one| one.up == up && one.sealed == sealed).unwrap();
    let one = find(5, false);
    assert_eq!((one.caller.as_str(), one.subject.as_str(), one.down), (GATEWAY, "user/ada", 5));
    assert_eq!((one.target.as_str(), one.dialled.as_str()), (target.as_str(), at.to_string().as_str()));
    assert_eq!((one.resource.as_str(), one.gateway.as_str()), ("roundup", GATEWAY));
    assert!(!one.rule.is_empty() && house::now().since(one.since) < 60);
    let other = find(0, true);
    assert_eq!((other.caller.as_str(), other.subject.as_str()), ("control", "service/sync"));

    assert!(!up.agent.kill(StreamId::new([7; 8])), "there is no such stream");
    assert!(up.agent.kill(one.id));
    let end = timeout(PATIENCE, first.read_u8()).await.expect("ended in time");
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset, "broken off, not ended");
    count(&up.agent, 2).await;
    assert!(!up.agent.kill(one.id), "it is gone");
    // The others go on, and new ones come.
    second.write_all(b"y").await.unwrap();
    assert_eq!(second.read_u8().await.unwrap(), b'y');
    exchange(&mut up.direct("roundup", &target).await.unwrap(), b"z").await.unwrap();
    drop((second, sealed));
    count(&up.agent, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_a_tunnel_that_broke_leave_the_table() {
    let target = format!("tcp:{}", echo().await);
    let up = Up::with(vec![House::rule("roundup", &target, &[GATEWAY], &["127.0.0.1/32"])]).await;
    let mut streams = Vec::new();
    for _ in 0..5 {
        streams.push(up.direct("roundup", &target).await.unwrap());
    }
    count(&up.agent, 5).await;
    up.server.drop_connector(&house::CONNECTOR.parse().unwrap());
    count(&up.agent, 0).await;
}
