//! Sealed streams: through an honest gateway, and through one that tries everything.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod house;

use std::sync::{Arc, Mutex};

use house::{
    CONNECTOR, GATEWAY, House, PATIENCE, Up, control_signer, echo,
    evil::{Evil, Tap, splice},
    exchange, gateway_at, now, serve,
};
use sluice_connector_agent::{Agent, Limits, Pieces};
use sluice_connector_caller::{CallError, SealedAsk, SealedStream};
use sluice_connector_mux::{read_frame, write_frame};
use sluice_connector_wire::{
    ALPN_SEALED, AllowRule, ClassPair, OpenReply, OpenRequest, StreamClaims, Target, TokenSigner, certificate_hash,
    sign_stream_token,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_rustls::TlsConnector;

async fn call(
    house: &House,
    gateway: std::net::SocketAddr,
    sid: &str,
    resource: &str,
    target: &str,
) -> Result<SealedStream, CallError> {
    let target: Target = target.parse().unwrap();
    let ask = SealedAsk {
        tenant: &"acme".parse().unwrap(),
        connector: &CONNECTOR.parse().unwrap(),
        sid,
        resource: &resource.parse().unwrap(),
        target: &target,
        subject: "service/sync",
        pair: ClassPair::default(),
    };
    let caller = house.caller();
    timeout(PATIENCE, caller.open(&gateway_at(gateway), &ask)).await.expect("an answer in time")
}

fn control_only(target: &str) -> Vec<AllowRule> {
    vec![House::rule("directory", target, &["control"], &["127.0.0.1/32"])]
}

#[tokio::test(flavor = "multi_thread")]
async fn c2_c6_control_reaches_a_directory_through_the_gateway() {
    let target = format!("tcp:{}", echo().await);
    let up = Up::with(control_only(&target)).await;
    let mut stream = call(&up.house, up.gateway, &up.sid(), "directory", &target).await.unwrap();
    let sent: Vec<u8> = (0..2_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    assert_eq!(exchange(&mut stream, &sent).await.unwrap(), sent);
    // The gateway itself gets nowhere near it.
    let refused = up.direct("directory", &target).await.unwrap_err();
    assert!(refused.to_string().contains("not_allowed"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn c2_a_gateway_that_vanishes_is_noticed_by_control() {
    let target = format!("tcp:{}", echo().await);
    let up = Up::with(control_only(&target)).await;
    let stream = call(&up.house, up.gateway, &up.sid(), "directory", &target).await.unwrap();
    let socket = socket2::SockRef::from(stream.get_ref().0.get_ref().0);
    assert!(socket.keepalive().unwrap() && socket.tcp_keepalive_time().unwrap() <= std::time::Duration::from_secs(15));
    assert_eq!(socket.tcp_user_timeout().unwrap(), Some(std::time::Duration::from_secs(30)));
}

#[tokio::test(flavor = "multi_thread")]
async fn sealed_refusals_come_from_who_refuses() {
    let target = format!("tcp:{}", echo().await);
    let up = Up::with(control_only(&target)).await;
    let unknown = call(&up.house, up.gateway, "AAAAAAAAAAAAAAAAAAAAAA", "directory", &target).await;
    assert!(matches!(unknown, Err(CallError::Relay { code, .. }) if code == "relay_no_tunnel"));
    let other = call(&up.house, up.gateway, &up.sid(), "directory", "tcp:127.0.0.1:1").await;
    assert!(matches!(other, Err(CallError::Refused { code, retry: false, .. }) if code == "not_allowed"));
    // Somebody else behind the gateway's address.
    let stranger = House::new();
    let result = call(&stranger, up.gateway, &up.sid(), "directory", &target).await;
    assert!(matches!(result, Err(CallError::Gateway(_))));
}

/// An agent connected to a gateway that is not ours any more.
struct Siege {
    house: House,
    evil: Evil,
    target: String,
    /// What the target was sent, connection by connection, and whether it ended cleanly.
    received: mpsc::Receiver<(Vec<u8>, bool)>,
    _stop: watch::Sender<bool>,
}

impl Siege {
    async fn lay() -> Self {
        let house = House::new();
        let evil = Evil::run(&house).await;
        let (report, received) = mpsc::channel(8);
        let at = serve(move |mut tcp| {
            let report = report.clone();
            async move {
                let mut all = Vec::new();
                let mut buffer = [0; 4096];
                let clean = loop {
                    match tcp.read(&mut buffer).await {
                        Ok(0) => break true,
                        Ok(read) => {
                            all.extend_from_slice(&buffer[..read]);
                            tcp.write_all(&buffer[..read]).await.unwrap();
                        }
                        Err(_) => break false,
                    }
                };
                report.send((all, clean)).await.unwrap();
            }
        })
        .await;
        let target = format!("tcp:{at}");
        let agent = house.agent(Limits::default());
        agent.apply(&house.document(evil.address, 1, control_only(&target))).unwrap();
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(async move { agent.run(stopped).await });
        evil.sid(CONNECTOR).await;
        Self { house, evil, target, received, _stop: stop }
    }

    /// Control opens a stream while the gateway carries it past `up` and `down`.
    async fn call_past(&mut self, up: Tap, down: Tap) -> Result<SealedStream, CallError> {
        let sid = self.evil.sid(CONNECTOR).await;
        let address = self.evil.address;
        let (house, evil, target) = (&self.house, &mut self.evil, &self.target);
        let carrying = async {
            let relay = evil.relay().await;
            let mut stream = evil.open(CONNECTOR).await;
            write_frame(&mut stream, &OpenRequest::Sealed, PATIENCE).await.unwrap();
            tokio::spawn(splice(relay, stream, up, down));
        };
        let (called, ()) = tokio::join!(call(house, address, &sid, "directory", target), carrying);
        called
    }
}

fn nothing() -> Tap {
    Box::new(|_, _| {})
}

fn recorder() -> (Arc<Mutex<Vec<u8>>>, Tap) {
    let record: Arc<Mutex<Vec<u8>>> = Arc::default();
    let tap = record.clone();
    (record, Box::new(move |_, piece| tap.lock().unwrap().extend_from_slice(piece)))
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

#[tokio::test(flavor = "multi_thread")]
async fn c4_malicious_gateway_that_reads_sees_only_tls() {
    let mut siege = Siege::lay().await;
    let ((up_bytes, up), (down_bytes, down)) = (recorder(), recorder());
    let mut stream = siege.call_past(up, down).await.unwrap();
    let secret = b"the directory's administrator password";
    assert_eq!(exchange(&mut stream, secret).await.unwrap(), secret);
    let (up_bytes, down_bytes) = (up_bytes.lock().unwrap().clone(), down_bytes.lock().unwrap().clone());
    assert!(up_bytes.len() > secret.len() && down_bytes.len() > secret.len());
    let token_start = b"eyJhbGciOiJQUzI1NiI";
    for hidden in [&secret[..], token_start, b"service/sync", b"directory", siege.target.as_bytes(), b"control"] {
        assert!(!contains(&up_bytes, hidden) && !contains(&down_bytes, hidden));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c4_malicious_gateway_that_alters_breaks_the_stream_and_delivers_nothing() {
    // Upwards, after the stream is open: the target gets what was sent before, and no altered byte.
    let mut siege = Siege::lay().await;
    let flip = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let armed = flip.clone();
    let tap: Tap = Box::new(move |_, piece| {
        if armed.load(std::sync::atomic::Ordering::SeqCst) {
            *piece.last_mut().unwrap() ^= 1;
        }
    });
    let mut stream = siege.call_past(tap, nothing()).await.unwrap();
    stream.write_all(b"good").await.unwrap();
    stream.flush().await.unwrap();
    let mut back = [0; 4];
    stream.read_exact(&mut back).await.unwrap();
    flip.store(true, std::sync::atomic::Ordering::SeqCst);
    stream.write_all(b"pay 10").await.unwrap();
    stream.flush().await.unwrap();
    let end = timeout(PATIENCE, stream.read_u8()).await.unwrap();
    assert!(end.is_err(), "the stream breaks");
    assert_eq!(timeout(PATIENCE, siege.received.recv()).await.unwrap().unwrap(), (b"good".to_vec(), false));
    // Downwards: control gets an error and no byte.
    let mut siege = Siege::lay().await;
    let flip = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let armed = flip.clone();
    let tap: Tap = Box::new(move |_, piece| {
        if armed.load(std::sync::atomic::Ordering::SeqCst) {
            *piece.last_mut().unwrap() ^= 1;
        }
    });
    let mut stream = siege.call_past(nothing(), tap).await.unwrap();
    flip.store(true, std::sync::atomic::Ordering::SeqCst);
    stream.write_all(b"balance?").await.unwrap();
    stream.flush().await.unwrap();
    let mut got = Vec::new();
    assert!(timeout(PATIENCE, stream.read_to_end(&mut got)).await.unwrap().is_err());
    assert!(got.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn c4_malicious_gateway_that_cuts_a_stream_short_is_noticed() {
    let mut siege = Siege::lay().await;
    let mut stream = siege.call_past(nothing(), nothing()).await.unwrap();
    stream.write_all(b"half").await.unwrap();
    stream.flush().await.unwrap();
    let mut back = [0; 4];
    stream.read_exact(&mut back).await.unwrap();
    // The raw connection ends without TLS's own goodbye.
    stream.get_mut().0.get_mut().0.shutdown().await.unwrap();
    let received = timeout(PATIENCE, siege.received.recv()).await.unwrap().unwrap();
    assert_eq!(received, (b"half".to_vec(), false), "the target does not take it for the whole");
    let end = timeout(PATIENCE, stream.read_u8()).await.unwrap();
    assert!(end.is_err(), "nor does control");
}

#[tokio::test(flavor = "multi_thread")]
async fn c4_malicious_gateway_that_alters_the_handshake_gets_no_stream() {
    for at in [5_usize, 60, 700] {
        let mut siege = Siege::lay().await;
        let tap: Tap = Box::new(move |seen, piece| {
            if let Some(byte) = at.checked_sub(seen).and_then(|at| piece.get_mut(at)) {
                *byte ^= 1;
            }
        });
        let result = siege.call_past(nothing(), tap).await;
        assert!(matches!(result, Err(CallError::Connector(_))), "byte {at}");
        assert!(siege.received.try_recv().is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c4_malicious_gateway_cannot_retarget_to_another_connector() {
    let mut siege = Siege::lay().await;
    // A second connector of the same tenant, whose list would let control do the same.
    let house = &siege.house;
    let certificate = house.authority.issue("spiffe://sluice.test/tenant/acme/connector/dc-2");
    let (client, server) = (house.authority.client(&certificate), house.authority.server(&certificate, &[]));
    let state = tempfile::tempdir().unwrap();
    let pieces = Pieces {
        name: "spiffe://sluice.test/tenant/acme/connector/dc-2".parse().unwrap(),
        client: Arc::new(move || Ok(client.clone())),
        server: Arc::new(move || Ok(server.clone())),
        state_dir: state.path().to_owned(),
        ..house.pieces(Limits::default())
    };
    let other = Agent::open(pieces).unwrap();
    let document = house.document_for("dc-2", siege.evil.address, 1, control_only(&siege.target), now().plus(3600));
    other.apply(&document).unwrap();
    let (_stop, stopped) = watch::channel(false);
    tokio::spawn(async move { other.run(stopped).await });
    siege.evil.sid("dc-2").await;
    let sid = siege.evil.sid(CONNECTOR).await;
    let address = siege.evil.address;
    let (house, evil, target) = (&siege.house, &mut siege.evil, &siege.target);
    let carrying = async {
        let relay = evil.relay().await;
        let mut stream = evil.open("dc-2").await;
        write_frame(&mut stream, &OpenRequest::Sealed, PATIENCE).await.unwrap();
        tokio::spawn(splice(relay, stream, nothing(), nothing()));
    };
    let (called, ()) = tokio::join!(call(house, address, &sid, "directory", target), carrying);
    assert!(matches!(called, Err(CallError::Connector(_))), "control wants dc-1 and nobody else");
    // Nor to another tunnel of the same connector: the token names the session.
    let elsewhere = {
        let carrying = async {
            let relay = evil.relay().await;
            let mut stream = evil.open(CONNECTOR).await;
            write_frame(&mut stream, &OpenRequest::Sealed, PATIENCE).await.unwrap();
            tokio::spawn(splice(relay, stream, nothing(), nothing()));
        };
        let other_sid = "AAAAAAAAAAAAAAAAAAAAAA";
        tokio::join!(call(house, address, other_sid, "directory", target), carrying).0
    };
    assert!(matches!(elsewhere, Err(CallError::Refused { code, .. }) if code == "token_wrong_session"));
    assert!(siege.received.try_recv().is_err(), "no target was dialled");
}

/// What the agent answers to a request.
async fn ask<T: AsyncRead + AsyncWrite + Unpin>(io: &mut T, token: String) -> String {
    write_frame(io, &OpenRequest::Direct { token }, PATIENCE).await.unwrap();
    match read_frame(io, PATIENCE).await.unwrap() {
        OpenReply::Open => "open".to_owned(),
        OpenReply::Refused { code, .. } => code,
    }
}

impl Siege {
    async fn claims(&self, issuer: &str, certificate: &[u8]) -> StreamClaims {
        StreamClaims {
            iss: issuer.to_owned(),
            aud: CONNECTOR.parse().unwrap(),
            sub: "service/sync".to_owned(),
            res: "directory".parse().unwrap(),
            tgt: self.target.parse().unwrap(),
            sid: self.evil.sid(CONNECTOR).await,
            cnf: certificate_hash(certificate),
            iat: now(),
            exp: now().plus(30),
            jti: "AAAAAAAAAAAAAAAAAAAAAA".to_owned(),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c4_malicious_gateway_cannot_redeem_controls_token() {
    let mut siege = Siege::lay().await;
    let gateway_leaf = siege.house.gateway.cert[0].to_vec();
    let control_leaf = siege.house.control.cert[0].to_vec();
    // Suppose control's token leaked whole, bound to either certificate: as a direct stream it is worth nothing.
    for leaf in [&control_leaf, &gateway_leaf] {
        let token = sign_stream_token(&siege.claims("control", leaf).await, &control_signer()).unwrap();
        let mut stream = siege.evil.open(CONNECTOR).await;
        assert_eq!(ask(&mut stream, token).await, "token_wrong_kind");
    }
    // Inside a sealed stream the gateway would have to be control.
    let mut config = (*siege.house.authority.client(&siege.house.gateway)).clone();
    let connector = house::connector_name();
    let verifier = sluice_connector_wire::NodeVerifier::new(siege.house.authority.root(), connector).unwrap();
    config.dangerous().set_certificate_verifier(verifier);
    config.alpn_protocols = vec![ALPN_SEALED.to_vec()];
    let mut stream = siege.evil.open(CONNECTOR).await;
    write_frame(&mut stream, &OpenRequest::Sealed, PATIENCE).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from(CONNECTOR).unwrap();
    let mut tls = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    let token = sign_stream_token(&siege.claims("control", &gateway_leaf).await, &control_signer()).unwrap();
    let said = write_frame(&mut tls, &OpenRequest::Direct { token }, PATIENCE).await;
    let answer = read_frame::<OpenReply>(&mut tls, PATIENCE).await;
    assert!(said.is_err() || answer.is_err(), "no answer at all, not even a refusal");
    // Its own token for the same target.
    let signer = TokenSigner::gateway(GATEWAY, &siege.house.gateway_key).unwrap();
    let token = sign_stream_token(&siege.claims(GATEWAY, &gateway_leaf).await, &signer).unwrap();
    let mut stream = siege.evil.open(CONNECTOR).await;
    assert_eq!(ask(&mut stream, token).await, "not_allowed");
    assert!(siege.received.try_recv().is_err(), "no target was dialled");
}

#[tokio::test(flavor = "multi_thread")]
async fn c4_malicious_gateway_cannot_replay_a_recorded_stream() {
    let mut siege = Siege::lay().await;
    let (record, tap) = recorder();
    let mut stream = siege.call_past(tap, nothing()).await.unwrap();
    exchange(&mut stream, b"once").await.unwrap();
    assert_eq!(timeout(PATIENCE, siege.received.recv()).await.unwrap().unwrap(), (b"once".to_vec(), true));
    let mut again = siege.evil.open(CONNECTOR).await;
    write_frame(&mut again, &OpenRequest::Sealed, PATIENCE).await.unwrap();
    let recorded = record.lock().unwrap().clone();
    let _sent = again.write_all(&recorded).await;
    let _end = again.shutdown().await;
    let mut answer = Vec::new();
    let _end = timeout(PATIENCE, again.read_to_end(&mut answer)).await.expect("the agent closes");
    assert!(siege.received.try_recv().is_err(), "nothing was dialled a second time");
}
