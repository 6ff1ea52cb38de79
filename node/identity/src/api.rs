//! Bodies of the node API (`/node/v1/…`, JSON over mTLS; only `join` and `rejoin` come without a client certificate).

use serde::{Deserialize, Serialize};

use crate::{HubId, NodeId, Role, SiteId, TenantId, TrustDomain, UnixTime, UserId};

/// `POST /node/v1/nonce` → this. Good for one join or re-join, 60 s.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nonce {
    /// base64url, 32 bytes.
    pub nonce: String,
}

/// `POST /node/v1/join`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinRequest {
    /// The code's secret ([`crate::JoinSecret::to_text`]).
    pub secret: String,
    /// What the node is; a code is good for one role.
    pub role: Role,
    /// PKCS#10, PEM. Its subject and names are ignored; control decides them.
    pub csr: String,
    /// From `POST /node/v1/nonce`.
    pub nonce: String,
    /// base64url signature by the CSR's key over [`crate::proof_message`]:
    /// P-256: ECDSA/SHA-256 in ASN.1; RSA: PKCS#1 v1.5/SHA-256.
    pub proof: String,
}

/// Without the secret: whoever reads a log must not be able to join.
impl std::fmt::Debug for JoinRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinRequest").field("role", &self.role).field("csr", &self.csr).finish_non_exhaustive()
    }
}

/// `POST /node/v1/rejoin`: a node that slept past its certificate proves its bound key.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RejoinRequest {
    /// Who it says it is.
    pub tenant: TenantId,
    /// Who it says it is.
    pub id: NodeId,
    /// PKCS#10, PEM, with the bound key.
    pub csr: String,
    /// From `POST /node/v1/nonce`.
    pub nonce: String,
    /// As in [`JoinRequest::proof`].
    pub proof: String,
}

/// Answer to `join` and `rejoin`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Joined {
    /// Authority of all names.
    pub trust_domain: TrustDomain,
    /// Whose node it now is.
    pub tenant: TenantId,
    /// Where it stands.
    pub site: SiteId,
    /// What it does.
    pub role: Role,
    /// Its name.
    pub id: NodeId,
    /// Leaf first, PEM.
    pub chain: String,
    /// Root of all nodes, PEM. Its key must match the join code's pin.
    pub root: String,
    /// RFC 7638 thumbprint of the tenant's present policy key. Nodes keep the join code's, which leads to it.
    pub policy_thumbprint: String,
}

/// `POST /node/v1/renew`, with the current key's certificate.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenewRequest {
    /// PKCS#10, PEM, with a new key.
    pub csr: String,
}

/// A chain: answer to `renew` and to `hub-facing`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chain {
    /// Leaf first, PEM.
    pub chain: String,
}

/// `POST /node/v1/hub-facing` (edge only): a server certificate from the tenant's hub root, so that hubs can
/// trust the edge's check-in door. Answer: [`Chain`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HubFacingRequest {
    /// PKCS#10, PEM.
    pub csr: String,
}

/// `POST /node/v1/keys` (gateway only): the public keys by which others will know this gateway. Answer: 204.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayKeys {
    /// Ed25519 JWK: signs stream tokens for direct streams.
    pub caller: serde_json::Value,
    /// P-256 JWK: signs `Sluice-Identity`.
    pub assertion: serde_json::Value,
}

/// `POST /node/v1/tunnels` (gateway only): the tunnels it holds now, whole list each time. Answer: 204.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LiveTunnels {
    /// At most one per connector and connection.
    pub tunnels: Vec<LiveTunnel>,
}

/// One tunnel session.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LiveTunnel {
    /// Whose tunnel.
    pub connector: NodeId,
    /// The agent's 128-bit session nonce, base64url.
    pub sid: String,
}

/// `POST /node/v1/factors/verify` (gateway only): checks a stored login secret.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifyFactor {
    /// What the user typed as name.
    pub login: String,
    /// What the user typed as password.
    pub password: String,
    /// Address of the browser, for rate limits and audit.
    pub client: std::net::IpAddr,
}

/// Right password. (Wrong: 401. Too many tries: 429 with `Retry-After`. Neither says whether the user exists.)
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifiedUser {
    /// Account.
    pub user: UserId,
    /// Proved mail address.
    pub email: String,
    /// What to call the person.
    pub display_name: String,
    /// Groups, sorted.
    pub groups: Vec<String>,
}

/// `POST /node/v1/checkins` (edge only): what the edge has just seen. Answer: 204.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckIns {
    /// At most 256 a call.
    pub seen: Vec<CheckIn>,
}

/// One hub at one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckIn {
    /// Who.
    pub hub: HubId,
    /// `aa:bb:cc:dd:ee:ff`.
    pub mac: String,
    /// Address it came from.
    pub address: std::net::IpAddr,
    /// When the edge saw it.
    pub at: UnixTime,
}

/// `POST /node/v1/refusals`: the node could not apply a document; shown in the console. Answer: 204.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    /// Which version.
    pub version: u64,
    /// What was wrong with it; empty when it is used now after all.
    pub reason: String,
}

/// `hub/<id>` in the state feed of the hub's site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HubStanding {
    /// Only an enrolled hub may leave staging.
    pub enrolled: bool,
    /// Fingerprints of the SubjectPublicKeyInfos its certificates may carry.
    pub keys: Vec<crate::Fingerprint>,
}

/// Every refusal of the node, EST-adjacent and admin APIs: `{"error":{…}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErrorBody {
    /// The refusal.
    pub error: ErrorDetail,
}

/// What was wrong and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErrorDetail {
    /// Stable, snake_case.
    pub code: String,
    /// For people.
    pub message: String,
}
