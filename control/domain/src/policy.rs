//! Who holds a tenant's policy key, and the lists that wait for a customer who holds it himself.
//!
//! Then control only proposes: it writes the exact bytes of a list, the customer signs them or does not, and connectors
//! go by the list that was signed last. Its life of seven days is the customer's too.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sluice_connector_wire::{
    AllowList, AllowListKeeper, AllowRule, Caller, ConnectorDocument, GatewayEndpoint, SignError, SignedAllowList,
    thumbprint,
};
use sluice_node_identity::{ConfigEnvelope, Fingerprint, NodeId, Role, TenantId, UnixTime};
use thiserror::Error;

use crate::{
    ChangeSet, Kind, NodeRecord, Record, Tenant, Typed,
    compile::{ALLOW_LIST_SECONDS, Content, DocumentRecord},
};

/// Seconds a proposal stays as it is: whoever reads it can sign what he read, and its list is still good for days.
pub const PROPOSAL_SECONDS: u64 = 3600;

/// Who holds the policy key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyHolding {
    /// The customer holds it; control cannot sign.
    pub customer: bool,
    /// See [`SignedAllowList::succession`].
    pub succession: Vec<String>,
}

/// A list that waits for the customer's signature.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProposalRecord {
    /// Whose.
    pub tenant: TenantId,
    /// For which connector.
    pub node: NodeId,
    /// The exact text to be signed: JSON of an [`AllowList`].
    pub payload: String,
    /// When it was written.
    pub made: UnixTime,
}

impl Record for ProposalRecord {
    const KIND: Kind = Kind::Proposal;

    fn tenant(&self) -> &str {
        self.tenant.as_str()
    }

    fn id(&self) -> &str {
        self.node.as_str()
    }
}

impl ProposalRecord {
    /// What it proposes.
    #[must_use]
    pub fn list(&self) -> Option<AllowList> {
        serde_json::from_str(&self.payload).ok()
    }

    /// SHA-256 of the text, by which people can compare what they were shown.
    #[must_use]
    pub fn digest(&self) -> Fingerprint {
        Fingerprint::of(self.payload.as_bytes())
    }
}

/// Why a signed list was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NotTaken {
    /// Not what control wrote, or no longer what it would write.
    #[error("this is not the list that waits now; fetch it anew (sluice admin policy pending) and sign that one")]
    Other,
    /// No agent would take it either.
    #[error("connectors would refuse it: {0}")]
    Refused(#[from] sluice_connector_wire::ListRefused),
    /// The document cannot be written.
    #[error(transparent)]
    Failed(#[from] SignError),
}

/// What a connector's list should say, apart from numbers and times.
struct Wanted<'a> {
    epoch: u64,
    callers: &'a [Caller],
    rules: &'a [AllowRule],
    gateways: &'a [GatewayEndpoint],
}

impl<'a> Wanted<'a> {
    fn of(content: &'a Content) -> Option<Self> {
        let Content::Connector { gateways, epoch, callers, rules, .. } = content else { return None };
        Some(Self { epoch: *epoch, callers, rules, gateways })
    }

    fn is(&self, list: &AllowList) -> bool {
        list.epoch == self.epoch && list.callers == self.callers && list.rules == self.rules
    }
}

/// The list that a connector's document holds.
#[must_use]
pub fn list_in(document: &DocumentRecord) -> Option<SignedAllowList> {
    let document: ConnectorDocument = serde_json::from_value(document.envelope.document.clone()).ok()?;
    Some(document.allow_list)
}

