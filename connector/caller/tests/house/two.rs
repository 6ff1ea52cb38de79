//! A connector between a broken-in gateway and an honest one, each with a key of its own.

use std::{net::SocketAddr, time::Duration};

use aws_lc_rs::{rand::SystemRandom, signature::Ed25519KeyPair};
use sluice_connector_agent::{Agent, Limits};
use sluice_connector_mux::{Stream, read_frame, write_frame};
use sluice_connector_server::{DirectAsk, DirectStream, OpenError, TunnelServer};
use sluice_connector_wire::{
    AllowList, AllowRule, ClassPair, ConnectorDocument, GatewayEndpoint, OpenReply, OpenRequest, StreamClaims,
    TokenSigner, certificate_hash, sign_allow_list, sign_stream_token,
};
use tokio::{io::AsyncWriteExt, sync::watch, task::JoinHandle, time::timeout};

use super::{CONNECTOR, GATEWAY, House, PATIENCE, control_signer, evil::Evil, now, run_agent, run_gateway_as, tunnels};

/// The honest one.
pub(crate) const SECOND: &str = "dmz-2";

/// All of them, up.
pub(crate) struct Two {
    pub(crate) house: House,
    pub(crate) evil: Evil,
    pub(crate) server: TunnelServer,
    pub(crate) agent: Agent,
    pub(crate) running: (watch::Sender<bool>, JoinHandle<()>),
    /// The broken-in gateway's session.
    pub(crate) sid: String,
    second: TokenSigner,
    at: SocketAddr,
}

impl Two {
    /// Both gateways may use every rule that names them.
    pub(crate) async fn up(limits: Limits, rules: Vec<AllowRule>) -> Self {
        let house = House::new();
        let evil = Evil::run(&house).await;
        let shown = house.authority.issue(&format!("spiffe://sluice.test/tenant/acme/gateway/{SECOND}"));
        let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap().as_ref().to_vec();
        let second = TokenSigner::gateway(SECOND, &key).unwrap();
        let name = format!("spiffe://sluice.test/tenant/acme/gateway/{SECOND}").parse().unwrap();
        let server = TunnelServer::new(name, TokenSigner::gateway(SECOND, &key).unwrap(), Default::default());
        let at = run_gateway_as(&house, &shown, server.clone()).await;
        let agent = house.agent(limits);
        let running = run_agent(&agent);
        let mut two = Self { house, evil, server, agent, running, sid: String::new(), second, at };
        two.agent.apply(&two.document(1, rules)).unwrap();
        tunnels(&two.server, 1).await;
        two.sid = two.evil.sid(CONNECTOR).await;
        two
    }

    pub(crate) fn document(&self, version: u64, rules: Vec<AllowRule>) -> ConnectorDocument {
        let list = AllowList {
            tenant: "acme".parse().unwrap(),
            connector: CONNECTOR.parse().unwrap(),
            epoch: 1,
            version,
            not_after: now().plus(3600),
            callers: vec![self.house.gateway_signer().caller(), self.second.caller(), control_signer().caller()],
            rules,
        };
        let endpoint = |id: &str, at: SocketAddr| GatewayEndpoint {
            id: id.parse().unwrap(),
            host: at.ip().to_string(),
            port: at.port(),
        };
        let gateways = vec![endpoint(GATEWAY, self.evil.address), endpoint(SECOND, self.at)];
        ConnectorDocument { gateways, allow_list: sign_allow_list(&list, &self.house.policy, Vec::new()).unwrap() }
    }

    /// A stream through the honest gateway.
    pub(crate) async fn honest(&self, resource: &str, target: &str) -> Result<DirectStream, OpenError> {
        let ask = DirectAsk {
            connectors: &[CONNECTOR.parse().unwrap()],
            resource: &resource.parse().unwrap(),
            target: &target.parse().unwrap(),
            subject: "user/ada",
            pair: ClassPair::Standard,
        };
        timeout(PATIENCE, self.server.open_direct(&ask, now())).await.expect("an answer in time")
    }

    /// What the broken-in gateway would ask for by itself.
    pub(crate) fn claims(&self, resource: &str, target: &str, number: u32) -> StreamClaims {
        claims(&self.house, &self.sid, resource, target, number)
    }

    /// What the agent answers the broken-in gateway to these claims, signed by its own key.
    pub(crate) async fn ask(&self, claims: &StreamClaims) -> (String, Stream) {
        self.ask_by(claims, &self.house.gateway_signer()).await
    }

    /// The same, signed by the honest gateway's key.
    pub(crate) async fn ask_with_the_others_key(&self, claims: &StreamClaims) -> (String, Stream) {
        self.ask_by(claims, &self.second).await
    }

    /// A stream of the broken-in gateway's that begins a frame and never ends it.
    pub(crate) async fn half_open(&self) -> Stream {
        let mut stream = self.evil.open(CONNECTOR).await;
        // One that is refused at once may be over by now; its answer can still be read.
        let _refused = async {
            stream.write_all(&[1]).await?;
            stream.flush().await
        }
        .await
        .is_err();
        stream
    }

    async fn ask_by(&self, claims: &StreamClaims, signer: &TokenSigner) -> (String, Stream) {
        let mut stream = self.evil.open(CONNECTOR).await;
        let token = sign_stream_token(claims, signer).unwrap();
        write_frame(&mut stream, &OpenRequest::Direct { token }, PATIENCE).await.unwrap();
        (timeout(PATIENCE, answer(&mut stream)).await.expect("an answer in time"), stream)
    }
}

/// Of the broken-in gateway, for a stream in its session `sid`.
pub(crate) fn claims(house: &House, sid: &str, resource: &str, target: &str, number: u32) -> StreamClaims {
    StreamClaims {
        iss: GATEWAY.to_owned(),
        aud: CONNECTOR.parse().unwrap(),
        sub: "user/ada".to_owned(),
        res: resource.parse().unwrap(),
        tgt: target.parse().unwrap(),
        sid: sid.to_owned(),
        cnf: certificate_hash(&house.gateway.cert[0]),
        iat: now(),
        exp: now().plus(30),
        jti: format!("AAAAAAAAAAAAA{number:08}A"),
    }
}

/// `open`, or the refusal's code, however long it takes.
pub(crate) async fn answer(stream: &mut Stream) -> String {
    match read_frame(stream, Duration::MAX).await.unwrap() {
        OpenReply::Open => "open".to_owned(),
        OpenReply::Refused { code, .. } => code,
    }
}
