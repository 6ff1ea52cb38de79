//! Who signs what connectors may do: the policy key's holder, and the lists that wait for a customer who holds it.

use axum::{Json, extract::State};
use serde_json::json;
use sluice_connector_wire::{SignedAllowList, adopts, list_changes, succeeds, thumbprint};
use sluice_control_domain::{
    ChangeSet, Commit, NodeRecord, PLATFORM, Tenant, Typed,
    compile::{self, Content, DocumentRecord, Fleet},
    policy::{self, PolicyHolding, ProposalRecord, list_in},
};
use sluice_node_identity::{NodeId, Role, TenantId, UnixTime};

use super::{
    AdminState, ApiError, Caller, Rights,
    extract::{Body, Path},
    model::{AdoptPolicyKey, ListView, PendingList, PendingLists, PolicyView, PutSignedList},
    state::TRIES,
};
use crate::fleet;

/// A list that ends within so many seconds ends soon.
const SOON: u64 = 2 * 24 * 3600;
/// Most policy keys of one tenant, one after the other: what connectors follow.
const MAX_REPLACED: usize = sluice_connector_wire::MAX_SUCCESSION;

/// Who holds the policy key, and how the connectors' lists stand.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/policy", tag = "policy", params(("tenant" = String, Path)),
    responses((status = 200, body = PolicyView)), security(("token" = [])))]
pub(super) async fn show(
    State(state): State<AdminState>,
    caller: Caller,
    Path(tenant): Path<TenantId>,
) -> Result<Json<PolicyView>, ApiError> {
    Ok(Json(look(&state, &caller, &tenant).await?))
}

/// What [`show`] gives; the console's page shows the same.
pub(crate) async fn look(state: &AdminState, caller: &Caller, tenant: &TenantId) -> Result<PolicyView, ApiError> {
    caller.may_touch(tenant)?;
    let fleet = loaded(state, tenant).await?;
    let (holder, now) = (&fleet.tenant, state.now());
    let mut lists = Vec::new();
    for node in connectors(&fleet) {
        let document = state.find::<DocumentRecord>(tenant.as_str(), node.id.as_str()).await?;
        let waits = holder.policy.customer && {
            let content = content(state, &fleet, node, now);
            policy::propose(holder, node, document.as_ref().map(|found| &found.body), None, &content, now).is_some()
        };
        let list = document.and_then(|found| list_in(&found.body)?.unverified());
        let view = list_view(&node.id, list.map(|list| (list.version, list.not_after)), waits, now);
        lists.push(refused(view, node));
    }
    Ok(PolicyView {
        held_by: if holder.policy.customer { "customer" } else { "control" }.to_owned(),
        thumbprint: state.authority.thumbprint(&holder.policy_key).map_err(ApiError::internal)?,
        policy_key: holder.policy_key.clone(),
        replaced: holder.policy.succession.len(),
        succession: holder.policy.succession.clone(),
        lists,
    })
}

fn list_view(connector: &NodeId, list: Option<(u64, UnixTime)>, waits: bool, now: UnixTime) -> ListView {
    let (state, mut words) = match list {
        None => ("none", "has no list: nothing is opened".to_owned()),
        Some((_, end)) if end < now => ("ended", format!("ended {} ago: no new streams", span(now.since(end)))),
        Some((_, end)) if end.since(now) < SOON => {
            ("soon", format!("ends in {}: no new streams from then on", span(end.since(now))))
        }
        Some((_, end)) => ("good", format!("good for {}", span(end.since(now)))),
    };
    if waits {
        words.push_str("; a newer one waits for your signature (sluice admin policy sign)");
    }
    let (version, not_after) = list.unzip();
    ListView { connector: connector.clone(), state: state.to_owned(), version, not_after, waits, words }
}

/// The connector's own word goes before what control has for it.
fn refused(view: ListView, node: &NodeRecord) -> ListView {
    let Some((_, reason)) = &node.refused else { return view };
    let words = format!(
        "refused by the connector, which goes by an older list until that ends: {reason}; what control has for it {}",
        view.words
    );
    ListView { state: "refused".to_owned(), words, ..view }
}

fn span(seconds: u64) -> String {
    match seconds / 3600 {
        0 => format!("{} min", seconds / 60),
        hours @ 1..48 => format!("{hours} h"),
        hours => format!("{} d {} h", hours / 24, hours % 24),
    }
}

async fn loaded(state: &AdminState, tenant: &TenantId) -> Result<Fleet, ApiError> {
    state.one::<Tenant>(PLATFORM, tenant.as_str()).await?;
    fleet::load(state.store.as_ref(), tenant).await.map_err(|error| ApiError::internal(format!("{error:#}")))
}

