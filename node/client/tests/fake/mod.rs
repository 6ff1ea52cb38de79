//! A control service small enough to misbehave on request, with the real rules for codes and generations.
#![allow(dead_code, reason = "each test program uses a part")]

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, SystemTime},
};

use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, IsCa, Issuer, KeyPair, PublicKeyData, SanType,
};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use serde::Serialize;
use sluice_node_identity::{
    Binding, BoundKey, CodeBinding, CodeUse, ConfigEnvelope, Fingerprint, JoinCode, JoinSecret, Presented, Renewal,
    Role, StateEvent, UnixTime,
    api::{Chain, ErrorBody, ErrorDetail, JoinRequest, Joined, Nonce, Refusal, RejoinRequest, RenewRequest},
    proof_message,
};
use tokio::{net::TcpListener, sync::broadcast, task::JoinHandle};
use tokio_rustls::TlsAcceptor;

pub(crate) const HOST: &str = "node.sluice.test";

/// What control knows, and how it shall misbehave.
pub(crate) struct World {
    pub(crate) code: CodeBinding,
    pub(crate) binding: Option<Binding>,
    pub(crate) config: Option<ConfigEnvelope>,
    pub(crate) state: (u64, BTreeMap<String, serde_json::Value>),
    pub(crate) refusals: Vec<Refusal>,
    pub(crate) clones: u32,
    pub(crate) joins: u32,
    pub(crate) requests: u32,
    pub(crate) snapshots: u32,
    /// Paths whose next answer is computed, then lost.
    pub(crate) lose: BTreeSet<String>,
    /// Lifetime of the next certificates.
    pub(crate) lifetime: Duration,
    pub(crate) answer_with: Option<Vec<u8>>,
    pub(crate) tamper: fn(&mut Joined),
    /// What joined last.
    role: Role,
}

pub(crate) struct Control {
    pub(crate) address: SocketAddr,
    pub(crate) world: Arc<Mutex<World>>,
    pub(crate) events: broadcast::Sender<StateEvent>,
    pub(crate) root: String,
    issuer: Arc<Issuer<'static, KeyPair>>,
    server: JoinHandle<()>,
}

impl Drop for Control {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Control {
    pub(crate) async fn start() -> Self {
        Self::with_leaf(vec![SanType::DnsName(HOST.try_into().unwrap())]).await
    }

