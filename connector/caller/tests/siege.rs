//! A gateway that is not ours any more, at length: it replays, fills memories and hoards.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod house;

use std::time::Duration;

use house::{
    CONNECTOR, GATEWAY, House, PATIENCE, echo, evil::Evil, exchange, gateway_at, now, run_agent, run_gateway_as,
    tunnels,
};
use sluice_connector_agent::{Agent, Limits};
use sluice_connector_caller::{Gateway, Way, Wish};
use sluice_connector_mux::{Stream, read_frame, write_frame};
use sluice_connector_server::TunnelServer;
use sluice_connector_wire::{
    AllowRule, ClassPair, ConnectorDocument, GatewayEndpoint, OpenReply, OpenRequest, StreamClaims, TokenSigner,
    certificate_hash, sign_stream_token,
};
use sluice_node_identity::NodeId;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{sleep, timeout},
};

const SECOND: &str = "dmz-2";

fn second_name() -> String {
    format!("spiffe://sluice.test/tenant/acme/gateway/{SECOND}")
}

fn rules(target: &str) -> Vec<AllowRule> {
    vec![House::rule("directory", target, &[GATEWAY, "control"], &["127.0.0.1/32"])]
}

/// The document that sends the connector to a second gateway, too.
fn with_second(mut document: ConnectorDocument, at: std::net::SocketAddr) -> ConnectorDocument {
    let id: NodeId = SECOND.parse().unwrap();
    document.gateways.push(GatewayEndpoint { id, host: at.ip().to_string(), port: at.port() });
    document
}

/// A token of `signer`'s for the directory, bound to the broken-in gateway's certificate.
fn token(house: &House, signer: &TokenSigner, sid: &str, target: &str, number: u32) -> String {
    let claims = StreamClaims {
        iss: signer.id().to_owned(),
        aud: CONNECTOR.parse().unwrap(),
        sub: "user/ada".to_owned(),
        res: "directory".parse().unwrap(),
        tgt: target.parse().unwrap(),
        sid: sid.to_owned(),
        cnf: certificate_hash(&house.gateway.cert[0]),
        iat: now(),
        exp: now().plus(30),
        jti: format!("AAAAAAAAAAAAA{number:08}A"),
    };
    sign_stream_token(&claims, signer).unwrap()
}

/// What the agent answers, and the stream.
async fn ask(evil: &Evil, token: &str) -> (String, Stream) {
    let mut stream = evil.open(CONNECTOR).await;
    write_frame(&mut stream, &OpenRequest::Direct { token: token.to_owned() }, PATIENCE).await.unwrap();
    let answer = match read_frame(&mut stream, PATIENCE).await.unwrap() {
        OpenReply::Open => "open".to_owned(),
        OpenReply::Refused { code, .. } => code,
    };
    (answer, stream)
}

/// Control's stream through `ways`; gives what came back.
async fn call(house: &House, ways: &[Way], target: &str) -> Option<Vec<u8>> {
    let (tenant, resource, target) = ("acme".parse().unwrap(), "directory".parse().unwrap(), target.parse().unwrap());
    let (subject, pair) = ("service/sync", ClassPair::Bulk);
    let wish = Wish { tenant: &tenant, resource: &resource, target: &target, subject, pair };
    let opened = timeout(PATIENCE, house.caller().open_any(ways, &wish, |_, _| {})).await.expect("an answer in time");
    exchange(&mut opened.ok()?, b"sync").await.ok()
}

fn way(gateway: Gateway, sid: String) -> Way {
    Way { gateway, connector: CONNECTOR.parse().unwrap(), sid }
}

#[tokio::test(flavor = "multi_thread")]
async fn c4_malicious_gateway_fills_no_other_callers_token_memory() {
    const ROOM: u32 = 8;
    let (house, target) = (House::new(), format!("tcp:{}", echo().await));
    let mut evil = Evil::run(&house).await;
    let agent = house.agent(Limits { spent_per_caller: ROOM as usize, ..Limits::default() });
    agent.apply(&house.document(evil.address, 1, rules(&target))).unwrap();
    let (_stop, _running) = run_agent(&agent);
    let sid = evil.sid(CONNECTOR).await;
    // Forged in control's name: not believed, and so not remembered either.
    for number in 0..ROOM * 4 {
        let forged = TokenSigner::gateway("control", &house.gateway_key).unwrap();
        let (answer, _) = ask(&evil, &token(&house, &forged, &sid, &target, number)).await;
        assert_eq!(answer, "token_not_trusted");
    }
    for number in 0..ROOM {
        let (answer, _) = ask(&evil, &token(&house, &house.gateway_signer(), &sid, &target, number)).await;
        assert_eq!(answer, "open", "its own, which the list allows");
    }
    let (answer, _) = ask(&evil, &token(&house, &house.gateway_signer(), &sid, &target, ROOM)).await;
    assert_eq!(answer, "token_memory_full", "its own memory is full");
    let ways = [way(gateway_at(evil.address), sid)];
    let carrying = async {
        let mut relay = evil.relay().await;
        let mut stream = evil.open(CONNECTOR).await;
        write_frame(&mut stream, &OpenRequest::Sealed, PATIENCE).await.unwrap();
        let _end = tokio::io::copy_bidirectional(&mut relay, &mut stream).await;
    };
    let (called, ()) = tokio::join!(call(&house, &ways, &target), carrying);
    assert_eq!(called.as_deref(), Some(&b"sync"[..]), "control's is not");
}