fn connectors(fleet: &Fleet) -> impl Iterator<Item = &NodeRecord> {
    let living = |node: &&NodeRecord| node.binding.as_ref().is_some_and(|binding| binding.lock.is_none());
    fleet.nodes.iter().filter(|node| node.role == Role::Connector).filter(living)
}

fn content(state: &AdminState, fleet: &Fleet, node: &NodeRecord, now: UnixTime) -> Content {
    compile::connector(fleet, node, &state.authority.caller_jwk(), now)
}

/// Hand the policy key to the customer, or from one key of his to the next. Control cannot sign from then on.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/policy/adopt", tag = "policy", params(("tenant" = String, Path)),
    request_body = AdoptPolicyKey, responses((status = 200, body = PolicyView)), security(("token" = [])))]
pub(super) async fn adopt(
    State(state): State<AdminState>,
    caller: Caller,
    Path(tenant): Path<TenantId>,
    Body(request): Body<AdoptPolicyKey>,
) -> Result<Json<PolicyView>, ApiError> {
    caller.may_touch(&tenant)?;
    if caller.rights != Rights::FullAdministrator {
        return Err(ApiError::forbidden("this takes a full administrator's token"));
    }
    state.one::<Tenant>(PLATFORM, tenant.as_str()).await?;
    let AdoptPolicyKey { policy_key: new, proof, succession } = request;
    if !adopts(&proof, &tenant, &new) {
        return Err(ApiError::invalid("the proof is not one by this key for this tenant; keys are P-256"));
    }
    let now = state.now();
    state
        .change::<Tenant, ()>(PLATFORM, tenant.as_str(), |loaded| {
            let before = &loaded.body;
            let same = thumbprint(&before.policy_key) == thumbprint(&new);
            if same && before.policy.customer {
                // Asked again: the answer may have been lost before the old key was removed.
                return Ok((ChangeSet::of(&tenant), ()));
            }
            if same || before.policy.succession.len() >= MAX_REPLACED {
                let message = format!("a policy key is replaced by another one, at most {MAX_REPLACED} times");
                return Err(ApiError::invalid(message));
            }
            let step = match (&succession, before.policy.customer) {
                (Some(step), _) => step.clone(),
                (None, false) => state.authority.sign_succession(&tenant, &new).map_err(|error| lost(&error))?,
                (None, true) => {
                    let message = "the customer holds the present key: sign the new one with it (--old-key)";
                    return Err(ApiError::invalid(message));
                }
            };
            if !succeeds(&step, &before.policy_key, &new) {
                return Err(ApiError::invalid(
                    "the succession does not lead from the present policy key to the new one",
                ));
            }
            let detail = json!({ "from": thumbprint(&before.policy_key).ok(), "to": thumbprint(&new).ok() });
            let audit = caller.did(now, "policy.adopt", format!("tenant/{tenant}"), detail);
            let succession = before.policy.succession.iter().cloned().chain([step]).collect();
            let policy = PolicyHolding { customer: true, succession };
            let after = Tenant { policy_key: new.clone(), policy, ..before.clone() };
            Ok((ChangeSet::of(&tenant).update(loaded, &after).audit(audit), ()))
        })
        .await?;
    state.authority.forget_policy_key(&tenant).map_err(|error| {
        ApiError::internal(format!("the former policy key could not be removed; adopt again: {error}"))
    })?;
    Ok(Json(look(&state, &caller, &tenant).await?))
}

/// Control should hold the key, and does not.
fn lost(error: &str) -> ApiError {
    tracing::error!(%error, "the present policy key cannot sign its successor");
    ApiError::invalid(
        "control cannot sign with the present policy key. If it was restored from a backup made before you took the \
         key, adopt with --succession and the file KEYFILE.succession that adopt wrote then; otherwise look into \
         control's log",
    )
}

/// Lists that wait for the customer's signature, with what they change.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/policy/pending", tag = "policy",
    params(("tenant" = String, Path)),
    responses((status = 200, body = PendingLists)), security(("token" = [])))]