    pub(crate) async fn with_leaf(names: Vec<SanType>) -> Self {
        let (issuer, root) = root();
        let world = World {
            code: CodeBinding { digest: secret().digest(), valid_until: now().plus(900), bound: None, alarmed: false },
            binding: None,
            config: None,
            state: (0, BTreeMap::new()),
            refusals: Vec::new(),
            clones: 0,
            joins: 0,
            requests: 0,
            snapshots: 0,
            lose: BTreeSet::new(),
            lifetime: Duration::from_secs(7 * 86_400),
            answer_with: None,
            tamper: |_| {},
            role: Role::Edge,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let control = Self {
            address: listener.local_addr().unwrap(),
            world: Arc::new(Mutex::new(world)),
            events: broadcast::channel(64).0,
            root,
            issuer: Arc::new(issuer),
            server: tokio::spawn(async {}),
        };
        control.serving(listener, names)
    }

    /// Comes back on the same port, with everything it knew.
    pub(crate) async fn restart(mut self) -> Self {
        self.server.abort();
        let _ended = (&mut self.server).await;
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.serving(listener, vec![SanType::DnsName(HOST.try_into().unwrap())])
    }

    pub(crate) fn stop(&self) {
        self.server.abort();
    }

    fn serving(mut self, listener: TcpListener, names: Vec<SanType>) -> Self {
        let tls = TlsAcceptor::from(Arc::new(server_config(&self.issuer, &self.root, names)));
        let desk = Desk {
            world: self.world.clone(),
            events: self.events.clone(),
            issuer: self.issuer.clone(),
            root: self.root.clone(),
        };
        self.server = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                let (tls, desk) = (tls.clone(), desk.clone());
                connections.spawn(async move {
                    let Ok(stream) = tls.accept(tcp).await else { return };
                    let peer = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).cloned();
                    let service = service_fn(move |request| desk.clone().serve(peer.clone(), request));
                    let _ended = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        self
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    pub(crate) fn code(&self) -> JoinCode {
        let root = CertificateDer::from_pem_slice(self.root.as_bytes()).unwrap();
        JoinCode {
            url: format!("https://{HOST}:8443"),
            root_pin: key_of(&root),
            policy_thumbprint: "policy".to_owned(),
            secret: secret(),
        }
    }

    /// Changes one key of the state and tells it.
    pub(crate) fn tell(&self, key: &str, value: serde_json::Value) {
        let mut world = self.world();
        let prev = world.state.0;
        world.state.0 += 1;
        world.state.1.insert(key.to_owned(), value.clone());
        let seq = world.state.0;
        drop(world);
        let _nobody = self.events.send(StateEvent::Delta { prev, seq, key: key.to_owned(), value: Some(value) });
    }
}

pub(crate) fn secret() -> JoinSecret {
    JoinSecret::new([7; 16])
}

pub(crate) fn now() -> UnixTime {
    UnixTime::from(SystemTime::now())
}

pub(crate) fn key_of(certificate: &CertificateDer<'_>) -> Fingerprint {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).unwrap();
    Fingerprint::of(parsed.tbs_certificate.subject_pki.raw)
}

fn root() -> (Issuer<'static, KeyPair>, String) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let root = params.self_signed(&key).unwrap().pem();
    (Issuer::new(params, key), root)
}

fn server_config(issuer: &Issuer<'static, KeyPair>, root: &str, names: Vec<SanType>) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let root = CertificateDer::from_pem_slice(root.as_bytes()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = names;
    let leaf = params.signed_by(&key, issuer).unwrap();
    ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(clients)
        .with_single_cert(vec![leaf.der().clone(), root], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap()
}

type Body = UnsyncBoxBody<Bytes, Infallible>;
type Answer = Result<Response<Body>, StatusCode>;

#[derive(Clone)]
struct Desk {
    world: Arc<Mutex<World>>,
    events: broadcast::Sender<StateEvent>,
    issuer: Arc<Issuer<'static, KeyPair>>,
    root: String,
}

impl Desk {
    async fn serve(
        self,
        peer: Option<CertificateDer<'static>>,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, &'static str> {
        let path = request.uri().path().to_owned();
        let query = request.uri().query().unwrap_or_default().to_owned();
        let method = request.method().clone();
        let body = request.into_body().collect().await.map_err(|_| "cut")?.to_bytes();
        if let Some(rubbish) = self.world.lock().unwrap().answer_with.clone() {
            return Ok(Response::new(whole(rubbish)));
        }
        let answer = match path.as_str() {
            "/node/v1/nonce" => Ok(json(&Nonce { nonce: URL_SAFE_NO_PAD.encode([9; 32]) })),
            "/node/v1/join" => self.join(&body),
            "/node/v1/rejoin" => self.rejoin(&body),
            _ => match self.known_in_time(peer.as_ref()).await {
                Err(status) => Err(status),
                Ok(key) => match (method, path.as_str()) {
                    (Method::POST, "/node/v1/renew") => self.renew(&key, &body),
                    (Method::POST, "/node/v1/refusals") => {
                        self.world.lock().unwrap().refusals.push(serde_json::from_slice(&body).unwrap());
                        Ok(Response::builder().status(204).body(whole(Bytes::new())).unwrap())
                    }
                    (Method::POST, "/node/v1/echo") => Ok(Response::new(whole(body))),
                    (Method::GET, "/node/v1/config") => self.config(&query).await,
                    (Method::GET, "/node/v1/state") => self.state(&query, peer.unwrap()),
                    _ => Err(StatusCode::NOT_FOUND),
                },
            },
        };
        if self.world.lock().unwrap().lose.remove(&path) {
            return Err("lost on purpose");
        }
        Ok(answer.unwrap_or_else(|status| {
            let error = ErrorDetail { code: "refused".to_owned(), message: "no".to_owned() };
            let mut response = json(&ErrorBody { error });
            *response.status_mut() = status;
            response.headers_mut().insert("retry-after", http::HeaderValue::from_static("7"));
            response
        }))
    }

    /// Every other request is looked at late, so that requests overtake each other.
    async fn known_in_time(&self, peer: Option<&CertificateDer<'_>>) -> Result<Fingerprint, StatusCode> {
        let late = {
            let mut world = self.world.lock().unwrap();
            world.requests += 1;
            world.requests.is_multiple_of(2)
        };
        if late {
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
        self.known(peer)
    }

    fn known(&self, peer: Option<&CertificateDer<'_>>) -> Result<Fingerprint, StatusCode> {
        let key = key_of(peer.ok_or(StatusCode::UNAUTHORIZED)?);
        let mut world = self.world.lock().unwrap();
        let binding = world.binding.as_ref().ok_or(StatusCode::UNAUTHORIZED)?;
        match binding.present(&key, now()) {
            Presented::Current => Ok(key),
            Presented::Promoted(next) => {
                world.binding = Some(next);
                Ok(key)
            }
            Presented::Cloned(locked) => {
                world.binding = Some(locked);
                world.clones += 1;
                Err(StatusCode::UNAUTHORIZED)
            }
            Presented::Locked | Presented::Unknown => Err(StatusCode::UNAUTHORIZED),
        }
    }

    fn issue(&self, csr: &str, role: Role) -> (BoundKey, String) {
        let lifetime = self.world.lock().unwrap().lifetime;
        let mut request = CertificateSigningRequestParams::from_pem(csr).unwrap();
        let spiffe = format!("spiffe://sluice.test/tenant/acme/{role}/node-1");
        request.params.subject_alt_names =
            vec![SanType::URI(spiffe.as_str().try_into().unwrap()), SanType::DnsName("gw.test".try_into().unwrap())];
        let start = SystemTime::now() - Duration::from_secs(60);
        request.params.not_before = start.into();
        request.params.not_after = (start + lifetime).into();
        let leaf = request.signed_by(&self.issuer).unwrap();
        let key = Fingerprint::of(&request.public_key.subject_public_key_info());
        let csr = Fingerprint::of(&pem_body(csr));
        (BoundKey { key, csr, generation: 1, certificate: leaf.pem() }, leaf.pem())
    }

    fn joined(&self, role: Role, chain: String) -> Joined {
        let mut joined = Joined {
            trust_domain: "sluice.test".parse().unwrap(),
            tenant: "acme".parse().unwrap(),
            site: "dc-1".parse().unwrap(),
            role,
            id: "node-1".parse().unwrap(),
            chain,
            root: self.root.clone(),
            policy_thumbprint: "policy".to_owned(),
        };
        (self.world.lock().unwrap().tamper)(&mut joined);
        joined
    }

    fn join(&self, body: &[u8]) -> Answer {
        let request: JoinRequest = serde_json::from_slice(body).unwrap();
        prove(&request.csr, &request.proof)?;
        let (bound, chain) = self.issue(&request.csr, request.role);
        let digest = JoinSecret::from_text(&request.secret).map_err(|_| StatusCode::FORBIDDEN)?.digest();
        let mut world = self.world.lock().unwrap();
        world.joins += 1;
        world.role = request.role;
        let chain = match world.code.attempt(&digest, &bound.key, now()) {
            CodeUse::Bind(code) => {
                world.code = code;
                world.binding = Some(Binding::joined(bound));
                chain
            }
            CodeUse::Repeat => world.binding.as_ref().unwrap().current.certificate.clone(),
            CodeUse::SecondKey(code) => {
                world.code = code;
                return Err(StatusCode::FORBIDDEN);
            }
            CodeUse::Refused => return Err(StatusCode::FORBIDDEN),
        };
        drop(world);
        Ok(json(&self.joined(request.role, chain)))
    }

    fn rejoin(&self, body: &[u8]) -> Answer {
        let request: RejoinRequest = serde_json::from_slice(body).unwrap();
        prove(&request.csr, &request.proof)?;
        let role = self.world.lock().unwrap().role;
        let (bound, chain) = self.issue(&request.csr, role);
        let mut world = self.world.lock().unwrap();
        let binding = world.binding.as_ref().unwrap().rejoin(&bound.key).map_err(|_| StatusCode::FORBIDDEN)?;
        world.binding = Some(binding);
        drop(world);
        Ok(json(&self.joined(role, chain)))
    }

    fn renew(&self, key: &Fingerprint, body: &[u8]) -> Answer {
        let request: RenewRequest = serde_json::from_slice(body).unwrap();
        let role = self.world.lock().unwrap().role;
        let (bound, chain) = self.issue(&request.csr, role);
        let mut world = self.world.lock().unwrap();
        let binding = world.binding.clone().unwrap();
        match binding.renew(key, &bound.csr).map_err(|_| StatusCode::FORBIDDEN)? {
            Renewal::Again(bound) => Ok(json(&Chain { chain: bound.certificate })),
            Renewal::Issue { generation } => {
                world.binding = Some(binding.renewed(BoundKey { generation, ..bound }));
                Ok(json(&Chain { chain }))
            }
        }
    }

    async fn config(&self, query: &str) -> Answer {
        let after = number(query, "after");
        for _ in 0..100 {
            if let Some(config) = self.world.lock().unwrap().config.clone().filter(|config| config.version != after) {
                return Ok(json(&config));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(Response::builder().status(204).body(whole(Bytes::new())).unwrap())
    }

    /// As the real one does, judges the key again before each event.
    fn state(&self, query: &str, peer: CertificateDer<'static>) -> Answer {
        let events = self.events.subscribe();
        let mut world = self.world.lock().unwrap();
        let (seq, entries) = world.state.clone();
        let first = if number(query, "after") == seq && seq > 0 {
            StateEvent::Beat { seq }
        } else {
            world.snapshots += 1;
            StateEvent::Snapshot { seq, entries }
        };
        let desk = self.clone();
        let stream = futures::stream::unfold((Some(first), events), move |(first, mut events)| {
            let (desk, peer) = (desk.clone(), peer.clone());
            async move {
                let event = match first {
                    Some(event) => event,
                    None => events.recv().await.ok()?,
                };
                desk.known(Some(&peer)).ok()?;
                let line = format!("data: {}\n\n", serde_json::to_string(&event).unwrap());
                Some((Ok(Frame::data(Bytes::from(line))), (None, events)))
            }
        });
        Ok(Response::new(UnsyncBoxBody::new(StreamBody::new(stream))))
    }
}

fn json(value: &impl Serialize) -> Response<Body> {
    Response::new(whole(serde_json::to_vec(value).unwrap()))
}

fn whole(bytes: impl Into<Bytes>) -> Body {
    UnsyncBoxBody::new(Full::new(bytes.into()))
}

fn number(query: &str, name: &str) -> u64 {
    let found = query.split('&').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
    found.unwrap().parse().unwrap()
}

fn pem_body(csr: &str) -> Vec<u8> {
    CertificateSigningRequestDer::from_pem_slice(csr.as_bytes()).unwrap().to_vec()
}

/// Whether the request's key made the proof over the one nonce there is.
fn prove(csr: &str, proof: &str) -> Result<(), StatusCode> {
    let request = CertificateSigningRequestParams::from_pem(csr).unwrap();
    let algorithm: &'static dyn VerificationAlgorithm = match request.public_key.algorithm() {
        rsa if *rsa == rcgen::PKCS_RSA_SHA256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        _ => &signature::ECDSA_P256_SHA256_ASN1,
    };
    let proof = URL_SAFE_NO_PAD.decode(proof).unwrap();
    UnparsedPublicKey::new(algorithm, request.public_key.der_bytes())
        .verify(&proof_message(&[9; 32], &pem_body(csr)), &proof)
        .map_err(|_| StatusCode::FORBIDDEN)
}
