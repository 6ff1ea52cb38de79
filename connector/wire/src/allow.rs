//! The signed allow-list: which caller may ask a connector for which target.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sluice_node_identity::{NodeId, TenantId, UnixTime};

use crate::{
    AllowRule, MAX_LIST_BYTES,
    jws::{TYP_ALLOW_LIST, payload},
};

/// The list as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedAllowList {
    /// Compact JWS (ES256) over the JSON of [`AllowList`].
    pub jws: String,
    /// Public JWK of the policy key that signed it. Believed only when its RFC 7638 thumbprint is the one that
    /// came with the join code, or when `succession` leads from that one to it.
    pub policy_key: Value,
    /// Compact JWS's, oldest first: each is a policy key's JWK signed by its predecessor.
    pub succession: Vec<String>,
}

impl SignedAllowList {
    /// The bytes that were signed, unverified.
    #[must_use]
    pub fn payload(&self) -> Option<Vec<u8>> {
        payload(&self.jws, MAX_LIST_BYTES, TYP_ALLOW_LIST)
    }

    /// What it says, unverified: for showing. Only [`crate::AllowListKeeper`] believes anything.
    #[must_use]
    pub fn unverified(&self) -> Option<AllowList> {
        serde_json::from_slice(&self.payload()?).ok()
    }
}

/// Claims of [`SignedAllowList::jws`]. Order is (epoch, version) and never goes back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AllowList {
    /// Whose list.
    pub tenant: TenantId,
    /// For which connector.
    pub connector: NodeId,
    /// Raised when control is restored from a backup.
    pub epoch: u64,
    /// Raised with every change and every re-signing.
    pub version: u64,
    /// At most 7 days ahead; afterwards no new streams.
    pub not_after: UnixTime,
    /// Who may sign stream tokens.
    pub callers: Vec<Caller>,
    /// What may be dialled; nothing else may.
    pub rules: Vec<AllowRule>,
}

/// One signer of stream tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Caller {
    /// `control` or the gateway's node id: the token's `iss`.
    pub id: String,
    /// Which kind of stream it may open.
    pub kind: CallerKind,
    /// The token's `kid`.
    pub kid: String,
    /// The one algorithm its tokens may use: `PS256` or `EdDSA`.
    pub alg: String,
    /// Public key.
    pub jwk: Value,
}

/// What a caller is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CallerKind {
    /// Opens direct streams only.
    Gateway,
    /// Opens sealed streams only.
    Control,
}
