//! Which node is asking: its certificate, judged by the identity store on every request.

use axum::{
    extract::{FromRequestParts, Request, State},
    http::request::Parts,
    middleware::Next,
    response::{IntoResponse, Response},
};
use sluice_control_domain::{Commit, NodeRecord, Typed};
use sluice_control_enroll::{Presence, present};
use sluice_node_identity::{Fingerprint, NodeId, Principal, Role, SiteId, TenantId};

use super::{NodeApi, TRIES, busy, refusal::Refusal};
use crate::connection::Remote;

/// A node whose key is good now.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) tenant: TenantId,
    pub(super) id: NodeId,
    pub(super) role: Role,
    pub(super) site: SiteId,
    pub(super) key: Fingerprint,
}

impl Node {
    /// Refuses nodes of other roles.
    pub(super) fn must_be(&self, role: Role) -> Result<(), Refusal> {
        if self.role == role { Ok(()) } else { Err(Refusal::stranger()) }
    }

    pub(super) async fn record(&self, api: &NodeApi) -> Result<Typed<NodeRecord>, Refusal> {
        api.one(self.tenant.as_str(), self.id.as_str()).await?.ok_or_else(Refusal::stranger)
    }
}

/// What a retired key on a request means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Retired {
    /// Somebody has a copy: the node is locked. On the node API nodes see to it that an old key is never used after
    /// the new one.
    Clone,
    /// Refused, no more. Users' requests come through a gateway whenever they like, also while it takes a new key.
    Late,
}

/// Lets only known nodes through, as [`Node`].
pub(super) async fn require(State(api): State<NodeApi>, mut request: Request, next: Next) -> Response {
    let remote = request.extensions().get::<Remote>().cloned();
    match recognise(&api, remote, Retired::Clone).await {
        Ok(node) => {
            request.extensions_mut().insert(node);
            next.run(request).await
        }
        Err(refusal) => refusal.into_response(),
    }
}

/// Judges the certificate on the request's connection.
pub(super) async fn recognise(api: &NodeApi, remote: Option<Remote>, retired: Retired) -> Result<Node, Refusal> {
    let shown = remote.and_then(|remote| remote.certificate).ok_or_else(Refusal::stranger)?;
    let Principal::Node { tenant, role, id } = shown.name.principal else { return Err(Refusal::stranger()) };
    if shown.name.trust_domain != api.around.trust_domain {
        return Err(Refusal::stranger());
    }
    judge(api, tenant, id, role, shown.key, retired).await
}

/// Judges a key that its holder has proved.
async fn judge(
    api: &NodeApi,
    tenant: TenantId,
    id: NodeId,
    role: Role,
    key: Fingerprint,
    retired: Retired,
) -> Result<Node, Refusal> {
    for _ in 0..TRIES {
        let record = api.one::<NodeRecord>(tenant.as_str(), id.as_str()).await?;
        let record = record.filter(|record| record.body.role == role).ok_or_else(Refusal::stranger)?;
        let site = record.body.site.clone();
        let (changes, good) = match present(&record, &key, api.now()) {
            Presence::Good => (None, true),
            Presence::Promoted(set) => (Some(set), true),
            Presence::Cloned(_) if retired == Retired::Late => (None, false),
            Presence::Cloned(set) => {
                tracing::warn!(%tenant, node = %id, "a retired key was used: the node is locked");
                (Some(set), false)
            }
            Presence::Refused => (None, false),
        };
        match api.commit(changes).await? {
            Commit::Done if good => return Ok(Node { tenant, id, role, site, key }),
            Commit::Done => return Err(Refusal::stranger()),
            Commit::Conflict => {}
        }
    }
    Err(busy())
}

/// Whether what `node` began (a feed) may go on. Its key may have been retired meanwhile by the node's own renewal:
/// then the feed ends, but nobody has proved that key now, so it is no clone.
pub(super) async fn is_still_good(api: &NodeApi, node: &Node) -> Result<bool, Refusal> {
    let record = node.record(api).await?;
    Ok(matches!(present(&record, &node.key, api.now()), Presence::Good))
}

impl FromRequestParts<NodeApi> for Node {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &NodeApi) -> Result<Self, Refusal> {
        parts.extensions.get::<Self>().cloned().ok_or_else(Refusal::stranger)
    }
}
