//! Live streams: who sees them, and how one is ended.

use axum::http::StatusCode;
use proptest::prelude::*;
use serde_json::json;
use sluice_control_domain::{StateAudience, StatePage, Store};
use sluice_node_identity::{
    KILL_SECONDS, Kill, LiveStream, LiveStreams, NodeId, StreamId, TenantId, UnixTime, kill_key,
};

use super::World;
use crate::Streams;

pub(crate) fn stream(number: u8, subject: &str) -> LiveStream {
    LiveStream {
        id: StreamId::new([0, 0, 0, 0, 0, 0, 0, number]),
        since: UnixTime(1_000_000),
        sealed: false,
        caller: "gw-1".into(),
        subject: subject.into(),
        resource: "wiki".parse().unwrap(),
        target: "tcp:wiki.acme.test:80".into(),
        dialled: "10.0.0.7:80".into(),
        rule: "wiki".into(),
        gateway: "gw-1".parse().unwrap(),
        transport: "quic".into(),
        pair: "standard".into(),
        up: 2048,
        down: 7,
    }
}

impl World {
    /// A connector of acme that carries `streams`. Gives how many orders it made undone.
    pub(crate) fn carries(&self, connector: &str, streams: Vec<LiveStream>) -> usize {
        let now = UnixTime(self.clock.load(std::sync::atomic::Ordering::SeqCst));
        let (tenant, connector) = ("acme".parse().unwrap(), connector.parse().unwrap());
        let live = LiveStreams { total: u32::try_from(streams.len()).unwrap(), streams };
        self.streams.tell((&tenant, &connector), &"branch".parse().unwrap(), live, now).1.len()
    }

    async fn orders(&self, node: &str) -> Vec<(String, serde_json::Value)> {
        let audience = [StateAudience::Node(node.parse().unwrap())];
        match self.store.state(&"acme".parse().unwrap(), &audience, None).await.unwrap() {
            StatePage::Snapshot { entries, .. } => entries,
            StatePage::Changes(_) => panic!("no snapshot"),
        }
    }
}

async fn world() -> (World, String, String) {
    let (world, owner) = World::owned().await;
    let [acme, other, _] = world.two_tenants(&owner).await;
    for id in ["dc-1", "dc-2"] {
        let node = json!({"id": id, "role": "connector", "site": "branch"});
        world.good("POST", "/tenants/acme/nodes", &acme, node).await;
    }
    (world, acme, other)
}

#[tokio::test]
async fn c5_live_streams_are_listed_by_connector_and_site_for_their_tenant_only() {
    let (world, acme, other) = world().await;
    world.carries("dc-1", vec![stream(1, "user/bob"), stream(2, "user/ada")]);
    world.carries("dc-2", vec![stream(3, "service/sync")]);
    let ids = async |query: &str| {
        let (status, answer) = world.call("GET", &format!("/tenants/acme/streams{query}"), Some(&acme), None).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        let items = answer["items"].as_array().unwrap().clone();
        let ids: Vec<_> = items.iter().map(|item| item["stream"].as_str().unwrap().to_owned()).collect();
        (ids, answer["next"].as_str().map(str::to_owned))
    };
    let all = ["dc-1/0000000000000001", "dc-1/0000000000000002", "dc-2/0000000000000003"].map(String::from);
    assert_eq!(ids("").await, (all.to_vec(), None));
    assert_eq!(ids("?connector=dc-2").await.0, all[2..]);
    assert_eq!(ids("?site=elsewhere").await.0, [""; 0]);
    let (first, next) = ids("?limit=2").await;
    assert_eq!(first, all[..2]);
    let next = next.unwrap().replace('/', "%2F");
    assert_eq!(ids(&format!("?limit=2&after={next}")).await, (all[2..].to_vec(), None));
    for bad in ["?connector=..", "?after=x", "?limit=-1", "?unknown=1"] {
        let (status, _) = world.call("GET", &format!("/tenants/acme/streams{bad}"), Some(&acme), None).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{bad}");
    }
    let (status, _) = world.call("GET", "/tenants/acme/streams", Some(&other), None).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let (_, theirs) = world.call("GET", "/tenants/other/streams", Some(&other), None).await;
    assert_eq!(theirs["items"], json!([]));
    // What nobody told again is not believed for ever.
    world.later(31);
    assert_eq!(ids("").await.0, [""; 0]);
}

#[tokio::test]
async fn c5_the_list_says_who_has_not_told_and_whose_streams_are_not_all_there() {
    let (world, owner) = World::owned().await;
    let [acme, ..] = world.two_tenants(&owner).await;
    world.joined_connector(&acme).await;
    let look = async || {
        let (_, answer) = world.call("GET", "/tenants/acme/streams", Some(&acme), None).await;
        answer["connectors"][0].clone()
    };
    let silent = look().await;
    assert!(silent["told"].is_null() && silent["words"].as_str().unwrap().contains("has not told"), "{silent}");
    world.carries("dc-1", vec![stream(1, "user/bob")]);
    world.later(5);
    let whole = look().await;
    assert_eq!((&whole["total"], &whole["told"], &whole["words"]), (&json!(1), &json!(1_000_000), &json!(null)));
    let live = LiveStreams { total: 4_000, streams: vec![stream(1, "user/bob")] };
    let (tenant, connector) = ("acme".parse().unwrap(), "dc-1".parse().unwrap());
    world.streams.tell((&tenant, &connector), &"branch".parse().unwrap(), live, UnixTime(1_000_005));
    assert_eq!(look().await["words"], "runs 4000 streams; the newest 1 are listed");
    world.later(31);
    assert!(look().await["told"].is_null(), "silent again");
}

