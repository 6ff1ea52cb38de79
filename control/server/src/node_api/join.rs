//! Joining, re-joining, renewing.

use axum::{
    Json,
    extract::{Request, State},
    http::{HeaderName, HeaderValue, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sluice_control_domain::{Kind, Load, NodeRecord, PLATFORM, Stored, Tenant, Typed};
use sluice_control_enroll::{Issuing, NodeRequest, Refused};
use sluice_control_pki::Csr;
use sluice_node_identity::{
    Fingerprint, JoinSecret,
    api::{Chain, JoinRequest, Joined, Nonce, RejoinRequest, RenewRequest},
    proof_message,
};

use super::{NodeApi, TRIES, body::Body, busy, peer::Node, refusal::Refusal};
use crate::{connection::Remote, keys};

/// Answers that hold certificates or nonces are nobody's to keep.
const NO_STORE: [(HeaderName, HeaderValue); 1] = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];

type Answer<T> = Result<([(HeaderName, HeaderValue); 1], Json<T>), Refusal>;

fn answer<T>(body: T) -> ([(HeaderName, HeaderValue); 1], Json<T>) {
    (NO_STORE, Json(body))
}

pub(super) async fn nonce(State(api): State<NodeApi>) -> Answer<Nonce> {
    let random = keys::random()?;
    let nonce = api.nonces().give(random, api.now());
    Ok(answer(Nonce { nonce }))
}

/// In front of what strangers may ask for: an address whose requests are refused again and again waits a while.
pub(super) async fn not_too_often(State(api): State<NodeApi>, request: Request, next: Next) -> Response {
    let Some(address) = request.extensions().get::<Remote>().map(|remote| remote.address) else {
        return Refusal::failed("a request without an address").into_response();
    };
    if let Err(seconds) = api.asked.begin(address, api.now()) {
        return Refusal::too_many(seconds).into_response();
    }
    let response = next.run(request).await;
    if response.status().is_success() {
        api.asked.granted(address);
    }
    response
}

/// Reads the request and checks that its sender holds its key now; spends the nonce.
fn proved(api: &NodeApi, csr: &str, nonce: &str, proof: &str) -> Result<Csr, Refusal> {
    let now = api.now();
    let csr = Csr::from_pem(csr).map_err(|error| Refusal::invalid(error.to_string()))?;
    let stale =
        || Refusal::invalid("the nonce is not of this control, used, or older than a minute; ask for a new one");
    let nonce = api.nonces().open(nonce, now).ok_or_else(stale)?;
    let signature = URL_SAFE_NO_PAD.decode(proof).map_err(|_| Refusal::invalid("the proof is not base64url"))?;
    csr.verify(&proof_message(&nonce, csr.der()), &signature).map_err(|error| Refusal::invalid(error.to_string()))?;
    // Spent after the proof: whoever proves nothing fills no memory.
    if api.nonces().spend(nonce, now) { Ok(csr) } else { Err(stale()) }
}

fn issuing(api: &NodeApi) -> Result<Issuing<'_>, Refusal> {
    let (authority, trust_domain) = (api.parts.keys.node_root(), api.parts.keys.trust_domain());
    Ok(Issuing { authority, trust_domain, now: api.now(), serial: keys::serial()? })
}

pub(super) async fn join(State(api): State<NodeApi>, Body(request): Body<JoinRequest>) -> Answer<Joined> {
    let csr = proved(&api, &request.csr, &request.nonce, &request.proof)?;
    let secret = JoinSecret::from_text(&request.secret).map_err(|_| Refused::Code)?;
    let asked = NodeRequest { csr: &csr, role: request.role };
    for _ in 0..TRIES {
        let node = by_code(&api, &secret.digest()).await?.ok_or(Refused::Code)?;
        let decision = sluice_control_enroll::join(&node, &secret, &asked, &issuing(&api)?);
        if let Some(chain) = api.settle(decision).await? {
            tracing::info!(tenant = %node.body.tenant, node = %node.body.id, "joined");
            return Ok(answer(joined(&api, &node.body, chain).await?));
        }
    }
    Err(busy())
}

async fn by_code(api: &NodeApi, digest: &Fingerprint) -> Result<Option<Typed<NodeRecord>>, Refusal> {
    let value = digest.to_string();
    let by = Load::ByIndex { kind: Kind::Node, tenant: None, name: "code", value, limit: 1 };
    Ok(api.store().load(by).await?.pop().map(Stored::typed).transpose()?)
}

async fn joined(api: &NodeApi, node: &NodeRecord, chain: String) -> Result<Joined, Refusal> {
    let tenant = api.one::<Tenant>(PLATFORM, node.tenant.as_str()).await?;
    let tenant = tenant.ok_or_else(|| Refusal::failed("a node's tenant is gone"))?.body;
    Ok(Joined {
        trust_domain: api.around.trust_domain.clone(),
        tenant: node.tenant.clone(),
        site: node.site.clone(),
        role: node.role,
        id: node.id.clone(),
        chain,
        root: api.parts.keys.node_root().pem().to_owned(),
        policy_thumbprint: sluice_connector_wire::thumbprint(&tenant.policy_key).map_err(Refusal::failed)?,
    })
}

pub(super) async fn rejoin(State(api): State<NodeApi>, Body(request): Body<RejoinRequest>) -> Answer<Joined> {
    let csr = proved(&api, &request.csr, &request.nonce, &request.proof)?;
    for _ in 0..TRIES {
        let node = api.one::<NodeRecord>(request.tenant.as_str(), request.id.as_str()).await?.ok_or(Refused::Key)?;
        let decision = sluice_control_enroll::rejoin(&node, &csr, &issuing(&api)?);
        if let Some(chain) = api.settle(decision).await? {
            tracing::info!(tenant = %node.body.tenant, node = %node.body.id, "re-joined");
            return Ok(answer(joined(&api, &node.body, chain).await?));
        }
    }
    Err(busy())
}

pub(super) async fn renew(State(api): State<NodeApi>, node: Node, Body(request): Body<RenewRequest>) -> Answer<Chain> {
    let csr = Csr::from_pem(&request.csr).map_err(|error| Refusal::invalid(error.to_string()))?;
    for _ in 0..TRIES {
        let record = node.record(&api).await?;
        let decision = sluice_control_enroll::renew(&record, &node.key, &csr, &issuing(&api)?);
        if let Some(chain) = api.settle(decision).await? {
            return Ok(answer(Chain { chain }));
        }
    }
    Err(busy())
}