#[tokio::test(flavor = "multi_thread")]
async fn c4_captured_token_is_worth_nothing_again_elsewhere_or_after_a_restart() {
    let (house, target) = (House::new(), format!("tcp:{}", echo().await));
    let second = house.authority.issue(&second_name());
    let (evil, other) = (Evil::run(&house).await, Evil::run_as(&house, &second).await);
    let document = with_second(house.document(evil.address, 1, rules(&target)), other.address);
    let begin = |agent: &Agent| {
        agent.apply(&document).unwrap();
        run_agent(agent)
    };
    let agent = house.agent(Limits::default());
    let (stop, running) = begin(&agent);
    let sid = evil.sid(CONNECTOR).await;
    other.sid(CONNECTOR).await;
    let captured = token(&house, &house.gateway_signer(), &sid, &target, 1);
    let (answer, mut stream) = ask(&evil, &captured).await;
    assert_eq!(answer, "open");
    stream.write_all(b"x").await.unwrap();
    stream.flush().await.unwrap();
    assert_eq!(timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap(), b'x');
    assert_eq!(ask(&evil, &captured).await.0, "token_spent", "on the same tunnel");
    assert_eq!(ask(&other, &captured).await.0, "token_wrong_caller", "on another gateway's");
    drop(stream);
    stop.send(true).unwrap();
    timeout(PATIENCE, running).await.expect("the agent stops").unwrap();
    // The same connector again, with nothing in memory.
    let restarted = house.agent(Limits::default());
    let (_stop, _running) = begin(&restarted);
    let new = async {
        while evil.sid(CONNECTOR).await == sid {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, new).await.expect("a new session");
    assert_eq!(ask(&evil, &captured).await.0, "token_wrong_session");
    let new = evil.sid(CONNECTOR).await;
    assert_eq!(ask(&evil, &token(&house, &house.gateway_signer(), &new, &target, 2)).await.0, "open");
}

#[tokio::test(flavor = "multi_thread")]
async fn c4_malicious_gateway_that_hoards_controls_streams_delays_them_and_learns_nothing() {
    let (house, target) = (House::new(), format!("tcp:{}", echo().await));
    let mut evil = Evil::run(&house).await;
    let honest = house.authority.issue(&second_name());
    let signer = TokenSigner::gateway(SECOND, &house.gateway_key).unwrap();
    let server = TunnelServer::new(second_name().parse().unwrap(), signer, Default::default());
    let at = run_gateway_as(&house, &honest, server.clone()).await;
    let agent = house.agent(Limits::default());
    agent.apply(&with_second(house.document(evil.address, 1, rules(&target)), at)).unwrap();
    let (_stop, _running) = run_agent(&agent);
    tunnels(&server, 1).await;
    let sid = server.live().borrow()[0].sid.clone();
    let ways = [
        way(gateway_at(evil.address), evil.sid(CONNECTOR).await),
        way(Gateway { id: SECOND.parse().unwrap(), ..gateway_at(at) }, sid),
    ];
    // Says that all is well, and carries nothing.
    let hoarding = async {
        let mut relay = evil.relay().await;
        let mut all = Vec::new();
        let _end = timeout(PATIENCE, relay.read_to_end(&mut all)).await.expect("control gives the hoarded way up");
        all
    };
    let (called, hoarded) = tokio::join!(call(&house, &ways, &target), hoarding);
    assert_eq!(called.as_deref(), Some(&b"sync"[..]));
    for hidden in [&b"eyJ"[..], b"directory", b"service/sync", target.as_bytes()] {
        assert!(!hoarded.windows(hidden.len()).any(|window| window == hidden));
    }
}