#[tokio::test]
async fn c5_a_kill_is_audited_ordered_once_and_taken_back() {
    let (world, acme, other) = world().await;
    world.carries("dc-1", vec![stream(1, "user/bob"), stream(2, "user/ada")]);
    let path = "/tenants/acme/streams/dc-1/0000000000000001";
    for (path, token, status) in [
        (path, &other, StatusCode::NOT_FOUND),
        ("/tenants/acme/streams/dc-1/00000000000000ff", &acme, StatusCode::NOT_FOUND),
        ("/tenants/acme/streams/dc-2/0000000000000001", &acme, StatusCode::NOT_FOUND),
        ("/tenants/acme/streams/dc-9/0000000000000001", &acme, StatusCode::NOT_FOUND),
        ("/tenants/acme/streams/dc-1/1", &acme, StatusCode::NOT_FOUND),
        (path, &acme, StatusCode::ACCEPTED),
    ] {
        assert_eq!(world.call("DELETE", path, Some(token), None).await.0, status, "{path}");
    }
    let (_, ended) = world.call("DELETE", "/tenants/acme/streams/dc-1/00000000000000ff", Some(&acme), None).await;
    assert_eq!(ended["error"]["code"], "ended", "{ended}");
    for path in ["/tenants/acme/streams/dc-1/00000000000000ff", "/tenants/acme/streams/dc-9/0000000000000001"] {
        let (_, foreign) = world.call("DELETE", path, Some(&other), None).await;
        assert_eq!(foreign["error"]["code"], "not_found", "strangers learn nothing: {foreign}");
    }
    let (connector, id): (NodeId, _) = ("dc-1".parse().unwrap(), StreamId::new([0, 0, 0, 0, 0, 0, 0, 1]));
    let until = UnixTime(1_000_000 + KILL_SECONDS);
    assert_eq!(world.orders("dc-1").await, [(kill_key(&connector, id), json!(Kill { until }))]);
    assert_eq!(world.orders("dc-2").await, [], "an order goes to one connector");
    let (_, audit) = world.call("GET", "/tenants/acme/audit?limit=1000", Some(&acme), None).await;
    let kills: Vec<_> =
        audit["items"].as_array().unwrap().iter().filter(|entry| entry["act"] == "stream.kill").collect();
    assert_eq!(kills.len(), 1);
    assert_eq!(kills[0]["subject"], "stream/dc-1/0000000000000001");
    assert_eq!(kills[0]["detail"]["subject"], "user/bob");

    assert_eq!(world.carries("dc-1", vec![stream(1, "user/bob"), stream(2, "user/ada")]), 0, "it still runs");
    assert_eq!(world.carries("dc-1", vec![stream(2, "user/ada")]), 1, "the order is done");
    assert_eq!(world.carries("dc-1", vec![stream(2, "user/ada")]), 0);
    // Nobody took it out of the feed here; the next order does when it is out of date.
    world.later(KILL_SECONDS + 1);
    world.carries("dc-1", vec![stream(2, "user/ada")]);
    world.call("DELETE", "/tenants/acme/streams/dc-1/0000000000000002", Some(&acme), None).await;
    let orders: Vec<String> = world.orders("dc-1").await.into_iter().map(|(key, _)| key).collect();
    assert_eq!(orders, ["kill/dc-1/0000000000000002"]);
}

#[tokio::test]
async fn orders_to_one_connector_are_bounded() {
    let (tenant, connector): (TenantId, NodeId) = ("acme".parse().unwrap(), "dc-1".parse().unwrap());
    let streams = Streams::default();
    let order = |number: u16, now| {
        let [high, low] = number.to_be_bytes();
        streams.ordered(&tenant, &connector, StreamId::new([0, 0, 0, 0, 0, 0, high, low]), UnixTime(now))
    };
    assert!((0..1_000).all(|number| order(number, 0)));
    assert!(!order(1_000, KILL_SECONDS));
    assert!(order(1_000, KILL_SECONDS + 1));
}

proptest! {
    /// Whatever is told, pages of any size give each stream of the tenant once, in order.
    #[test]
    fn pages_give_every_stream_once(
        told in proptest::collection::btree_set((0_u8..4, any::<u8>()), 0..60),
        limit in 1_usize..10,
    ) {
        let (tenant, other): (TenantId, TenantId) = ("acme".parse().unwrap(), "other".parse().unwrap());
        let streams = Streams::default();
        for number in 0..4 {
            let connector = format!("dc-{number}").parse().unwrap();
            let own: Vec<_> = told.iter().filter(|(of, _)| *of == number).map(|(_, id)| stream(*id, "user/a")).collect();
            let live = LiveStreams { total: u32::try_from(own.len()).unwrap(), streams: own };
            streams.tell((&tenant, &connector), &"branch".parse().unwrap(), live, UnixTime(5));
            let foreign = LiveStreams { total: 1, streams: vec![stream(7, "user/eve")] };
            streams.tell((&other, &connector), &"branch".parse().unwrap(), foreign, UnixTime(5));
        }
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = streams.look(&tenant, |_, _| true, after.as_ref(), limit, UnixTime(6));
            prop_assert!(page.len() <= limit);
            let Some(last) = page.last() else { break };
            after = Some((last.connector.clone(), last.stream.id));
            seen.extend(page.into_iter().map(|one| (one.connector.to_string(), one.stream.id)));
        }
        let wanted: Vec<_> =
            told.iter().map(|(of, id)| (format!("dc-{of}"), stream(*id, "").id)).collect();
        prop_assert_eq!(seen, wanted);
    }
}
