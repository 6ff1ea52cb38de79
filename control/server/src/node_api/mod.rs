//! The node API, `/node/v1/…`: joining, the two feeds, and what nodes report.

mod body;
mod factors;
mod join;
mod nonce;
mod peer;
mod refusal;
mod report;
mod streams;
mod watch;

use std::sync::{Arc, Mutex, PoisonError};

use axum::{
    Router,
    extract::{Request, State},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use sluice_control_domain::{ChangeSet, Commit, Record, Store, Typed, compile::Surroundings};
use sluice_control_enroll::Decision;
use sluice_node_identity::{Role, UnixTime};
use tokio::sync::watch as signal;

use crate::{
    ServerParts,
    connection::{Names, Remote},
    fleet::Fleets,
    keys,
    pages::GatewayPeer,
    record::one,
    strangers::Asked,
};
use refusal::Refusal;

/// How often a decision is made again when what it was based on changed.
const TRIES: u32 = 5;

/// Shared by all handlers; cheap to clone.
#[derive(Clone)]
pub(crate) struct NodeApi(Arc<Inner>);

pub(crate) struct Inner {
    parts: ServerParts,
    around: Surroundings,
    nonces: Mutex<nonce::Nonces>,
    fleets: Fleets,
    factors: factors::Checker,
    asked: Arc<Asked>,
    stop: signal::Receiver<bool>,
}

impl std::ops::Deref for NodeApi {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl NodeApi {
    pub(crate) fn new(
        parts: ServerParts,
        names: &Names,
        asked: Arc<Asked>,
        stop: signal::Receiver<bool>,
    ) -> anyhow::Result<Self> {
        let around = Surroundings {
            trust_domain: parts.keys.trust_domain().clone(),
            node_host: names.node.clone(),
            console_host: names.console.clone(),
            pages_host: names.pages.clone(),
            address: parts.advertised.clone(),
            caller: parts.keys.caller_jwk(),
        };
        let nonces = Mutex::new(nonce::Nonces::new(&keys::random()?));
        let (fleets, factors) = (Fleets::default(), factors::Checker::new()?);
        Ok(Self(Arc::new(Inner { parts, around, nonces, fleets, factors, asked, stop })))
    }
}

impl Inner {
    fn now(&self) -> UnixTime {
        (self.parts.clock)()
    }

    fn store(&self) -> &dyn Store {
        &*self.parts.store
    }

    async fn one<R: Record>(&self, tenant: &str, id: &str) -> Result<Option<Typed<R>>, Refusal> {
        Ok(one(self.store(), tenant, id).await?)
    }

    /// Commits what a decision changes; `None` when it must be made again.
    async fn settle<T>(&self, decision: Decision<T>) -> Result<Option<T>, Refusal> {
        match self.commit(decision.changes).await? {
            Commit::Conflict => Ok(None),
            Commit::Done => Ok(Some(decision.answer?)),
        }
    }

    async fn commit(&self, set: Option<ChangeSet>) -> Result<Commit, Refusal> {
        match set {
            Some(set) => Ok(self.store().commit(set).await?),
            None => Ok(Commit::Done),
        }
    }

    fn nonces(&self) -> std::sync::MutexGuard<'_, nonce::Nonces> {
        self.nonces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A decision lost every race: somebody is changing the same record all the time.
fn busy() -> Refusal {
    Refusal::failed("a record changed under every try")
}

pub(crate) fn router(api: NodeApi) -> Router {
    let nodes = Router::new()
        .route("/node/v1/renew", post(join::renew))
        .route("/node/v1/hub-facing", post(report::hub_facing))
        .route("/node/v1/keys", post(report::keys))
        .route("/node/v1/tunnels", post(report::tunnels))
        .route("/node/v1/streams", post(streams::tell))
        .route("/node/v1/checkins", post(report::check_ins))
        .route("/node/v1/refusals", post(report::refusals))
        .route("/node/v1/factors/verify", post(factors::verify))
        .route("/node/v1/config", get(watch::config))
        .route("/node/v1/state", get(watch::state))
        .layer(middleware::from_fn_with_state(api.clone(), peer::require));
    Router::new()
        .route("/node/v1/join", post(join::join))
        .route("/node/v1/rejoin", post(join::rejoin))
        .layer(middleware::from_fn_with_state(api.clone(), join::not_too_often))
        .route("/node/v1/nonce", post(join::nonce))
        .merge(nodes)
        .fallback(async || Refusal::new(StatusCode::NOT_FOUND, "not_found", "there is no such call"))
        .method_not_allowed_fallback(async || {
            Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method", "this call takes another method")
        })
        .with_state(api)
}

/// In front of the users' pages: only a gateway that the identity store knows gets through, as [`GatewayPeer`].
pub(crate) async fn require_gateway(State(api): State<NodeApi>, mut request: Request, next: Next) -> Response {
    let remote = request.extensions().get::<Remote>().cloned();
    match peer::recognise(&api, remote, peer::Retired::Late).await {
        Ok(node) if node.role == Role::Gateway => {
            request.extensions_mut().insert(GatewayPeer { tenant: node.tenant, id: node.id });
            next.run(request).await
        }
        Ok(_) => Refusal::stranger().into_response(),
        Err(refusal) => refusal.into_response(),
    }
}
