//! Who is asking: a gateway by its certificate, a user by that gateway's assertion, one tenant for all three.

use axum::{
    extract::{Request, State},
    http::StatusCode,
    middleware::Next,
    response::{IntoResponse, Response},
};
use sluice_control_domain::{GatewayRecord, Load, PLATFORM, Record, RecordKey, Store, Tenant, UserRecord};
use sluice_gateway_access::ASSERTION_HEADER;
use sluice_node_identity::{NodeId, TenantId};

use super::{Expected, PagesState, assertion, look};

/// The gateway at the other end of the connection; the listener puts it into each request's extensions after it
/// verified the certificate against the node root and the identity store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayPeer {
    /// Whose gateway.
    pub tenant: TenantId,
    /// Which.
    pub id: NodeId,
}

/// The user, and what pages need to know of the tenant.
#[derive(Clone, Debug)]
pub(crate) struct Visitor {
    pub(crate) user: UserRecord,
    pub(crate) feed_host: String,
}

/// Lets only believed users through, as [`Visitor`].
pub(super) async fn require(State(state): State<PagesState>, mut request: Request, next: Next) -> Response {
    let claimed = claimed(&request);
    let visitor = match claimed {
        Ok((peer, token)) => visitor(&state, &peer, &token).await,
        Err(reason) => Err(reason.to_owned()),
    };
    match visitor {
        Ok(visitor) => {
            request.extensions_mut().insert(visitor);
            next.run(request).await
        }
        Err(refusal) => {
            tracing::warn!(reason = %refusal, "a request for users' pages was refused");
            look::sorry(StatusCode::FORBIDDEN, "Please sign in again", SORRY).into_response()
        }
    }
}

const SORRY: &str = "This page could not tell who you are. Open it again from your company's sign-in page; if that does \
                     not help, tell your administrator the time of day.";

fn claimed(request: &Request) -> Result<(GatewayPeer, String), &'static str> {
    let peer = request.extensions().get::<GatewayPeer>().ok_or("no gateway certificate")?;
    let mut headers = request.headers().get_all(ASSERTION_HEADER).iter();
    let (Some(token), None) = (headers.next(), headers.next()) else {
        return Err("not exactly one assertion");
    };
    let token = token.to_str().map_err(|_| "assertion is not text")?;
    Ok((peer.clone(), token.to_owned()))
}

async fn visitor(state: &PagesState, peer: &GatewayPeer, token: &str) -> Result<Visitor, String> {
    let tenant: Tenant = one(&*state.store, PLATFORM, peer.tenant.as_str()).await?;
    let gateway: GatewayRecord = one(&*state.store, peer.tenant.as_str(), peer.id.as_str()).await?;
    let now = (state.clock)();
    let expected = Expected { tenant: &peer.tenant, login_host: &tenant.login_host, key: &gateway.keys.assertion };
    let claims = assertion::verify(token, &expected, now).map_err(|refused| refused.to_string())?;
    {
        let mut spent = state.spent.lock().map_err(|_| "the memory of assertions is broken")?;
        spent.spend(&peer.id, &claims, now).map_err(|refused| refused.to_string())?;
    }
    let user: UserRecord = one(&*state.store, peer.tenant.as_str(), claims.sub.as_str()).await?;
    if user.disabled {
        return Err("the account is disabled".to_owned());
    }
    Ok(Visitor { user, feed_host: tenant.feed_host })
}

async fn one<R: Record>(store: &dyn Store, tenant: &str, id: &str) -> Result<R, String> {
    let key = RecordKey { kind: R::KIND, tenant: tenant.to_owned(), id: id.to_owned() };
    let found = store.load(Load::Keys(vec![key])).await.map_err(|error| error.to_string())?;
    let stored = found.into_iter().next().ok_or_else(|| format!("there is no such {}", R::KIND.as_str()))?;
    Ok(stored.typed::<R>().map_err(|error| error.to_string())?.body)
}