pub(super) async fn pending(
    State(state): State<AdminState>,
    caller: Caller,
    Path(tenant): Path<TenantId>,
) -> Result<Json<PendingLists>, ApiError> {
    caller.may_touch(&tenant)?;
    let fleet = loaded(&state, &tenant).await?;
    if !fleet.tenant.policy.customer {
        return Ok(Json(PendingLists { items: Vec::new() }));
    }
    let mut items = Vec::new();
    for node in connectors(&fleet) {
        let document = state.find::<DocumentRecord>(tenant.as_str(), node.id.as_str()).await?;
        let signed = document.as_ref().and_then(|found| list_in(&found.body));
        let document = document.map(|found| found.body);
        let Some(proposal) = proposed(&state, &fleet, node, document.as_ref()).await? else { continue };
        let list = proposal.list().ok_or_else(|| ApiError::internal("a proposal cannot be read"))?;
        items.push(PendingList {
            connector: node.id.clone(),
            digest: proposal.digest().to_string(),
            not_after: list.not_after,
            changes: list_changes(signed.as_ref().and_then(SignedAllowList::unverified).as_ref(), &list),
            payload: proposal.payload,
            signed,
        });
    }
    Ok(Json(PendingLists { items }))
}

/// What waits for `node`, stored.
async fn proposed(
    state: &AdminState,
    fleet: &Fleet,
    node: &NodeRecord,
    document: Option<&DocumentRecord>,
) -> Result<Option<ProposalRecord>, ApiError> {
    let now = state.now();
    let content = content(state, fleet, node, now);
    for _ in 0..TRIES {
        let before = state.find::<ProposalRecord>(node.tenant.as_str(), node.id.as_str()).await?;
        let proposed = policy::propose(&fleet.tenant, node, document, before.as_ref(), &content, now);
        let Some((set, proposal)) = proposed else { return Ok(None) };
        let Some(set) = set else { return Ok(Some(proposal)) };
        if state.store.commit(set).await? == Commit::Done {
            return Ok(Some(proposal));
        }
    }
    Err(ApiError::conflict())
}

/// Give a connector the list that the customer has signed. It must be, byte for byte, the one that waits.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/policy/lists/{connector}", tag = "policy",
    params(("tenant" = String, Path), ("connector" = String, Path)), request_body = PutSignedList,
    responses((status = 200, body = ListView), (status = 409, description = "not the list that waits")),
    security(("token" = [])))]
pub(super) async fn sign(
    State(state): State<AdminState>,
    caller: Caller,
    Path((tenant, connector)): Path<(TenantId, NodeId)>,
    Body(request): Body<PutSignedList>,
) -> Result<Json<ListView>, ApiError> {
    caller.may_touch(&tenant)?;
    for _ in 0..TRIES {
        let now = state.now();
        let fleet = loaded(&state, &tenant).await?;
        let node = state.one::<NodeRecord>(tenant.as_str(), connector.as_str()).await?;
        let proposal = state.find::<ProposalRecord>(tenant.as_str(), connector.as_str()).await?;
        let proposal: Typed<ProposalRecord> = proposal
            .filter(|_| fleet.tenant.policy.customer && connectors(&fleet).any(|living| living.id == connector))
            .ok_or_else(|| ApiError::not_taken(&policy::NotTaken::Other))?;
        let document = state.find::<DocumentRecord>(tenant.as_str(), connector.as_str()).await?;
        let content = content(&state, &fleet, &node.body, now);
        let digest = proposal.body.digest();
        let jws = request.jws.clone();
        let (set, list) = policy::accept(&fleet.tenant, &node, document.as_ref(), &proposal, &content, jws, now)
            .map_err(|error| ApiError::not_taken(&error))?;
        let detail = json!({ "digest": digest, "version": list.version, "not_after": list.not_after });
        let audit = caller.did(now, "policy.sign", format!("node/{connector}"), detail);
        if state.store.commit(set.audit(audit)).await? == Commit::Done {
            return Ok(Json(list_view(&connector, Some((list.version, list.not_after)), false, now)));
        }
    }
    Err(ApiError::conflict())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn c5_a_list_that_ends_soon_says_so_in_words() {
        let (connector, now) = ("dc-1".parse().unwrap(), UnixTime(1_800_000_000));
        let view = |left: Option<i64>, waits| {
            let list = left.map(|left| (7, UnixTime(now.0.saturating_add_signed(left))));
            let view = list_view(&connector, list, waits, now);
            (view.state, view.words)
        };
        assert_eq!(view(Some(5 * 86_400 + 7_200), false), ("good".into(), "good for 5 d 2 h".into()));
        let (state, words) = view(Some(90_000), true);
        assert!(state == "soon" && words.starts_with("ends in 25 h") && words.contains("policy sign"), "{words}");
        assert_eq!(view(Some(-120), false).1, "ended 2 min ago: no new streams");
        assert_eq!(view(None, true).0, "none");
    }
}