/// The list that should be signed for a connector, with the change that stores it; `None` when the one it has says
/// what it should, was signed with the present key, and is good for half its life yet.
#[must_use]
pub fn propose(
    tenant: &Tenant,
    node: &NodeRecord,
    document: Option<&DocumentRecord>,
    before: Option<&Typed<ProposalRecord>>,
    content: &Content,
    now: UnixTime,
) -> Option<(Option<ChangeSet>, ProposalRecord)> {
    let wanted = Wanted::of(content)?;
    let signed = document.and_then(list_in);
    let has = signed.as_ref().and_then(SignedAllowList::unverified);
    let stands = has.as_ref().zip(signed.as_ref()).is_some_and(|(list, signed)| {
        wanted.is(list)
            && thumbprint(&signed.policy_key) == thumbprint(&tenant.policy_key)
            && list.not_after.since(now) > ALLOW_LIST_SECONDS / 2
    });
    if stands {
        return None;
    }
    let last = has.as_ref().map_or(0, |list| list.version);
    let waiting = before.and_then(|before| before.body.list());
    if let (Some(before), Some(list)) = (before, &waiting)
        && wanted.is(list)
        && list.version > last
        && now.since(before.body.made) < PROPOSAL_SECONDS
        && before.body.made <= now
    {
        return Some((None, before.body.clone()));
    }
    let last = last.max(waiting.map_or(0, |list| list.version));
    let list = AllowList {
        tenant: node.tenant.clone(),
        connector: node.id.clone(),
        epoch: wanted.epoch,
        version: last.saturating_add(1).max(now.0),
        not_after: now.plus(ALLOW_LIST_SECONDS),
        callers: wanted.callers.to_vec(),
        rules: wanted.rules.to_vec(),
    };
    let made = ProposalRecord {
        tenant: node.tenant.clone(),
        node: node.id.clone(),
        payload: serde_json::to_string(&list).ok()?,
        made: now,
    };
    let set = ChangeSet::of(&node.tenant);
    let set = match before {
        Some(before) => set.update(before, &made),
        None => set.create(&made),
    };
    Some((Some(set), made))
}

/// Takes the customer's signature under what was proposed: the connector's next document.
///
/// # Errors
/// [`NotTaken`].
pub fn accept(
    tenant: &Tenant,
    node: &Typed<NodeRecord>,
    document: Option<&Typed<DocumentRecord>>,
    proposal: &Typed<ProposalRecord>,
    content: &Content,
    jws: String,
    now: UnixTime,
) -> Result<(ChangeSet, AllowList), NotTaken> {
    let signed =
        SignedAllowList { jws, policy_key: tenant.policy_key.clone(), succession: tenant.policy.succession.clone() };
    let wanted = Wanted::of(content).ok_or(NotTaken::Other)?;
    let list = proposal.body.list().filter(|list| wanted.is(list)).ok_or(NotTaken::Other)?;
    if signed.payload().as_deref() != Some(proposal.body.payload.as_bytes()) {
        return Err(NotTaken::Other);
    }
    // Judged as a connector will that begins with this key.
    let anchor = thumbprint(&tenant.policy_key).map_err(|_| NotTaken::Other)?;
    AllowListKeeper::new(tenant.id.clone(), node.body.id.clone(), anchor, None).offer(&signed, now)?;
    let before = document.map_or(0, |document| document.body.envelope.version);
    let version = before.saturating_add(1).max(list.version);
    let made = written(&node.body, wanted.gateways, signed, content.fingerprint(), version, now)?;
    let after = NodeRecord { config: Some((version, made.content.clone())), refused: None, ..node.body.clone() };
    let set = ChangeSet::of(&tenant.id).update(node, &after).delete(proposal);
    let set = match document {
        Some(document) => set.update(document, &made),
        None => set.create(&made),
    };
    Ok((set, list))
}

/// A connector's next document while the customer holds the key: the list that was signed last with the present
/// gateways. `None` when the one `before` still stands, or nothing was signed yet.
pub(crate) fn follow(
    node: &NodeRecord,
    before: Option<&Typed<DocumentRecord>>,
    content: &Content,
    seen: u64,
    now: UnixTime,
) -> Result<Option<DocumentRecord>, SignError> {
    let (Some(wanted), Some(before)) = (Wanted::of(content), before) else { return Ok(None) };
    let document: ConnectorDocument =
        serde_json::from_value(before.body.envelope.document.clone()).map_err(|_| SignError::Failed)?;
    let old = before.body.envelope.version;
    if document.gateways == wanted.gateways && seen <= old {
        return Ok(None);
    }
    let version = old.max(seen).saturating_add(1).max(now.0);
    written(node, wanted.gateways, document.allow_list, content.fingerprint(), version, now).map(Some)
}

fn written(
    node: &NodeRecord,
    gateways: &[GatewayEndpoint],
    allow_list: SignedAllowList,
    content: Fingerprint,
    version: u64,
    now: UnixTime,
) -> Result<DocumentRecord, SignError> {
    let document: Value = serde_json::to_value(ConnectorDocument { gateways: gateways.to_vec(), allow_list })
        .map_err(|_| SignError::Failed)?;
    let envelope = ConfigEnvelope { version, schema: sluice_connector_wire::SCHEMA, role: Role::Connector, document };
    Ok(DocumentRecord { tenant: node.tenant.clone(), node: node.id.clone(), content, made: now, envelope })
}
